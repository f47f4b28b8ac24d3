package identity

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// simClient is an app as it is on phones: it keeps one refresh token on its
// disk, its answers get lost, it is killed before or after it has stored one,
// the network sends its requests twice, and two of its processes refresh at once.
type simClient struct {
	installation, secret, user string
	access, disk               string // the tokens that are stored
	expires                    time.Time
	skew                       time.Duration // of its own clock
	held                       []simHeld     // copies of requests that the network has not delivered yet
	lostInARow                 int
	rotated                    time.Time // when the server last made a new number for it
	signedOut                  bool      // by itself or an operator: a refusal is right
	trace                      []string  // what it did last, for the message of a failure
}

type simHeld struct {
	token string
	until time.Time
}

// simRefreshes drives many clients of one server and counts.
type simRefreshes struct {
	t        *testing.T
	s        *simServer
	rng      *rand.Rand
	clients  []*simClient
	backup   string
	refused  []string // unwanted logouts
	counts   map[string]int
	jumped   time.Duration
	restores bool
}

func newSimRefreshes(t *testing.T, s *simServer, seed uint64, clients int) *simRefreshes {
	t.Helper()
	r := &simRefreshes{t: t, s: s, rng: simRand(seed), counts: map[string]int{}, restores: s.url == ""}
	for i := range clients {
		r.clients = append(r.clients, r.launch(fmt.Sprintf("refresh-%d-of-seed-%d", i, seed)))
	}
	return r
}

func (r *simRefreshes) launch(key string) *simClient {
	r.t.Helper()
	a := r.s.call(http.MethodPost, registerPath, "", map[string]any{}, "Idempotency-Key", key)
	if a.status != http.StatusCreated {
		r.t.Fatalf("launch: %d %s", a.status, a.raw)
	}
	c := &simClient{installation: a.str("installation", "id"), secret: a.str("installation", "secret"), user: a.str("user", "id")}
	c.take(r.s, a.str("session", "access_token"), a.str("session", "refresh_token"), 900)
	return c
}

// take stores the tokens of an answer.
func (c *simClient) take(s *simServer, access, refresh string, lifetime float64) {
	c.access, c.disk = access, refresh
	c.expires = s.clock.Now().Add(c.skew).Add(time.Duration(lifetime) * time.Second)
	c.lostInARow = 0
}

// note remembers what c did last; nil is for everybody.
func (r *simRefreshes) note(c *simClient, format string, args ...any) {
	line := r.s.clock.Now().Format("01-02 15:04:05 ") + fmt.Sprintf(format, args...)
	for _, one := range r.clients {
		if c == nil || one == c {
			one.trace = append(one.trace, line)
			one.trace = one.trace[max(0, len(one.trace)-30):]
		}
	}
}

// present sends token once and checks every invariant of the answer.
func (r *simRefreshes) present(c *simClient, token string) (simAnswer, bool) {
	r.t.Helper()
	before, _ := parseRefreshToken(token)
	a := r.s.refresh(token)
	r.counts["refreshes"]++
	r.note(c, "presents %d: %d %s %s", before.counter, a.status, a.header.Get("Refresh-Replay"), a.str("reason"))
	if a.status != http.StatusOK {
		return a, false
	}
	after, ok := r.s.service.refresh.verify(a.str("refresh_token"))
	switch {
	case c.signedOut:
		r.fail(c, "a session that was ended got a token")
	case !ok || after.session != before.session:
		r.fail(c, "the answer is another session's token")
	case after.counter <= before.counter:
		r.fail(c, "the number went from %d to %d", before.counter, after.counter)
	}
	if a.header.Get("Refresh-Replay") != "concurrent" {
		c.rotated = r.s.clock.Now()
	}
	return a, true
}

func (r *simRefreshes) fail(c *simClient, format string, args ...any) {
	r.t.Helper()
	for _, line := range c.trace {
		r.t.Log(line)
	}
	r.t.Fatalf(format, args...)
}

