package identity

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestSimulatedThefts is figure F2: somebody copies the refresh token of a phone
// and uses it whenever they like. After the victim's next refresh the thief is
// out: at most one more grant, and then the session has ended for both, or the
// thief never got anything.
func TestSimulatedThefts(t *testing.T) {
	t.Parallel()
	const perSeed = 100
	total := map[string]float64{}
	for i := range simCount(1, 30) {
		seed := simFirstSeed(t) + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := newSimRefreshes(t, newSimServer(t, false), seed, perSeed)
			r.restores = false
			for _, c := range r.clients {
				got := r.theft(c)
				total["thefts"]++
				total["grants to thieves"] += float64(got.before + got.after)
				total["grants after the victim's first refresh"] += float64(got.after)
				total["most grants after the victim's first refresh"] = max(total["most grants after the victim's first refresh"], float64(got.after))
				if got.after <= 1 {
					total["with at most one such grant"]++
				}
				if got.ended {
					total["ended"]++
				}
			}
		})
	}
	simFigure(t, "F2", total)
	if share := total["ended"] / total["thefts"]; share < 0.99 {
		t.Errorf("%.2f%% of the thefts ended at the victim's next refresh", 100*share)
	}
	if share := total["with at most one such grant"] / total["thefts"]; share < 0.99 {
		t.Errorf("in %.2f%% of the thefts the thief got at most one token after the victim's refresh", 100*share)
	}
}

type simTheft struct {
	before, after int  // grants to the thief before and after the victim's first refresh
	ended         bool // once victim and thief have each come once more, the thief is out
}

// theft copies c's token after some normal life. Thief and victim then come
// when they come, the victim with all its usual trouble.
func (r *simRefreshes) theft(c *simClient) (out simTheft) {
	r.t.Helper()
	pause := func() { r.s.clock.Advance(time.Duration(1+r.rng.IntN(7200)) * time.Second) }
	for range 1 + r.rng.IntN(6) {
		pause()
		r.refresh(c)
	}
	c.held = nil
	stolen := c.disk
	thief := func() bool {
		pause()
		a := r.s.refresh(stolen)
		if a.status == http.StatusOK {
			stolen = a.str("refresh_token")
		}
		return a.status == http.StatusOK
	}
	for range r.rng.IntN(4) {
		if thief() {
			out.before++
		}
	}
	victim := func() {
		pause()
		for range 10 { // until the phone has an answer that it could store
			before := c.disk
			a := r.s.refresh(c.disk)
			if a.status != http.StatusOK {
				return
			}
			if r.rng.IntN(10) > 0 {
				c.disk = a.str("refresh_token")
			}
			if c.disk != before {
				return
			}
			r.s.clock.Advance(time.Duration(1+r.rng.IntN(600)) * time.Second)
		}
	}
	victim()
	if thief() {
		out.after++
	}
	victim()
	for range 5 { // whatever comes now is refused
		if thief() {
			out.after++
		} else {
			out.ended = true
		}
	}
	if out.ended { // and what the thief holds stays refused
		if a := r.s.refresh(stolen); a.status == http.StatusOK {
			r.fail(c, "a thief who was out is in again")
		}
	}
	return out
}
