package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"landline/internal/audit"
	"landline/internal/gateway/idem"
	"landline/internal/id"
	"landline/internal/identity"
	"landline/internal/sqldb"
)

// policy has no grace, so that every repeat is one after a lost answer.
var policy = identity.RefreshPolicy{Grace: 0, Idle: 90 * 24 * time.Hour, Absolute: 365 * 24 * time.Hour}

var errUnmet = errors.New("a condition did not hold that nobody else could have changed")

// actor is one source of load. Its step does the i-th piece of work and records
// in p what was acknowledged.
type actor struct {
	name string
	step func(ctx context.Context, h *house, p *promises, name string, i int) error
}

// actors are the mixed load: every kind of write that the main database sees.
var actors = []actor{
	{"phone-1", phone}, {"phone-2", phone}, {"phone-3", phone},
	{"entry-1", plainEntry}, {"entry-2", plainEntry},
	{"key-1", keyedCall}, {"key-2", keyedCall}, {"keyed-tx", keyedTransaction},
	{"sealer", seal}, {"keeper", keepHouse},
}

// phone installs the app, refreshes a few times and sometimes signs out.
func phone(ctx context.Context, h *house, p *promises, name string, i int) error {
	now := h.clock.Now()
	in := &identity.Installation{ID: id.New(id.Installation), SecretVersion: 1, BootstrapKey: name + "-" + strconv.Itoa(i), CreatedAt: now, SeenAt: now}
	u := &identity.User{ID: id.New(id.User), Kind: identity.Anonymous, State: identity.UserActive, InstallationID: in.ID, CreatedAt: now}
	s := &identity.Session{ID: id.New(id.Session), UserID: u.ID, InstallationID: in.ID, ClientID: "app", State: identity.SessionActive, KeyVersion: 1, Current: 1,
		RotatedAt: now, CreatedAt: now, AuthTime: now, IdleExpiresAt: now.Add(policy.Idle), ExpiresAt: now.Add(policy.Absolute)}
	if err := h.apply(ctx, identity.Change{Installation: in, User: u, Session: s}); err != nil {
		return err
	}
	p.keep("installation", func() { p.sessions[s.ID] = 1 })
	for token := int64(1); token < 5; token++ {
		v, err := h.refresh(ctx, s.ID, token)
		if err != nil {
			return err
		}
		p.keep("refresh", func() { p.sessions[s.ID] = v.After.Current })
	}
	if i%3 != 0 {
		return nil
	}
	p.mu.Lock()
	p.ending[s.ID] = true
	p.mu.Unlock()
	err := h.apply(ctx, identity.Change{End: []identity.Ending{{SessionID: s.ID, Reason: identity.ReasonSignOut, At: now}},
		Audit: []audit.Entry{{Action: "session.sign_out", Target: s.ID}}})
	if err == nil {
		p.keep("sign-out", func() { delete(p.sessions, s.ID); p.ended = append(p.ended, s.ID) })
	}
	return err
}

func (h *house) apply(ctx context.Context, c identity.Change) error {
	done, err := h.store.Apply(ctx, c)
	if err == nil && !done {
		err = errUnmet
	}
	return err
}

// refresh is what the token endpoint does with a genuine token.
func (h *house) refresh(ctx context.Context, session string, token int64) (identity.Verdict, error) {
	g, err := h.store.Session(ctx, session)
	if err != nil {
		return identity.Verdict{}, err
	}
	v := identity.Decide(g.Session, g.User, identity.Presented{Counter: token, ClientID: "app"}, h.clock.Now().Add(time.Second), policy)
	if !v.Granted() {
		return v, fmt.Errorf("session %s refused refresh token %d: %s %s (the database is at %d)", session, token, v.Rule, v.Reason, g.Session.Current)
	}
	c := identity.Change{Update: &identity.Update{Before: g.Session, After: v.After, At: h.clock.Now()}}
	if v.Rule != identity.RuleRotate {
		c.Audit = []audit.Entry{{Action: "session.recover", Target: session}}
	}
	return v, h.apply(ctx, c)
}

