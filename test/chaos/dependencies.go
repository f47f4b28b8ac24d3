package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"landline/test/process"
)

// outage is a cast of two nodes whose dependencies fail one after the other
// while a fleet uses it. What the operator's manual says of each is compared
// with what is seen.
type outage struct {
	*cast
	r       *report
	f       *fleet
	probe   *phone
	known   *installation // signed in before anything fails
	names   *names
	clock   string // file that moves the nodes' clock
	standby *postgres
	n       int
	back    times
}

func dependencies(ctx context.Context, h *house, r *report) (err error) {
	o, err := newOutage(ctx, h, r)
	if err != nil {
		return err
	}
	defer func() {
		o.f.rest()
		err = errors.Join(err, o.close(), o.names.close(), o.standby.end(), o.postgres.end(), o.redis.stop())
	}()
	before, err := o.warm(ctx, o.base)
	if err != nil {
		return err
	}
	o.f.start(ctx, 12, h.seed)
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"PostgreSQL restarted", o.stopPostgres}, {"PostgreSQL crashed", o.crashPostgres}, {"backends ended", o.endBackends},
		{"PostgreSQL failed over", o.failOver}, {"Redis gone", o.stopRedis}, {"clock", o.jump}, {"DNS gone", o.loseNames},
	} {
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w\n%s", part.name, err, tail(o.nodes[0].Logs.String()))
		}
	}
	verdict, err := o.f.verify(ctx, pick(h, rescue, 3*time.Second), jobInDatabase(o.standby.urlAt(o.standby.address(), o.database)))
	if err != nil {
		return err
	}
	o.f.client.CloseIdleConnections()
	after, err := settled(ctx, o.nodes[0], before, slack)
	if err != nil {
		return err
	}
	r.within("slowest return after a failure", o.back.quantile(1), 10*time.Second)
	o.f.tell(verdict, "")
	leaks(r, before, after)
	return o.stop()
}

func newOutage(ctx context.Context, h *house, r *report) (o *outage, err error) {
	o = &outage{r: r, clock: filepath.Join(h.dir, "clock")}
	if err := os.WriteFile(o.clock, []byte("0s"), 0o600); err != nil {
		return nil, err
	}
	if o.names, err = newNames(); err != nil {
		return nil, err
	}
	primary, err := newPostgres(ctx, filepath.Join(h.dir, "primary"))
	if err != nil {
		return nil, err
	}
	if o.standby, err = primary.replica(ctx, filepath.Join(h.dir, "standby")); err != nil {
		return nil, errors.Join(err, primary.end())
	}
	memory, err := newRedis(ctx, h.dir)
	if err != nil {
		return nil, errors.Join(err, primary.end(), o.standby.end())
	}
	if o.cast, err = newCast(ctx, h, 2, primary, memory, "ledger.chaos.test", "CHAOS_DNS="+o.names.address(), "CHAOS_CLOCK="+o.clock); err != nil {
		return nil, errors.Join(err, primary.end(), o.standby.end(), memory.stop())
	}
	o.f = newFleet(o.base, o.ledger, r)
	o.f.pause = 10 * time.Millisecond
	o.probe = &phone{f: newFleet(func() string { return o.nodes[0].Public }, o.ledger, r), name: process.RandomName("outage-"), rng: h.rng("outage")}
	o.known = &installation{key: o.probe.name}
	if !o.probe.install(ctx, o.known) {
		err = errors.New("the first installation was not answered")
	}
	return o, err
}

// base spreads requests over the nodes.
func (o *outage) base() string { return o.nodes[time.Now().UnixNano()/1e6%2].Public }

// expect asks something that is documented to be answered so while a part is gone.
func (o *outage) expect(what string, a answer, status int, code string) {
	o.r.add(what, fmt.Sprintf("%d %s", a.status, a.code()), fmt.Sprintf("%d %s", status, code), a.status == status && a.code() == code)
}

func (o *outage) read(ctx context.Context) answer {
	return o.probe.f.call(ctx, http.MethodGet, "/v1/read/7", "", "", "", o.known.access)
}

func (o *outage) refresh(ctx context.Context) answer {
	return o.probe.f.call(ctx, http.MethodPost, "/oauth/token", "grant_type=refresh_token&refresh_token="+o.known.refresh, formType, "", "")
}

func (o *outage) install(ctx context.Context) answer {
	o.n++
	return o.probe.f.call(ctx, http.MethodPost, "/v1/installations", "{}", jsonType, fmt.Sprint(o.probe.name, "-", o.n), "")
}

func (o *outage) write(ctx context.Context) answer {
	o.n++
	key := fmt.Sprint(o.probe.name, "-", o.n)
	return o.probe.f.call(ctx, http.MethodPost, "/v1/careful/"+key, "{}", jsonType, key, o.known.access)
}

// withoutDatabase compares the row of the manual.
func (o *outage) withoutDatabase(ctx context.Context, when string) error {
	if _, err := eventually(ctx, patience, "readyz tells", func() bool { return readiness(ctx, o.nodes[0]) == "failing" }); err != nil {
		return err
	}
	o.expect("read while PostgreSQL is "+when, o.read(ctx), 200, "")
	o.expect("refresh while PostgreSQL is "+when, o.refresh(ctx), 503, "storage_unavailable")
	o.expect("installation while PostgreSQL is "+when, o.install(ctx), 503, "storage_unavailable")
	o.expect("keyed write while PostgreSQL is "+when, o.write(ctx), 503, "storage_unavailable")
	return nil
}

