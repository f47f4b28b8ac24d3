package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// signIn sends a fresh credential of subject; when the answer does not come, the
// app may send the same credential again.
func (w *simPeople) signIn(p *simPhone, subject string, net int, again bool) {
	w.nonce++
	nonce := fmt.Sprintf("%s-%d", w.name, w.nonce)
	var first *simAnswer
	for try := range 2 {
		w.ensure(p)
		access, on := p.cur.access, w.model.sessions[p.cur.id]
		a, heard := w.send(net, func() simAnswer {
			a := w.s.call(http.MethodPost, "/v1/auth/sign-in", access, map[string]any{"provider": "fake", "code": subject, "nonce": nonce})
			switch {
			case first == nil:
				w.signedIn(p, on, subject, a)
				first = &a
			case a.status == http.StatusOK && (a.str("user", "id") != first.str("user", "id") || a.str("session", "id") != first.str("session", "id") || a.str("merged", "id") != first.str("merged", "id")):
				w.fault(faultWrong, "the repeat of a sign-in is answered otherwise: %s", a.raw)
			case a.status == http.StatusOK:
				w.counts["sign-ins repeated"]++
			case a.status != http.StatusUnauthorized && a.str("code") != "credential_used":
				w.fault(faultAnswer, "the repeat of a sign-in: %d %s", a.status, a.raw)
			}
			return a
		})
		if heard && a.status == http.StatusOK {
			w.took(p, a)
			return
		}
		if try == 0 && !again {
			return
		}
		net = netFine
	}
}

// signedIn compares the answer of a sign-in with what the model says of it.
func (w *simPeople) signedIn(p *simPhone, on *modelSession, subject string, a simAnswer) {
	if a.status != http.StatusOK {
		w.fault(faultAnswer, "a sign-in: %d %s", a.status, a.raw)
	}
	me, wasAccount := on.user, on.user.account
	before := len(me.records)
	if owner := w.model.owners[subject]; owner != nil && owner != me {
		before += len(owner.records)
	}
	who, session, merged := w.model.signIn(on, subject)
	w.sees(who, a.str("user", "id"), "who signed in")
	w.session(a.str("session", "id"), who, p.installation, session)
	if !wasAccount && who == me {
		w.counts["promotions"]++
	}
	if (merged != nil) != (a.body["merged"] != nil) {
		w.fault(faultAnswer, "merged %v, wanted %v: %s", a.body["merged"], merged, a.raw)
	}
	if merged == nil {
		return
	}
	w.counts["merges"]++
	w.counts["conflicts"] += merged.conflicts
	w.counts["deduped"] += merged.deduped
	for _, r := range who.records {
		if r.Collection == "files" && len(r.Name) > len("a.txt") {
			w.counts["renamed"]++
		}
	}
	w.merged = append(w.merged, me.id)
	m, err := w.s.service.store.MergeOf(context.Background(), me.id)
	w.s.must(err)
	if m.Into != who.id || m.State != MergeDone || m.Records != int64(merged.moved) || m.Conflicts != int64(merged.conflicts) || m.Deduped != int64(merged.deduped) {
		w.fault(faultLaw, "the merge is %+v, wanted %+v", m, *merged)
	}
	if after := len(w.s.rowsOf(who.id)) + int(m.Conflicts+m.Deduped); before != after { // |A|+|U| = |U'|+|conflicts|+|deduped|
		w.fault(faultLaw, "two users had %d records; %d are the account's, conflicts or the same ones", before, after)
	}
	if left := w.s.rowsOf(me.id); len(left) > 0 {
		w.fault(faultDoubled, "the merged user still has %d records", len(left))
	}
}

// took stores the answer of a sign-in as an app does.
func (w *simPeople) took(p *simPhone, a simAnswer) {
	before := p.cur
	if from := a.str("merged", "from"); from != "" && from != a.str("user", "id") {
		p.was[from] = a.str("user", "id")
	}
	now := p.holds(a.str("session", "id"), a.str("user", "id"), a.str("session", "access_token"), a.str("session", "refresh_token"))
	if before != now && p.was[before.user] != "" {
		p.drop(before)
	}
	p.cur = now
}

// signOut forgets the session at once and tells the server until it has heard.
func (w *simPeople) signOut(p *simPhone, net int) {
	w.ensure(p)
	access, truth := p.cur.access, w.model.sessions[p.cur.id]
	for range 2 {
		_, heard := w.send(net, func() simAnswer {
			a := w.s.call(http.MethodPost, "/v1/auth/sign-out", access, nil)
			if a.status != http.StatusNoContent && !truth.ended {
				w.fault(faultAnswer, "a sign-out: %d %s", a.status, a.raw)
			}
			truth.ended = true
			return a
		})
		if heard {
			break
		}
		net = netFine
	}
	p.drop(p.cur)
	p.cur = nil
	w.ensure(p)
}