// plainEntry changes something with its audit entry and its job.
func plainEntry(ctx context.Context, h *house, p *promises, name string, i int) error {
	id := name + "-" + strconv.Itoa(i)
	err := h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return h.entry(ctx, tx, id, "") })
	if err == nil {
		p.keep("entry+audit+job", func() { p.entries = append(p.entries, id) })
	}
	return err
}

// keyedCall is a POST to an upstream under a key: held, executed elsewhere, answered.
func keyedCall(ctx context.Context, h *house, p *promises, name string, i int) error {
	key := name + "-" + strconv.Itoa(i)
	r, err := h.keys.Begin(ctx, request(key))
	if err != nil {
		return err
	}
	if r.Outcome != idem.Execute {
		return fmt.Errorf("a fresh key was told %d", r.Outcome)
	}
	p.keep("key begun", func() { p.begun = append(p.begun, key) })
	if err := h.keys.Finish(ctx, r.Lease, idem.Answer{Status: 201, Kept: true, Body: []byte(key)}); err != nil {
		return err
	}
	p.keep("key answered", func() { p.answered[key] = key })
	return nil
}

// keyedTransaction is a keyed write whose effect, key and answer are one transaction.
func keyedTransaction(ctx context.Context, h *house, p *promises, name string, i int) error {
	key := name + "-" + strconv.Itoa(i)
	err := h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := h.keys.BeginTx(ctx, tx, request(key))
		if err != nil {
			return err
		}
		if r.Outcome != idem.Execute {
			return fmt.Errorf("a fresh key was told %d", r.Outcome)
		}
		if err := h.entry(ctx, tx, key, key); err != nil {
			return err
		}
		return h.keys.FinishTx(ctx, tx, r.Lease, idem.Answer{Status: 201, Kept: true, Body: []byte(key)})
	})
	if err == nil {
		p.keep("keyed transaction", func() { p.entries = append(p.entries, key); p.answered[key] = key })
	}
	return err
}

// seal gives audit entries their place.
func seal(ctx context.Context, h *house, _ *promises, _ string, _ int) error {
	time.Sleep(2 * time.Millisecond) // a pace: most looks would find nothing
	return h.audit.Settle(ctx)
}

// keepHouse empties the write-ahead log, rotates a key and cleans.
func keepHouse(ctx context.Context, h *house, p *promises, _ string, i int) error {
	if i%2 == 1 {
		if err := h.db.Checkpoint(ctx); err != nil && !errors.Is(err, sqldb.ErrBusy) {
			return err
		}
		p.keep("checkpoint", func() {})
	}
	if err := h.ring.Rotate(ctx, macPurpose); err != nil {
		return err
	}
	version, mac, err := h.ring.MAC(macPurpose, []byte("message"))
	if err != nil {
		return err
	}
	p.keep("key rotated", func() { p.macs[strconv.Itoa(version)] = mac })
	_, err = h.store.Clean(ctx, identity.Retention{Proofs: h.clock.Now()}, 10)
	return err
}

// check that what was promised is kept. It returns the broken promises.
func (p *promises) check(ctx context.Context, h *house) (broken []string, err error) {
	fail := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	if err := h.checkFile(ctx); err != nil {
		return nil, err
	}
	if _, err := h.audit.Verify(ctx); err != nil {
		fail("the audit log does not verify: %v", err)
	}
	for session, token := range p.sessions {
		if p.ending[session] { // its end was not acknowledged: it may have come or not
			continue
		}
		if v, err := h.refresh(ctx, session, token); err != nil {
			fail("an app is signed out: %v", err)
		} else if v.Rule != identity.RuleRotate && v.Rule != identity.RuleLostResponse {
			fail("refresh token %d of session %s met rule %s", token, session, v.Rule)
		}
	}
	for _, session := range p.ended {
		if g, err := h.store.Session(ctx, session); err != nil || g.Session.State != identity.SessionRevoked {
			fail("session %s was signed out and is %q, %v", session, g.Session.State, err)
		}
	}
	for version, mac := range p.macs {
		if n, err := strconv.Atoi(version); err != nil || !h.ring.VerifyMAC(macPurpose, n, []byte("message"), mac) {
			fail("key version %s is gone: what it signed does not verify", version)
		}
	}
	if err := p.checkKeys(ctx, h, fail); err != nil {
		return nil, err
	}
	return broken, p.checkEntries(ctx, h, fail)
}

