package limit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/kv"
	"landline/internal/observe"
)

// DefaultWithin is how long the store may take over one decision.
const DefaultWithin = 50 * time.Millisecond

// How long the store is left alone after it has failed: doubled with every
// further failure.
const (
	minRest = time.Second
	maxRest = 8 * time.Second
)

// Shared decides about checks of which some count together with all nodes, in
// a store that the nodes share. It is safe for concurrent use.
//
// A request is first decided here, with what this node knows of the key; one
// that is refused here does not reach the store, so that a caller who is far
// above the limit costs it nothing. The store then decides about all shared
// checks in one step, on its own clock. What it says of a key is remembered.
//
// If the store does not answer within its time, the decision made here stands:
// each node then counts alone, on top of what it knew. So the loss of the store
// neither turns callers away nor opens the gates: together the nodes admit at
// most what each would admit alone. The store is then left alone for a second
// or more before one request tries it again.
type Shared struct {
	local     *Limiters
	store     kv.Store // nil = this node is alone
	within    time.Duration
	log       *slog.Logger
	decisions decisions

	failures atomic.Int64 // in a row, those of one moment counted once
	last     atomic.Int64 // when the last of them was, Unix nanoseconds
	rest     atomic.Int64 // until when the store is left alone, Unix nanoseconds; 0 = it is asked
}

type decisions struct{ store, refused, fallback prometheus.Counter }

// NewShared returns a Shared over store, which may be nil; within 0 is DefaultWithin.
func NewShared(l *Limiters, store kv.Store, within time.Duration, log *slog.Logger, reg prometheus.Registerer) *Shared {
	if within <= 0 {
		within = DefaultWithin
	}
	s := &Shared{local: l, store: store, within: within, log: log}
	by := observe.Counter(reg, "landline_rate_limit_shared_decisions_total",
		"Decisions under rate limits that nodes share: store (made together), refused (here already, for what this node knew), fallback (made by this node alone because the store did not answer).", "by")
	s.decisions = decisions{by.WithLabelValues("store"), by.WithLabelValues("refused"), by.WithLabelValues("fallback")}
	observe.GaugeFunc(reg, "landline_rate_limit_keys_count", "Callers that rate limits hold in memory.", func() float64 { return float64(l.Keys()) })
	observe.GaugeFunc(reg, "landline_rate_limit_keys_forgotten",
		"Callers that were forgotten since the start because memory for rate limits was full; they began anew.", func() float64 { return float64(l.Forgotten()) })
	observe.GaugeFunc(reg, "landline_rate_limit_alone", "1 while this node decides about shared rate limits alone because the store does not answer, else 0.", s.alone)
	return s
}

func (s *Shared) alone() float64 {
	if s.failures.Load() > 0 {
		return 1
	}
	return 0
}

// Policy is Limiters.Policy.
func (s *Shared) Policy(name string, r Rate) (*Policy, error) { return s.local.Policy(name, r) }

// Take is Limiters.Take, with the shared checks decided among all nodes. Of
// checks that are not shared, a request that the other nodes turn out to refuse
// is held for the time of the question and then given back.
func (s *Shared) Take(ctx context.Context, checks []Check, states []State) bool {
	shared := s.store != nil && slices.ContainsFunc(checks, func(c Check) bool { return c.Shared })
	switch {
	case !s.local.Take(checks, states):
		if shared {
			s.decisions.refused.Inc()
		}
		return false
	case !shared:
		return true
	case !s.may():
		s.decisions.fallback.Inc()
		return true
	}
	return s.ask(ctx, checks, states)
}

// ask lets the store decide what this node alone would have admitted. It is
// apart from Take because its arrays escape, and most policies are not shared.
func (s *Shared) ask(ctx context.Context, checks []Check, states []State) bool {
	var buckets [maxChecks]kv.Bucket
	var ahead [maxChecks]time.Duration
	n := 0
	for i := range checks {
		if checks[i].Shared {
			buckets[n] = checks[i].bucket()
			n++
		}
	}
	limited, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	admitted, err := s.store.Take(limited, buckets[:n], ahead[:n])
	if err != nil {
		s.decisions.fallback.Inc()
		if ctx.Err() == nil {
			s.failed(err)
		}
		return true
	}
	s.recovered()
	s.decisions.store.Inc()
	s.local.correct(checks, states, admitted, ahead[:n])
	return admitted
}

// bucket names the key's allowance in the store: by a hash, which has one
// length and shows nobody's address.
func (c *Check) bucket() kv.Bucket {
	pace := c.pace()
	text := make([]byte, 0, 256)
	text = append(text, c.Policy.name...)
	text = append(text, 0)
	text = binary.BigEndian.AppendUint64(text, uint64(pace.interval)) // #nosec G115 -- positive
	text = binary.BigEndian.AppendUint64(text, uint64(pace.capacity)) // #nosec G115 -- positive
	text = append(text, c.Key...)
	sum := sha256.Sum256(text)
	return kv.Bucket{
		Key:      "limit:" + base64.RawURLEncoding.EncodeToString(sum[:16]),
		Interval: time.Duration(pace.interval),
		Burst:    int(pace.capacity / pace.interval),
	}
}

// may reports whether the store is to be asked. After its rest one caller asks;
// the others wait for what comes of it.
func (s *Shared) may() bool {
	until := s.rest.Load()
	if until == 0 {
		return true
	}
	now := s.local.clk.Now().UnixNano()
	if wait := until - now; wait > 0 && wait <= int64(maxRest) { // more than that is left over from a clock that jumped back
		return false
	}
	return s.rest.CompareAndSwap(until, now+int64(minRest))
}

func (s *Shared) failed(err error) {
	now, last := s.local.clk.Now().UnixNano(), s.last.Load()
	if s.failures.Load() > 0 && now >= last && now-last < int64(2*s.within) || !s.last.CompareAndSwap(last, now) {
		return // one of many that asked at once
	}
	n := s.failures.Add(1)
	s.rest.Store(now + int64(min(minRest<<min(n-1, 8), maxRest)))
	if n == 1 {
		s.log.Warn("shared rate limits: the store does not answer in time; this node decides alone until it does", "within", s.within.String(), "error", err)
	}
}

func (s *Shared) recovered() {
	if s.failures.Load() != 0 && s.failures.Swap(0) != 0 {
		s.rest.Store(0)
		s.log.Info("shared rate limits: the store answers again")
	}
}
