package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// linear lets clients race for the same keys and the same refresh tokens while
// the process is killed, and checks that what each was told fits one order of
// events (Herlihy and Wing 1990) in which answers that were never heard may or
// may not have happened.
func linear(ctx context.Context, h *house, r *report) error {
	for _, engine := range []string{"sqlite", "postgres"} {
		if err := linearOn(ctx, h, r, engine); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
	}
	return nil
}

// race is what clients of one round share.
type race struct {
	f       *fleet
	began   time.Time
	keys    []porcupine.Operation
	lines   []porcupine.Operation
	refused map[string]int // why refresh tokens were refused
	granted map[string]int // Refresh-Replay of granted ones
	mu      sync.Mutex
}

func linearOn(ctx context.Context, h *house, r *report, engine string) error {
	l, err := newLedger(20 * time.Millisecond)
	if err != nil {
		return err
	}
	defer l.close()
	v, _, err := newVictim(ctx, h, engine, l.URL, "CHAOS_GRACE=1s")
	if err != nil {
		return err
	}
	s := &race{f: newFleet(func() string { return v.base.Load().(string) }, l, r), began: time.Now(), refused: map[string]int{}, granted: map[string]int{}}
	end := time.Now().Add(pick(h, 90*time.Second, 5*time.Second))
	tormented := make(chan error, 1)
	go func() { tormented <- v.torment(ctx, h.rng("linear "+engine), end) }()
	var teams sync.WaitGroup
	for team := range 3 {
		teams.Go(func() {
			s.rounds(ctx, fmt.Sprintf("linear-%s-%d-%d", engine, h.seed, team), h.rng(fmt.Sprint("team", team)), end)
		})
	}
	teams.Wait()
	if err := <-tormented; err != nil {
		return err
	}
	s.judge(r, engine, v.kills)
	return stop(v.node)
}

// rounds: one session and a few keys a round, raced for by four clients.
func (s *race) rounds(ctx context.Context, name string, rng *rand.Rand, end time.Time) {
	for round := 0; time.Now().Before(end) && ctx.Err() == nil; round++ {
		// The session whose tokens are raced for may end by it; writes are made in another.
		i, writer := s.install(ctx, fmt.Sprintf("%s-round-%04d", name, round)), s.install(ctx, fmt.Sprintf("%s-writer-%04d", name, round))
		if i == nil || writer == nil {
			return
		}
		var clients sync.WaitGroup
		for client := range 4 {
			rng := rand.New(rand.NewPCG(rng.Uint64(), uint64(client)))
			clients.Go(func() { s.play(ctx, i, writer, client, rng) })
		}
		clients.Wait()
	}
}

// install registers one, however often the process is killed meanwhile.
func (s *race) install(ctx context.Context, key string) *installation {
	p, i := &phone{f: s.f}, &installation{key: key}
	if _, err := eventually(ctx, patience, "an installation", func() bool { return p.install(ctx, i) }); err != nil || i.id == "" {
		s.f.report.broken("%s: %v", key, err)
		return nil
	}
	return i
}

// play is one client of a round. It knows the tokens that it was given itself,
// and mostly shows the newest.
func (s *race) play(ctx context.Context, i, writer *installation, client int, rng *rand.Rand) {
	tokens := []string{i.refresh}
	for range 14 {
		if ctx.Err() != nil {
			return
		}
		if rng.IntN(2) == 0 {
			s.try(ctx, writer, client, fmt.Sprint(i.key, "-k", rng.IntN(5)))
			continue
		}
		token := tokens[len(tokens)-1]
		if rng.IntN(8) == 0 {
			token = tokens[rng.IntN(len(tokens))]
		}
		if next := s.show(ctx, client, token); next != "" {
			tokens = append(tokens, next)
		}
		pause := time.Duration(rng.IntN(200)) * time.Millisecond
		if rng.IntN(6) == 0 {
			pause = 1100 * time.Millisecond // so that some repeats come after the grace
		}
		time.Sleep(pause)
	}
}

const never = math.MaxInt64 // when a request that was cut off stops having effects