// refresh is one refresh of the app with everything that can happen to it.
func (r *simRefreshes) refresh(c *simClient) {
	r.t.Helper()
	for try := range 3 {
		if try > 0 {
			r.tick(time.Duration(1+r.rng.IntN(9)) * time.Second)
		}
		token := c.disk
		fate := r.rng.IntN(100)
		switch {
		case fate < 4: // the request is lost
			r.counts["lost requests"]++
			continue
		case fate < 8 && c.lostInARow < MaxRecoveries: // the server commits, the answer is lost
			r.granted(c, token)
			r.counts["lost answers"]++
			c.lostInARow++
		case fate < 10 && c.lostInARow < MaxRecoveries: // killed before the answer is stored
			r.granted(c, token)
			r.counts["killed before storing"]++
			c.lostInARow++
			return
		case fate < 12: // killed after: everything but the disk is gone
			r.keep(c, r.granted(c, token))
			r.counts["killed after storing"]++
			return
		case fate < 15: // the network sends it twice
			first := r.granted(c, token)
			r.granted(c, token)
			r.keep(c, first)
			r.counts["duplicates"]++
			return
		case fate < 18: // and holds the copy back for a while
			r.keep(c, r.granted(c, token))
			if left := int(c.rotated.Add(28*time.Second).Sub(r.s.clock.Now()) / time.Second); left > 0 { // within the grace, which begins with the rotation
				c.held = append(c.held, simHeld{token, r.s.clock.Now().Add(time.Duration(1+r.rng.IntN(left)) * time.Second)})
				r.counts["delayed duplicates"]++
			}
			return
		case fate < 22: // two processes read the same disk
			r.twoAtOnce(c, token)
			return
		default:
			r.keep(c, r.granted(c, token))
			return
		}
		if r.rng.IntN(2) == 0 { // the app is put away instead of trying again
			return
		}
	}
}

// twoAtOnce lets two processes refresh in parallel; either may store last.
func (r *simRefreshes) twoAtOnce(c *simClient, token string) {
	r.counts["two processes"]++
	answers := make(chan simAnswer, 2)
	for range 2 {
		go func() { answers <- r.s.refresh(token) }()
	}
	one, two := <-answers, <-answers
	r.counts["refreshes"] += 2
	for _, a := range []simAnswer{one, two} {
		if a.status != http.StatusOK {
			r.unwanted(c, a)
			return
		}
	}
	if one.str("refresh_token") != two.str("refresh_token") {
		r.fail(c, "two refreshes at once made two branches")
	}
	r.note(c, "two processes: %s %s", one.header.Get("Refresh-Replay"), two.header.Get("Refresh-Replay"))
	if one.header.Get("Refresh-Replay") == "" || two.header.Get("Refresh-Replay") == "" || one.header.Get("Refresh-Replay") != two.header.Get("Refresh-Replay") {
		c.rotated = r.s.clock.Now()
	}
	r.keep(c, one)
}

// granted presents a token that must be granted.
func (r *simRefreshes) granted(c *simClient, token string) simAnswer {
	a, ok := r.present(c, token)
	if !ok {
		r.unwanted(c, a)
	}
	return a
}

func (r *simRefreshes) keep(c *simClient, a simAnswer) {
	if a.status == http.StatusOK {
		lifetime, _ := a.body["expires_in"].(float64)
		c.take(r.s, a.str("access_token"), a.str("refresh_token"), lifetime)
	}
}

// unwanted notes that a client which has done nothing wrong was signed out.
func (r *simRefreshes) unwanted(c *simClient, a simAnswer) {
	if c.signedOut {
		return
	}
	c.signedOut = true
	r.refused = append(r.refused, fmt.Sprintf("%s: %d %s", c.installation, a.status, a.raw))
	for _, line := range c.trace {
		r.t.Log(line)
	}
}

// use calls the API as apps do: with the stored access token while the app's own
// clock calls it good; a 401 that says refresh leads to a refresh.
func (r *simRefreshes) use(c *simClient) {
	r.t.Helper()
	if r.s.clock.Now().Add(c.skew).After(c.expires.Add(-time.Minute)) {
		r.refresh(c)
		if c.signedOut || r.rng.IntN(2) == 0 {
			return
		}
	}
	a := r.s.call(http.MethodGet, "/v1/me", c.access, nil)
	switch {
	case a.status == http.StatusOK && a.str("id") == c.user && !c.signedOut:
	case a.status == http.StatusOK:
		r.fail(c, "%s is shown %s", c.user, a.str("id"))
	case a.status == http.StatusUnauthorized && a.str("recoverable") == "refresh":
		r.counts["expired in the app's hand"]++
		r.refresh(c)
	case !c.signedOut:
		r.fail(c, "an access token of a good session: %d %s", a.status, a.raw)
	}
}

// deliver lets copies arrive whose time has come. Their answers reach nobody.
func (r *simRefreshes) deliver() {
	for _, c := range r.clients {
		left := c.held[:0]
		for _, h := range c.held {
			if r.s.clock.Now().Before(h.until) {
				left = append(left, h)
				continue
			}
			a, _ := r.present(c, h.token)
			if a.status != http.StatusOK && a.str("reason") != string(ReasonStaleDuplicate) {
				r.unwanted(c, a)
			}
		}
		c.held = left
	}
}

// tick lets time pass, and copies arrive when they are due: within the grace.
func (r *simRefreshes) tick(d time.Duration) {
	end := r.s.clock.Now().Add(d)
	for {
		next := end
		for _, c := range r.clients {
			for _, h := range c.held {
				if h.until.Before(next) {
					next = h.until
				}
			}
		}
		r.s.clock.Advance(next.Sub(r.s.clock.Now()))
		r.deliver()
		if next.Equal(end) {
			return
		}
	}
}

