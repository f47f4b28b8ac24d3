package gateway

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landline/internal/module"
	"landline/internal/problem"
)

// Another way's answer is made for the one who asked: who waits for the same
// fill must not get it, whatever the cache knows of users.
func TestAnswerOfAnotherWayReachesOneUserAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := &otherWay{handler: func(x *Exchange, w http.ResponseWriter, _ *http.Request) error {
			said(w, 200, "secrets of "+x.Principal.UserID, "Cache-Control", "private, no-store")
			return nil
		}}
		c := newCached(t, func(f *FeatureConfig) { f.Auth = module.AuthAccount }, fallbackStage(&FallbackConfig{Upstream: "other"}, other))
		c.answer = func(int, *Exchange, http.ResponseWriter, *http.Request) error {
			time.Sleep(time.Second)
			return problem.New(problem.UpstreamUnreachable, "down")
		}
		var asked sync.WaitGroup
		for _, name := range []string{"alice", "bob"} {
			asked.Go(func() {
				w, _, err := c.do(t.Context(), "GET", "/me", nil, user(name))
				if err != nil || !strings.HasPrefix(w.Body.String(), "secrets of ") || !strings.Contains(w.Body.String(), name) {
					t.Errorf("%s got %q, %v", name, w.Body.String(), err)
				}
			})
			synctest.Wait() // bob comes while alice's fill is under way
		}
		asked.Wait()
	})
}

// Another way's answer streams: it is neither collected nor bounded by what the cache may hold.
func TestAnswerOfAnotherWayIsNotCollected(t *testing.T) {
	const pieces, piece = 64, 1 << 20
	var c *cached
	passed := 0
	other := &otherWay{handler: func(_ *Exchange, w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		for range pieces {
			n, err := w.Write(make([]byte, piece))
			if err != nil {
				return err
			}
			passed += n
		}
		return nil
	}}
	c = newCached(t, nil, fallbackStage(&FallbackConfig{Upstream: "other"}, other))
	c.answer = func(int, *Exchange, http.ResponseWriter, *http.Request) error {
		return problem.New(problem.UpstreamUnreachable, "down")
	}
	w, x, err := c.do(t.Context(), "GET", "/me", nil)
	if err != nil || w.Body.Len() != pieces*piece || passed != w.Body.Len() || x.stock {
		t.Errorf("%d of %d bytes, %v", w.Body.Len(), pieces*piece, err)
	}
	if w.Header().Get("Landline-Degraded") != "fallback" {
		t.Errorf("%v", w.Header())
	}
}
