package identity

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"landline/internal/bus"
	"landline/internal/clock"
)

const (
	pollEvery    = 400 * time.Millisecond // so that a revocation is known within a second without the bus
	pollPage     = 1000
	pollOverlap  = clockSkew + 10*time.Second // how far clocks may differ, and a commit lag behind its time
	reconcile    = time.Minute                // how often everything still relevant is read again
	publishLimit = 250 * time.Millisecond
)

// denySet holds revoked sessions until their last access token has expired. It
// is bounded by revocations per token lifetime, not by a number: forgetting one
// would let a thief back in.
type denySet struct {
	seed   maphash.Seed
	count  atomic.Int64
	shards [cacheShards]struct {
		mu sync.RWMutex
		m  map[string]denial // by session or user
	}
}

// denial is why tokens are refused, and until when that must be remembered.
type denial struct {
	reason Reason
	until  int64 // Unix second from which all tokens concerned have expired
}

func newDenySet() *denySet {
	d := &denySet{seed: maphash.MakeSeed()}
	for i := range d.shards {
		d.shards[i].m = map[string]denial{}
	}
	return d
}

// add returns false when the session or user is there already.
func (d *denySet) add(r Revocation, until time.Time) bool {
	s := &d.shards[maphash.String(d.seed, r.SessionID)%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.m[r.SessionID]; there {
		return false
	}
	s.m[r.SessionID] = denial{r.Reason, until.Unix()}
	d.count.Add(1)
	return true
}

// why is the reason for which a session's or user's tokens are refused, "" when they are not.
func (d *denySet) why(id string) Reason {
	if d.count.Load() == 0 {
		return ""
	}
	s := &d.shards[maphash.String(d.seed, id)%cacheShards]
	s.mu.RLock()
	denied, there := s.m[id]
	s.mu.RUnlock()
	if there && denied.reason == "" {
		return ReasonSessionRevoked
	}
	return denied.reason
}

func (d *denySet) sweep(now time.Time) {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		for id, denied := range s.m {
			if denied.until < now.Unix() {
				delete(s.m, id)
				d.count.Add(-1)
			}
		}
		s.mu.Unlock()
	}
}

var revoked = bus.Topic[revokedEvent]{Name: "identity.session_revoked"}

// revocations keeps the deny set of this node true: its own revocations at
// once, others' by the bus at once and by reading the table in any case.
type revocations struct {
	deny     *denySet
	store    Store
	bus      bus.Bus
	clock    clock.Clock
	log      *slog.Logger
	metrics  *metrics
	lifetime time.Duration // of an access token, with the allowance for clocks

	mu        sync.Mutex // one poll at a time
	last      time.Time  // of the newest revocation read
	reconcile time.Time
	failing   bool
	polled    atomic.Int64 // Unix milliseconds of the last read that succeeded
}

// announce makes this node and, best effort, the others refuse the sessions' access tokens.
func (r *revocations) announce(ctx context.Context, all ...Revocation) {
	for _, one := range all {
		r.deny.add(one, one.At.Add(r.lifetime))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishLimit)
		if err := revoked.Publish(ctx, r.bus, revokedEvent{Session: one.SessionID, Reason: one.Reason, At: one.At.UnixMilli()}); err != nil {
			r.log.WarnContext(ctx, "a revocation could not be published; other nodes read it from the database", "session", one.SessionID, "error", err)
		}
		cancel()
	}
}

// learn is told of a revocation of another node.
func (r *revocations) learn(one Revocation) {
	if r.deny.add(one, one.At.Add(r.lifetime)) {
		r.metrics.propagation.Observe(max(0, r.clock.Now().Sub(one.At)).Seconds())
	}
}

// poll reads what the table has new. The first call reads all that matters.
func (r *revocations) poll(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	from := r.last.Add(-pollOverlap)
	full := !now.Before(r.reconcile)
	if full {
		from = now.Add(-r.lifetime - pollOverlap)
		r.deny.sweep(now)
	}
	first := r.polled.Load() == 0
	for after := (Revocation{At: from}); ; {
		page, err := r.store.Revocations(ctx, after, pollPage)
		if err != nil {
			return err
		}
		for _, one := range page {
			switch {
			case !one.At.Add(r.lifetime).After(now): // every token of it has expired
			case first: // from before this node ran: nothing was propagated
				r.deny.add(one, one.At.Add(r.lifetime))
			default:
				r.learn(one)
			}
			if one.At.After(r.last) && !one.At.After(now) { // a clock that is ahead must not hide what comes after
				r.last = one.At
			}
			after = one
		}
		if len(page) < pollPage {
			break
		}
	}
	if r.last.IsZero() || r.last.Before(now.Add(-r.lifetime)) {
		r.last = now.Add(-r.lifetime)
	}
	if full {
		r.reconcile = now.Add(reconcile)
	}
	r.polled.Store(now.UnixMilli())
	return nil
}

// age is how long ago the table was last read.
func (r *revocations) age() time.Duration {
	return r.clock.Now().Sub(time.UnixMilli(r.polled.Load()))
}

// run polls until ctx ends. The first poll has been made.
func (r *revocations) run(ctx context.Context) {
	wake := make(chan struct{}, 1)
	gap := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	defer r.bus.OnGap(gap)()
	defer revoked.Subscribe(r.bus, func(e revokedEvent) {
		r.learn(Revocation{SessionID: e.Session, Reason: e.Reason, At: time.UnixMilli(e.At).UTC()})
	})()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-tick.C:
		}
		r.pollOnce(ctx)
	}
}

func (r *revocations) pollOnce(ctx context.Context) {
	err := r.poll(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		r.metrics.polls.WithLabelValues("error").Inc()
		if !r.failing {
			r.log.WarnContext(ctx, "the revocations of other nodes cannot be read; retrying", "error", err)
		}
	default:
		r.metrics.polls.WithLabelValues("ok").Inc()
		if r.failing {
			r.log.InfoContext(ctx, "the revocations of other nodes can be read again")
		}
	}
	r.failing = err != nil
}