// again notes how long it took until everything worked.
func (o *outage) again(ctx context.Context, after string) error {
	d, err := o.returned(ctx, o.r, func() string { return o.nodes[0].Public })
	o.back.add(d)
	o.r.info("everything works after "+after, "%s", ms(d))
	return err
}

func (o *outage) lasts() time.Duration { return pick(o.h, 10*time.Second, 500*time.Millisecond) }

func (o *outage) stopPostgres(ctx context.Context) error {
	if err := o.postgres.signal(syscall.SIGINT); err != nil {
		return err
	}
	if err := o.withoutDatabase(ctx, "stopped"); err != nil {
		return err
	}
	time.Sleep(o.lasts())
	if err := o.postgres.start(ctx); err != nil {
		return err
	}
	return o.again(ctx, "a restart of PostgreSQL")
}

func (o *outage) crashPostgres(ctx context.Context) error {
	if err := o.postgres.signal(syscall.SIGKILL); err != nil {
		return err
	}
	time.Sleep(o.lasts())
	if err := o.postgres.start(ctx); err != nil {
		return err
	}
	return o.again(ctx, "a crash of PostgreSQL")
}

func (o *outage) endBackends(ctx context.Context) error {
	times := pick(o.h, 100, 10)
	for range times {
		if err := o.postgres.exec(ctx, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+o.database+`'`); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond) // between two
	}
	o.r.info("times that all backends were ended", "%d", times)
	return o.again(ctx, "backends were ended")
}

// failOver kills the primary and promotes its synchronous standby, as a cluster manager does.
func (o *outage) failOver(ctx context.Context) error {
	if err := o.postgres.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := o.standby.run(ctx, "pg_ctl", "-D", o.standby.data(), "-w", "promote"); err != nil {
		return err
	}
	o.toPostgres.Switch(o.standby.address())
	return o.again(ctx, "a failover of PostgreSQL")
}

// stopRedis wants everything to go on, and a sign-out on one node to reach the other by the database.
func (o *outage) stopRedis(ctx context.Context) error {
	failed := o.f.failed.Load()
	if err := o.redis.stop(); err != nil {
		return err
	}
	if _, err := eventually(ctx, patience, "readyz tells", func() bool { return readiness(ctx, o.nodes[0]) == "degraded" }); err != nil {
		return err
	}
	o.expect("read without Redis", o.read(ctx), 200, "")
	o.expect("keyed write without Redis", o.write(ctx), 201, "")
	o.expect("installation without Redis", o.install(ctx), 201, "")
	leaver := &installation{key: o.probe.name + "-leaver"}
	if !o.probe.install(ctx, leaver) {
		return errors.New("the installation that signs out was not answered")
	}
	a := o.probe.f.call(ctx, http.MethodPost, "/v1/auth/sign-out", "{}", jsonType, "", leaver.access)
	if a.status/100 != 2 {
		return fmt.Errorf("sign out: %d %s", a.status, a.body)
	}
	other := newFleet(func() string { return o.nodes[1].Public }, o.ledger, o.r)
	d, err := eventually(ctx, patience, "the other node knows of the sign-out", func() bool {
		return other.call(ctx, http.MethodGet, "/v1/read/7", "", "", "", leaver.access).status == http.StatusUnauthorized
	})
	if err != nil {
		return err
	}
	o.r.within("a sign-out reaches the other node without Redis", d, 1500*time.Millisecond)
	time.Sleep(pick(o.h, time.Minute, 500*time.Millisecond))
	if err := o.redis.start(ctx); err != nil {
		return err
	}
	o.r.zero("requests that failed because Redis was gone", int(o.f.failed.Load()-failed))
	return o.again(ctx, "Redis came back")
}

// jump moves the clocks of all nodes; nobody may be signed out by it.
func (o *outage) jump(ctx context.Context) error {
	logouts := o.f.logouts.Load()
	for _, to := range []string{"1h", "0s", "-1h", "0s"} {
		next := o.clock + ".next"
		if err := errors.Join(os.WriteFile(next, []byte(to), 0o600), os.Rename(next, o.clock)); err != nil {
			return err
		}
		time.Sleep(pick(o.h, 20*time.Second, 700*time.Millisecond)) // time under this clock
		if err := o.again(ctx, "the clock went to "+to); err != nil {
			return err
		}
	}
	o.r.zero("logouts by jumps of the clock", int(o.f.logouts.Load()-logouts))
	if !o.probe.renew(ctx, o.known) {
		return errors.New("the refresh after the jumps was not answered")
	}
	return nil
}

// loseNames takes the DNS away: connections that are there go on, new ones are
// made to the addresses that the service had last.
func (o *outage) loseNames(ctx context.Context) error {
	failed, requests := o.f.failed.Load(), o.f.requests.Load()
	o.names.mode.Store(namesFail)
	time.Sleep(o.lasts())
	failed, requests = o.f.failed.Load()-failed, o.f.requests.Load()-requests
	o.r.zero(fmt.Sprintf("requests that failed while the DNS failed, of %d", requests), int(failed))
	o.toService.Switch(o.toService.Target()) // cuts the connections there are
	for mode, name := range map[int32]string{namesFail: "failing", namesSilent: "silent"} {
		o.names.mode.Store(mode)
		o.read(ctx) // may still meet a connection that was cut
		o.expect("read when a new connection needs the "+name+" DNS", o.read(ctx), 200, "")
	}
	o.expect("refresh without the DNS", o.refresh(ctx), 200, "")
	o.names.mode.Store(namesAnswer)
	return o.again(ctx, "the DNS came back")
}
