package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// A cut is a request whose answer was never heard: it may have taken effect at
// any time since it was sent, or never.

// keyTry is a write with one Idempotency-Key under unknown_outcome: conflict.
type keyTry struct{ key string }

// keySeen is what a try was told.
type keySeen struct {
	kind      string // "executed" (201), "unknown" (409 idempotency_outcome_unknown) or "cut"
	execution string // body of a 201: which execution it was
}

type keyState struct {
	phase     string // "" free, "done", "lost"
	execution string // of done; "" until somebody has seen which it was
}

// keyModel is the register that one key must look like: the first try executes;
// from then on every try gets that answer, or, once the answer is known to be
// lost, the word that it is lost. No try is told that before another was cut off.
func keyModel() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: partition(func(op porcupine.Operation) string { return op.Input.(keyTry).key }),
		Init:      func() []any { return []any{keyState{}} },
		Step: func(state, _, output any) []any {
			s, seen := state.(keyState), output.(keySeen)
			switch seen.kind {
			case "executed":
				if s.phase == "" || s.phase == "done" && (s.execution == "" || s.execution == seen.execution) {
					return []any{keyState{"done", seen.execution}}
				}
			case "unknown":
				if s.phase == "lost" {
					return []any{s}
				}
			case "cut":
				if s.phase == "" {
					return []any{s, keyState{"done", ""}, keyState{"lost", ""}}
				}
				return []any{s}
			}
			return nil
		},
	}
	return m.ToModel()
}

// present is a refresh token that is shown: the number in it.
type present struct {
	session string
	number  int64
}

// presented is what the holder was told.
type presented struct {
	kind string // "granted", "refused" or "cut"
	next int64  // number of the granted token
	why  string // Refresh-Replay when granted, reason when refused
}

type lineState struct {
	current, previous int64
	recoveries        int
	ended             bool
}

const maxRecoveries = 5 // lost answers in a row that are believed

// lineModel is the refresh machine, rules R1 and R3 to R8, without its clock:
// whether a repeat counts as concurrent or as a lost answer is taken from what
// the answer says; that the state fits is what is checked.
func lineModel() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: partition(func(op porcupine.Operation) string { return op.Input.(present).session }),
		Init:      func() []any { return []any{lineState{current: 1}} },
		Step: func(state, input, output any) []any {
			s, n, seen := state.(lineState), input.(present).number, output.(presented)
			if seen.kind != "cut" {
				if next, ok := s.told(n, seen); ok {
					return []any{next}
				}
				return nil
			}
			return append(s.effects(n), s)
		},
	}
	return m.ToModel()
}

func (s lineState) rotated() lineState {
	return lineState{current: s.current + 1, previous: s.current}
}

func (s lineState) recovered() lineState {
	return lineState{current: s.current + 1, previous: s.previous, recoveries: s.recoveries + 1}
}

func (s lineState) over() lineState {
	s.ended = true
	return s
}

// older reports whether n is one that was replaced, and not the one just before.
func (s lineState) older(n int64) bool { return n < s.current && n != s.previous }

// told is the state after an answer that was heard; false when s allows no such answer.
func (s lineState) told(n int64, seen presented) (lineState, bool) {
	if s.ended {
		return s, seen.kind == "refused" && (seen.why == "session_revoked" || seen.why == "refresh_token_reused")
	}
	switch seen.kind + " " + seen.why {
	case "granted ":
		return s.rotated(), n == s.current && seen.next == s.current+1
	case "granted concurrent":
		return s, n == s.previous && seen.next == s.current
	case "granted lost-response":
		return s.recovered(), n == s.previous && s.recoveries < maxRecoveries && seen.next == s.current+1
	case "refused stale_duplicate":
		return s, s.older(n)
	case "refused refresh_token_reused":
		return s.over(), s.older(n) || n == s.previous && s.recoveries >= maxRecoveries
	}
	return s, false
}

// effects are the states that presenting n unheard may have led to.
func (s lineState) effects(n int64) []any {
	switch {
	case s.ended:
	case n == s.current:
		return []any{s.rotated()}
	case n == s.previous && s.recoveries < maxRecoveries:
		return []any{s.recovered()}
	case s.older(n) || n == s.previous:
		return []any{s.over()}
	}
	return nil
}

func partition(by func(porcupine.Operation) string) func([]porcupine.Operation) [][]porcupine.Operation {
	return func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range history {
			parts[by(op)] = append(parts[by(op)], op)
		}
		var all [][]porcupine.Operation
		for _, part := range parts {
			all = append(all, part)
		}
		return all
	}
}

func (k keySeen) String() string { return fmt.Sprint(k.kind, " ", k.execution) }