// checkFile asks SQLite whether the file is sound.
func (h *house) checkFile(ctx context.Context) error {
	var said string
	if err := h.db.Writer().QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&said); err != nil {
		return err
	}
	if said != "ok" {
		return fmt.Errorf("the database is not sound: %s", said)
	}
	return nil
}

// checkKeys: an answered key replays its answer, a key that was held is not
// stuck once its lease is over, and a key in a transaction is all or nothing.
func (p *promises) checkKeys(ctx context.Context, h *house, fail func(string, ...any)) error {
	h.clock.Advance(2 * time.Minute)
	for key, body := range p.answered {
		r, err := h.keys.Begin(ctx, request(key))
		if err != nil {
			return err
		}
		if r.Outcome != idem.Replay || r.Answer == nil || string(r.Answer.Body) != body {
			fail("key %s was answered, its retry is told %d", key, r.Outcome)
		}
	}
	for _, key := range p.begun {
		if p.answered[key] != "" {
			continue
		}
		q := request(key)
		r, err := h.keys.Begin(ctx, q)
		if err != nil {
			return err
		}
		if r.Outcome == idem.Execute {
			fail("key %s was held, and a retry executes without a word", key)
		}
		q.Forward = true
		if r, err = h.keys.Begin(ctx, q); err != nil {
			return err
		}
		if r.Outcome != idem.Execute && r.Outcome != idem.Replay {
			fail("key %s is stuck: a retry that forwards is told %d", key, r.Outcome)
		}
	}
	return nil
}

// checkEntries: every acknowledged entry is there, and every entry that is
// there has its audit entry, its job, which is worked, and its key.
func (p *promises) checkEntries(ctx context.Context, h *house, fail func(string, ...any)) error {
	there, err := h.column(ctx, `SELECT id FROM chaos_entry`)
	if err != nil {
		return err
	}
	for _, id := range p.entries {
		if !there[id] {
			fail("entry %s is lost", id)
		}
	}
	audited, err := h.column(ctx, `SELECT target FROM audit_entry WHERE action = 'chaos.entry'`)
	if err != nil {
		return err
	}
	keyed, err := h.column(ctx, `SELECT key FROM chaos_entry WHERE key <> ''`)
	if err != nil {
		return err
	}
	for id := range there {
		if !audited[id] {
			fail("entry %s has no audit entry", id)
		}
	}
	for id := range audited {
		if !there[id] {
			fail("audit entry of %s has no change", id)
		}
	}
	for key := range keyed {
		if r, err := h.keys.Begin(ctx, request(key)); err != nil {
			return err
		} else if r.Outcome != idem.Replay {
			fail("key %s took effect and its retry is told %d", key, r.Outcome)
		}
	}
	return h.checkJobs(ctx, there, fail)
}

// checkJobs works what is left and looks for jobs that are missing.
func (h *house) checkJobs(ctx context.Context, entries map[string]bool, fail func(string, ...any)) error {
	if err := h.queue.Start(ctx); err != nil {
		return err
	}
	missing := len(entries)
	for wait := time.Millisecond; missing > 0 && wait < 20*time.Second; wait = wait * 3 / 2 {
		worked, err := h.column(ctx, `SELECT id FROM chaos_worked`)
		if err != nil {
			return errors.Join(err, h.queue.Stop(ctx))
		}
		missing = 0
		for id := range entries {
			if !worked[id] {
				missing++
			}
		}
		if missing > 0 {
			time.Sleep(wait)
		}
	}
	if missing > 0 {
		fail("%d of %d jobs are lost", missing, len(entries))
	}
	return h.queue.Stop(ctx)
}

func (h *house) column(ctx context.Context, query string) (set map[string]bool, err error) {
	set = map[string]bool{}
	err = h.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		rows, err := q.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			set[id] = true
		}
		return rows.Err()
	})
	return set, err
}