// settle lets everything that is under way arrive in time.
func (r *simRefreshes) settle() { r.tick(30 * time.Second) }

// step is one step of the world.
func (r *simRefreshes) step() {
	r.t.Helper()
	c := r.clients[r.rng.IntN(len(r.clients))]
	for c.signedOut {
		c = r.clients[r.rng.IntN(len(r.clients))]
	}
	switch fate := r.rng.IntN(1000); {
	case fate < 10: // a clock of a phone jumps by up to an hour
		c.skew = time.Duration(r.rng.IntN(7200)-3600) * time.Second
		r.counts["clock jumps"]++
	case fate < 15: // the server's, when nothing is under way that the grace is for
		r.settle()
		jump := time.Duration(r.rng.IntN(3600)) * time.Second
		if r.jumped > 0 {
			jump = -r.jumped
		}
		r.jumped += jump
		r.s.clock.Advance(jump)
		r.note(nil, "the server's clock jumps by %s", jump)
		r.counts["clock jumps"]++
	case fate < 17 && r.restores:
		r.settle()
		r.makeBackup()
	case fate < 18 && r.restores && r.backup != "":
		r.settle()
		r.restore()
	default:
		r.use(c)
	}
	r.tick(time.Duration(r.rng.IntN(90)) * time.Second)
}

func (r *simRefreshes) makeBackup() {
	r.backup = r.s.backup()
	r.counts["backups"]++
	r.note(nil, "backup")
}

// restore brings the backup back and declares it; every client comes by within
// the window, and none is signed out.
func (r *simRefreshes) restore() {
	r.t.Helper()
	r.note(nil, "restore")
	r.s.restore(r.backup)
	r.counts["restores"]++
	if _, err := r.s.service.DeclareRestore(r.t.Context(), 24*time.Hour, "drill"); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range r.clients {
		if c.signedOut {
			continue
		}
		r.counts["sessions restored"]++
		a := r.granted(c, c.disk)
		if a.status == http.StatusOK {
			r.counts["sessions survived"]++
		}
		r.keep(c, a)
		r.s.clock.Advance(time.Second)
	}
	r.settle()
	r.s.clock.Advance(25 * time.Hour)
	r.backup = ""
}

// heal ends all trouble and requires that everybody works.
func (r *simRefreshes) heal() {
	r.t.Helper()
	r.settle()
	for round := range 2 {
		r.s.clock.Advance(time.Hour)
		for _, c := range r.clients {
			if c.signedOut {
				continue
			}
			c.skew = 0
			a := r.granted(c, c.disk)
			r.keep(c, a)
			if replay := a.header.Get("Refresh-Replay"); round == 1 && replay != "" {
				r.fail(c, "after healing a refresh is still %s", replay)
			}
			if me := r.s.call(http.MethodGet, "/v1/me", c.access, nil); me.status != http.StatusOK || me.str("id") != c.user {
				r.fail(c, "after healing: %d %s", me.status, me.raw)
			}
		}
	}
}

func (r *simRefreshes) run(refreshes int) {
	r.t.Helper()
	for r.counts["refreshes"] < refreshes {
		r.step()
	}
	r.heal()
	for _, one := range r.refused {
		r.t.Errorf("signed out although it did nothing wrong: %s", one)
	}
}

// TestSimulatedRefreshes is figure F1: honest clients and everything that can
// happen to them. Nobody is signed out.
func TestSimulatedRefreshes(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, postgres bool, runs, refreshes int) {
		total, mu := map[string]float64{}, sync.Mutex{}
		t.Run("seeds", func(t *testing.T) {
			for i := range runs {
				seed := simFirstSeed(t) + uint64(i)
				t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
					t.Parallel()
					r := newSimRefreshes(t, newSimServer(t, postgres), seed, min(100, max(10, refreshes/100)))
					r.run(refreshes)
					mu.Lock()
					defer mu.Unlock()
					for name, n := range r.counts {
						total[name] += float64(n)
					}
					total["unwanted logouts"] += float64(len(r.refused))
				})
			}
		})
		for _, needed := range []string{"lost requests", "lost answers", "killed before storing", "killed after storing", "duplicates", "delayed duplicates", "two processes", "clock jumps"} {
			if total[needed] == 0 {
				t.Errorf("%s never happened: the simulation proves nothing about it", needed)
			}
		}
		if !postgres {
			simFigure(t, "F1", total)
		}
	}
	testkit.Engines(t, func(t *testing.T, _ func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		t.Parallel()
		if postgres := t.Name() == "TestSimulatedRefreshes/postgres"; postgres {
			run(t, true, 1, 300)
		} else {
			run(t, false, simCount(1, 10), simCount(1000, 10_500))
		}
	})
}
