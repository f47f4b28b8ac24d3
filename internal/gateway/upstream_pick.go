package gateway

import (
	"time"

	"landline/internal/gateway/balance"
	"landline/internal/gateway/health"
	"landline/internal/gateway/overload"
	"landline/internal/module"
	"landline/internal/problem"
)

// targetSet is a set of targets of one upstream, by index.
type targetSet [maxTargets / 64]uint64

func (s *targetSet) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *targetSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// attempt is one try of a request at one target.
type attempt struct {
	target  *target  // where the request goes
	index   int      // of target
	breaker *breaker // holds permit until the outcome is known
	permit  uint64
	slot    overload.Slot // under the upstream's adaptive limit, until the answer begins
	up      *upstream     // nil once the outcome is known
}

// settle tells everyone who learns from it how the try ended, once.
func (a *attempt) settle(o outcome) {
	if a.up == nil {
		return
	}
	if a.breaker != nil {
		a.breaker.release(a.permit, o)
		a.breaker = nil
	}
	if m := a.up.monitor; m != nil && o != unknown {
		m.Report(a.index, o == bad)
	}
	a.slot.Release(false)
	a.up = nil
}

// choose finds a target for one try that is not in asked, adds it, and takes
// the places that the try needs. The attempt must be settled.
func (u *upstream) choose(x *Exchange, breakers []*breaker, asked *targetSet) (attempt, error) {
	a := attempt{up: u}
	if u.limiter != nil {
		slot, ok := u.limiter.Acquire(levelOf(x.Route.Priority))
		if !ok {
			return attempt{}, x.Route.overloaded("the service behind " + x.Route.Feature + " is overloaded")
		}
		a.slot = slot
	}
	var soonest time.Duration
	for {
		i := u.pick(x, asked)
		if i == balance.None {
			break
		}
		asked.add(i)
		a.target, a.index = u.targets[i], i
		if breakers == nil {
			return a, nil
		}
		permit, wait, ok := breakers[i].acquire()
		if ok {
			a.breaker, a.permit = breakers[i], permit
			return a, nil
		}
		if soonest == 0 || wait < soonest {
			soonest = wait
		}
	}
	a.slot.Release(false)
	return attempt{}, problem.New(problem.FeatureUnavailable, "%s is out of order for the moment", x.Route.Feature).After(soonest)
}

// smallUpstream is how many targets are weighed without an allocation.
const smallUpstream = 16

// pick chooses a target that is not in asked, or balance.None.
func (u *upstream) pick(x *Exchange, asked *targetSet) int {
	if len(u.targets) == 1 {
		if asked.has(0) {
			return balance.None
		}
		return 0
	}
	var small [smallUpstream]int
	weights := small[:0]
	if len(u.targets) > smallUpstream {
		weights = make([]int, 0, len(u.targets))
	}
	weights = u.weigh(weights, asked)
	if u.config.Balance != BalanceInstallation {
		return balance.Random(weights)
	}
	var spare [smallUpstream]int
	key := balance.Hash(balanceKey(x))
	if i := balance.Rendezvous(key, u.ids, u.withRoom(append(spare[:0], weights...))); i != balance.None {
		return i
	}
	return balance.Rendezvous(key, u.ids, weights)
}

// weigh appends what each target's weight comes to now. When none is well, all
// count as if they were: a health check may be what is broken, and an answer
// that fails costs no more than none.
func (u *upstream) weigh(weights []int, asked *targetSet) []int {
	well := false
	var now time.Time
	if u.monitor != nil {
		now = time.Now()
	}
	for i, t := range u.targets {
		w := t.weight * health.Full
		if u.monitor != nil {
			w = t.weight * u.monitor.Share(i, now)
		}
		well = well || w > 0
		weights = append(weights, w)
	}
	for i, t := range u.targets {
		switch {
		case asked.has(i):
			weights[i] = 0
		case !well:
			weights[i] = t.weight * health.Full
		}
	}
	return weights
}

// Bounds of the load that one target takes for the sake of a key's constancy.
const (
	roomFactor = 1.25 // of its share of what is in flight
	roomFloor  = 16   // requests that are never too many
)

// withRoom sets the weight of targets to 0 that have more in flight than their
// share allows (consistent hashing with bounded loads, Mirrokni et al. 2016).
func (u *upstream) withRoom(weights []int) []int {
	var inFlight int64
	total := 0
	for i, w := range weights {
		if w > 0 {
			inFlight += u.targets[i].inFlight.Load()
			total += w
		}
	}
	for i, w := range weights {
		room := max(roomFloor, roomFactor*float64(inFlight+1)*float64(w)/float64(max(total, 1)))
		if w > 0 && float64(u.targets[i].inFlight.Load()) >= room {
			weights[i] = 0
		}
	}
	return weights
}

// balanceKey is what requests of one caller have in common.
func balanceKey(x *Exchange) string {
	if x.Principal != nil && x.Principal.InstallationID != "" {
		return x.Principal.InstallationID
	}
	return x.ClientIP
}

func levelOf(p module.Priority) overload.Level {
	switch p {
	case module.Telemetry:
		return overload.Telemetry
	case module.Background:
		return overload.Background
	case module.Critical:
		return overload.Critical
	}
	return overload.Interactive
}
