package main

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

func key(from, to int64, kind, execution string) porcupine.Operation {
	return porcupine.Operation{Input: keyTry{"k"}, Output: keySeen{kind, execution}, Call: from, Return: to}
}

func line(from, to, number int64, kind string, next int64, why string) porcupine.Operation {
	return porcupine.Operation{Input: present{"s", number}, Output: presented{kind, next, why}, Call: from, Return: to}
}

// The checkers are worth something only if they find what is wrong.
func TestModels(t *testing.T) {
	const never = math.MaxInt64
	for name, c := range map[string]struct {
		model   porcupine.Model
		history []porcupine.Operation
		good    bool
	}{
		"executed, replayed":                      {keyModel(), []porcupine.Operation{key(1, 2, "executed", "a"), key(3, 4, "executed", "a")}, true},
		"executed by one that was cut off":        {keyModel(), []porcupine.Operation{key(1, never, "cut", ""), key(3, 4, "executed", "a"), key(5, 6, "executed", "a")}, true},
		"lost by one that was cut off":            {keyModel(), []porcupine.Operation{key(1, never, "cut", ""), key(3, 4, "unknown", ""), key(5, 6, "unknown", "")}, true},
		"executed twice":                          {keyModel(), []porcupine.Operation{key(1, 2, "executed", "a"), key(3, 4, "executed", "b")}, false},
		"lost without a cut":                      {keyModel(), []porcupine.Operation{key(1, 2, "unknown", "")}, false},
		"lost, then executed":                     {keyModel(), []porcupine.Operation{key(1, never, "cut", ""), key(3, 4, "unknown", ""), key(5, 6, "executed", "a")}, false},
		"acknowledged, then lost":                 {keyModel(), []porcupine.Operation{key(1, 2, "executed", "a"), key(3, never, "cut", ""), key(5, 6, "unknown", "")}, false},
		"rotated, repeated, rotated":              {lineModel(), []porcupine.Operation{line(1, 2, 1, "granted", 2, ""), line(3, 4, 1, "granted", 2, "concurrent"), line(5, 6, 2, "granted", 3, "")}, true},
		"rotated unheard":                         {lineModel(), []porcupine.Operation{line(1, never, 1, "cut", 0, ""), line(3, 4, 1, "granted", 2, "concurrent")}, true},
		"recovered":                               {lineModel(), []porcupine.Operation{line(1, never, 1, "cut", 0, ""), line(3, 4, 1, "granted", 3, "lost-response"), line(5, 6, 3, "granted", 4, "")}, true},
		"an orphan ends the session":              {lineModel(), []porcupine.Operation{line(1, 2, 1, "granted", 2, ""), line(3, 4, 1, "granted", 3, "lost-response"), line(5, 6, 2, "refused", 0, "refresh_token_reused"), line(7, 8, 3, "refused", 0, "session_revoked")}, true},
		"two rotations of one token":              {lineModel(), []porcupine.Operation{line(1, 5, 1, "granted", 2, ""), line(1, 5, 1, "granted", 2, "")}, false},
		"a rotation that is forgotten":            {lineModel(), []porcupine.Operation{line(1, 2, 1, "granted", 2, ""), line(3, 4, 1, "granted", 2, "")}, false},
		"an orphan that is accepted":              {lineModel(), []porcupine.Operation{line(1, 2, 1, "granted", 2, ""), line(3, 4, 1, "granted", 3, "lost-response"), line(5, 6, 2, "granted", 4, "")}, false},
		"the newest token refused":                {lineModel(), []porcupine.Operation{line(1, 2, 1, "granted", 2, ""), line(3, 4, 2, "refused", 0, "refresh_token_reused")}, false},
		"alive after its end":                     {lineModel(), []porcupine.Operation{line(1, 2, 1, "granted", 2, ""), line(3, 4, 2, "granted", 3, ""), line(5, 6, 1, "refused", 0, "refresh_token_reused"), line(7, 8, 3, "granted", 4, "")}, false},
		"refused as malformed":                    {lineModel(), []porcupine.Operation{line(1, 2, 1, "refused", 0, "")}, false},
		"a number that nobody presented rotating": {lineModel(), []porcupine.Operation{line(1, 2, 1, "granted", 3, "")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := porcupine.CheckOperations(c.model, c.history); got != c.good {
				t.Errorf("accepted: %v", got)
			}
		})
	}
}