func (s *race) note(into *[]porcupine.Operation, client int, input, output any, from int64, cut bool) {
	op := porcupine.Operation{ClientId: client, Input: input, Output: output, Call: from, Return: int64(time.Since(s.began))}
	if cut {
		op.Return = never
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	*into = append(*into, op)
}

// try sends a keyed write once.
func (s *race) try(ctx context.Context, i *installation, client int, key string) {
	from := int64(time.Since(s.began))
	a := s.f.call(ctx, http.MethodPost, "/v1/careful/"+key, "{}", jsonType, key, i.access)
	seen := keySeen{kind: "cut"}
	switch {
	case a.status == http.StatusCreated:
		seen = keySeen{"executed", string(a.body)}
	case a.code() == "idempotency_outcome_unknown":
		seen.kind = "unknown"
	case a.code() == "idempotency_in_flight": // says nothing of the outcome
		return
	case a.status != 0 && a.status < 500:
		s.f.unexpected("keyed write", a)
		return
	}
	s.note(&s.keys, client, keyTry{key}, seen, from, seen.kind == "cut")
}

// show presents a refresh token once, and returns the one it got.
func (s *race) show(ctx context.Context, client int, token string) (next string) {
	session, number := splitNumber(token)
	from := int64(time.Since(s.began))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.f.base()+"/oauth/token", strings.NewReader("grant_type=refresh_token&refresh_token="+token))
	if err != nil {
		return ""
	}
	req.GetBody = nil
	req.Header.Set("Content-Type", formType)
	var body struct {
		Refresh string `json:"refresh_token"`
		Error   string
		Reason  string
	}
	seen, status := presented{kind: "cut"}, 0
	if res, err := s.f.client.Do(req); err == nil {
		text, readErr := io.ReadAll(res.Body)
		if errors.Join(readErr, res.Body.Close()) == nil && json.Unmarshal(text, &body) == nil {
			status = res.StatusCode
			seen.why = res.Header.Get("Refresh-Replay")
		}
	}
	switch {
	case status == http.StatusOK:
		_, seen.next = splitNumber(body.Refresh)
		seen.kind = "granted"
	case status == http.StatusBadRequest && body.Error == "invalid_grant":
		seen = presented{kind: "refused", why: body.Reason}
	case status != 0 && status < 500:
		s.f.report.broken("refresh: %d %+v", status, body)
		s.f.bad.Add(1)
		return ""
	}
	s.note(&s.lines, client, present{session, number}, seen, from, seen.kind == "cut")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch seen.kind {
	case "granted":
		s.granted[seen.why]++
	case "refused":
		s.refused[seen.why]++
	}
	return body.Refresh
}

// splitNumber reads v1.<session>.<number>.<mac>.
func splitNumber(token string) (session string, n int64) {
	parts := strings.Split(token, ".")
	if len(parts) != 4 {
		return token, -1
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return token, -1
	}
	return parts[1], n
}

// judge checks both histories and tells what was in them.
func (s *race) judge(r *report, engine string, kills int) {
	suffix := ", " + engine
	r.atLeast("kills"+suffix, kills, 1)
	allCut := 0
	for name, c := range map[string]struct {
		model   porcupine.Model
		history []porcupine.Operation
	}{"keys": {keyModel(), s.keys}, "refresh tokens": {lineModel(), s.lines}} {
		cut, bad, open := 0, 0, 0
		parts := c.model.Partition(c.history)
		for _, op := range c.history {
			if op.Return == never {
				cut++
			}
		}
		for _, part := range parts {
			switch result, _ := porcupine.CheckOperationsVerbose(c.model, part, 20*time.Second); result {
			case porcupine.Illegal:
				bad++
				s.f.report.broken("not linearizable: %s", describe(part))
			case porcupine.Unknown:
				open++
			}
		}
		r.info(fmt.Sprintf("%s: operations, of them cut off, on so many %s%s", name, name, suffix), "%d, %d, %d", len(c.history), cut, len(parts))
		r.zero(name+": histories that are not linearizable"+suffix, bad)
		r.info(name+": histories given up after 20 s"+suffix, "%d", open)
		allCut += cut
	}
	r.atLeast("cut off operations"+suffix, allCut, 1)
	twice := 0
	for _, part := range keyModel().Partition(s.keys) {
		if s.f.ledger.executions(part[0].Input.(keyTry).key) > 1 {
			twice++
		}
	}
	r.zero("keys executed twice"+suffix, twice)
	r.info("refresh tokens granted / refused, why"+suffix, "%v / %v", s.granted, s.refused)
	r.zero("answers that no document allows"+suffix, int(s.f.bad.Load()))
}

func describe(part []porcupine.Operation) string {
	var b strings.Builder
	for _, op := range part {
		fmt.Fprintf(&b, "[%d %.1f-%.1f %v -> %v] ", op.ClientId, float64(op.Call)/1e6, float64(min(op.Return, int64(1e15)))/1e6, op.Input, op.Output)
		if b.Len() > 4000 {
			break
		}
	}
	return b.String()
}