// leave deletes the user, who has just proved themselves, and erases at once.
func (w *simPeople) leave(p *simPhone, net int) {
	w.ensure(p)
	truth := w.model.sessions[p.cur.id]
	for subject, owner := range w.model.owners {
		if owner == truth.user {
			w.signIn(p, subject, netFine, false)
			break
		}
	}
	access, u, done := p.cur.access, truth.user, false
	_, heard := w.send(net, func() simAnswer {
		a := w.s.call(http.MethodDelete, "/v1/me", access, nil)
		if a.status != http.StatusAccepted && !done {
			w.fault(faultAnswer, "a deletion: %d %s", a.status, a.raw)
		}
		if !done {
			done = true
			w.model.leave(u)
			w.s.must(w.s.service.erase(context.Background(), u.id, 1))
			w.counts["deletions"]++
		}
		return a
	})
	if heard {
		p.drop(p.cur)
	}
	w.ensure(p)
}

// reinstall wipes the app. iOS keeps the installation's credential, Android keeps nothing.
func (w *simPeople) reinstall(p *simPhone, kept bool) {
	if p.installation == "" || p.offline {
		return
	}
	p.sessions, p.cur, p.outbox, p.was = nil, nil, nil, map[string]string{}
	if kept {
		w.register(p, true)
		return
	}
	w.nonce++
	p.installation, p.secret, p.key = "", "", fmt.Sprintf("%s-again-%d", p.key, w.nonce)
	w.register(p, false)
}

// heal ends all trouble. Everybody signs in as whoever has something waiting;
// then nothing may wait any more, but what was made by users who are deleted.
func (w *simPeople) heal() {
	w.flushNetwork()
	w.s.clock.Advance(time.Minute)
	for _, p := range w.phones {
		if p == nil {
			continue
		}
		p.offline = false
		for range 2 * len(simActs) {
			w.flush(p, netFine)
			if len(p.outbox) == 0 {
				break
			}
			w.become(p, p.outbox[0])
		}
		if len(p.outbox) > 0 {
			w.fault(faultLost, "%d writes of %s cannot be sent any more", len(p.outbox), p.outbox[0].user)
		}
	}
}

// become makes the phone's session that of whoever one belongs to, or gives one up with its user.
func (w *simPeople) become(p *simPhone, one *phoneWrite) {
	owner := w.model.final(one.madeAs)
	if owner.gone {
		p.outbox = slices.DeleteFunc(p.outbox, func(o *phoneWrite) bool { return o == one })
		w.counts["given up with their user"]++
		return
	}
	for _, s := range p.sessions {
		if truth := w.model.sessions[s.id]; truth.user == owner && !truth.ended {
			p.cur = s
			w.ensure(p)
			p.was[one.user] = p.cur.user
			return
		}
	}
	w.register(p, false)
	for subject, u := range w.model.owners {
		if u == owner {
			w.signIn(p, subject, netFine, false)
			if one.user != p.cur.user {
				p.was[one.user] = p.cur.user // the server told so once, or the app would not have the write
			}
			return
		}
	}
}

// compare holds the server against the model: rows, what each session is shown, and conflicts.
func (w *simPeople) compare() {
	for _, u := range w.model.users {
		if u.id == "" {
			continue
		}
		want := make([]simRecord, 0, len(u.records))
		for _, r := range u.records {
			want = append(want, r)
		}
		got := w.s.rowsOf(u.id)
		if recordsText(got) == recordsText(want) {
			continue
		}
		class := faultLost
		if len(got) > len(want) || len(got) == len(want) && sumWrites(got) > sumWrites(want) {
			class = faultDoubled
		}
		w.fault(class, "user %s has\n%s\nwanted\n%s", u.id, recordsText(got), recordsText(want))
	}
	for _, p := range w.phones {
		if p == nil {
			continue
		}
		for _, s := range slices.Clone(p.sessions) {
			p.cur = s
			if w.model.sessions[s.id].ended {
				continue
			}
			w.ensure(p)
			w.shown(p, w.model.sessions[s.id].user)
		}
	}
}

func sumWrites(all []simRecord) (n int64) {
	for _, r := range all {
		n += r.Writes
	}
	return n
}

// shown checks what the API gives the session of u.
func (w *simPeople) shown(p *simPhone, u *modelUser) {
	var records struct{ Data []simRecord }
	a := w.s.call(http.MethodGet, "/v1/records", p.cur.access, nil)
	w.s.must(json.Unmarshal([]byte(a.raw), &records))
	want := make([]simRecord, 0, len(u.records))
	for _, r := range u.records {
		want = append(want, r)
	}
	if a.status != http.StatusOK || recordsText(records.Data) != recordsText(want) {
		w.fault(faultWrong, "%s is shown %s", u.id, a.raw)
	}
	var conflicts struct {
		Data []struct {
			Collection, Key string
			Record          string
		}
	}
	a = w.s.call(http.MethodGet, "/v1/me/merge-conflicts?limit=100", p.cur.access, nil)
	w.s.must(json.Unmarshal([]byte(a.raw), &conflicts))
	got := []string{}
	for _, c := range conflicts.Data {
		got = append(got, conflictText(simRecord{Collection: c.Collection, Name: c.Key, Value: c.Record}))
	}
	kept := slices.Clone(u.conflicts)
	slices.Sort(got)
	slices.Sort(kept)
	if a.status != http.StatusOK || !slices.Equal(got, kept) {
		w.fault(faultLost, "%s can read the conflicts %q, wanted %q", u.id, got, kept)
	}
}
