package identity

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// simPeople is one script's world: three phones, the server and the model.
type simPeople struct {
	s      *simServer
	name   string
	model  *model
	phones [3]*simPhone
	counts map[string]int
	nonce  int
	stamp  int64
	merged []string
	later  []func() simAnswer // copies of requests that the network still holds
}

// simPhone is an app with what it has stored.
type simPhone struct {
	key                  string // of its first launch
	installation, secret string
	sessions             []*phoneSession
	cur                  *phoneSession
	outbox               []*phoneWrite
	offline              bool
	was                  map[string]string // user ids that became another's, as the app has learnt
}

// phoneSession is what an app has stored of a session.
type phoneSession struct{ id, user, access, refresh string }

// phoneWrite waits in an offline queue, under the user who made it.
type phoneWrite struct {
	madeAs  *modelUser
	user    string
	key     string
	body    simRecord
	applied bool // the server has it, whether the app knows or not
}

func (w *simPeople) fault(class, format string, args ...any) {
	panic(&simFault{class, fmt.Sprintf(format, args...)})
}

func (w *simPeople) phone(n int) *simPhone {
	if w.phones[n] == nil {
		w.phones[n] = &simPhone{key: fmt.Sprintf("first-launch-of-%s-phone-%d", w.name, n), was: map[string]string{}}
	}
	return w.phones[n]
}

// send makes a call through the network and says whether the app hears the answer.
func (w *simPeople) send(net int, call func() simAnswer) (a simAnswer, heard bool) {
	switch net {
	case netRequestLost:
		return a, false
	case netAnswerLost:
		call()
		return a, false
	case netTwice:
		a = call()
		call()
		return a, true
	case netLater:
		w.later = append(w.later, call)
	}
	return call(), true
}

// flushNetwork delivers the copies that were held back; nobody hears the answers.
func (w *simPeople) flushNetwork() {
	held := w.later
	w.later = nil
	for _, call := range held {
		call()
	}
}

func (w *simPeople) act(a simAction) {
	w.s.clock.Advance(time.Second)
	w.flushNetwork()
	p := w.phone(a.Phone)
	switch a.What {
	case "write":
		w.write(p, a)
	case "sign in":
		if !p.offline {
			w.signIn(p, fmt.Sprintf("subject%d-of-%s", a.A%2, w.name), a.Net, a.B%2 == 0)
		}
	case "sign out":
		if !p.offline {
			w.signOut(p, a.Net)
		}
	case "refresh":
		if !p.offline {
			w.ensure(p)
			w.refresh(p, a.Net)
		}
	case "switch":
		if len(p.sessions) > 0 {
			p.cur = p.sessions[a.A%len(p.sessions)]
		}
	case "offline", "online":
		p.offline = a.What == "offline"
		if !p.offline {
			w.flush(p, a.Net)
		}
	case "flush":
		if !p.offline {
			w.flush(p, a.Net)
		}
	case "delete":
		if !p.offline {
			w.leave(p, a.Net)
		}
	case "reinstall":
		w.reinstall(p, a.A%2 == 0)
	case "wait":
		w.s.clock.Advance(time.Duration(a.A%7200) * time.Second)
		for _, from := range w.merged { // the second look at a merge, whenever it comes
			w.s.must(w.s.service.finishMerge(context.Background(), from))
		}
	case "stranger":
		w.stranger(p, w.phone(a.B%3))
	}
}

// sees learns the server's name of a user, or checks that it is the one known.
func (w *simPeople) sees(u *modelUser, id string, what string) {
	if u.id == "" {
		u.id = id
	}
	if u.id != id {
		w.fault(faultWrong, "%s is %s, wanted %s", what, id, u.id)
	}
}

// holds puts the tokens of an answer on the phone.
func (p *simPhone) holds(id, user, access, refresh string) *phoneSession {
	i := slices.IndexFunc(p.sessions, func(s *phoneSession) bool { return s.id == id })
	if i < 0 {
		p.sessions = append(p.sessions, &phoneSession{id: id})
		i = len(p.sessions) - 1
	}
	s := p.sessions[i]
	if s.user != "" && s.user != user {
		p.was[s.user] = user
	}
	s.user, s.access, s.refresh = user, access, refresh
	return s
}

func (p *simPhone) drop(s *phoneSession) {
	p.sessions = slices.DeleteFunc(p.sessions, func(o *phoneSession) bool { return o == s })
	if p.cur == s {
		p.cur = nil
	}
}

// register is a launch or a return; every delivered call is a return.
func (w *simPeople) register(p *simPhone, reinstalled bool) {
	body, header := map[string]any{}, []string{"Idempotency-Key", p.key}
	if p.installation != "" {
		body = map[string]any{"installation_id": p.installation, "installation_secret": p.secret, "reinstalled": reinstalled}
		header = nil
	}
	a := w.s.call(http.MethodPost, registerPath, "", body, header...)
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		w.fault(faultAnswer, "register: %d %s", a.status, a.raw)
	}
	if p.installation == "" {
		p.installation, p.secret = a.str("installation", "id"), a.str("installation", "secret")
	}
	if p.installation != a.str("installation", "id") {
		w.fault(faultWrong, "the installation %s came back as %s", p.installation, a.str("installation", "id"))
	}
	if reinstalled {
		for _, s := range w.model.sessions {
			s.ended = s.ended || s.installation == p.installation && s.user.account
		}
	}
	u := w.model.arrive(p.installation)
	w.sees(u, a.str("user", "id"), "the stand-in")
	w.session(a.str("session", "id"), u, p.installation, w.model.sessionOf(u, p.installation))
	p.cur = p.holds(a.str("session", "id"), u.id, a.str("session", "access_token"), a.str("session", "refresh_token"))
}

// session checks that id is the session that goes on or, for nil, a new one.
func (w *simPeople) session(id string, u *modelUser, installation string, on *modelSession) {
	known := w.model.sessions[id]
	switch {
	case on != nil && known != on:
		w.fault(faultAnswer, "the user's session on the installation did not go on")
	case on == nil && known != nil:
		w.fault(faultAnswer, "a session that had ended is back")
	case on == nil:
		w.model.sessions[id] = &modelSession{user: u, installation: installation}
	}
}

// ensure gives the phone a session that works, and checks that the server ends
// none without a reason and keeps none that has ended.
func (w *simPeople) ensure(p *simPhone) {
	for range 5 {
		if p.cur == nil {
			w.register(p, false)
		}
		truth := w.model.sessions[p.cur.id]
		a := w.s.call(http.MethodGet, "/v1/me", p.cur.access, nil)
		switch {
		case a.status == http.StatusOK && truth.ended:
			w.fault(faultWrong, "a session that has ended is answered")
		case a.status == http.StatusOK:
			w.sees(truth.user, a.str("id"), "the session's user")
			if p.cur.user != a.str("id") {
				p.was[p.cur.user] = a.str("id")
				p.cur.user = a.str("id")
			}
			return
		case a.status == http.StatusUnauthorized && a.str("recoverable") == recoverRefresh:
			w.refresh(p, netFine)
		case truth.ended && a.status == http.StatusUnauthorized:
			p.drop(p.cur)
		default:
			w.fault(faultAnswer, "a session that is good: %d %s", a.status, a.raw)
		}
	}
	w.fault(faultAnswer, "a phone cannot get a session that works")
}

func (w *simPeople) refresh(p *simPhone, net int) {
	token, truth := p.cur.refresh, w.model.sessions[p.cur.id]
	a, heard := w.send(net, func() simAnswer {
		a := w.s.refresh(token)
		if (a.status == http.StatusOK) == truth.ended {
			w.fault(faultAnswer, "ended %v, but a refresh: %d %s", truth.ended, a.status, a.raw)
		}
		return a
	})
	switch {
	case !heard:
	case a.status == http.StatusOK:
		p.cur.access, p.cur.refresh = a.str("access_token"), a.str("refresh_token")
	default:
		p.drop(p.cur)
	}
}

var simNames = map[string][]string{
	"sums": {"op0", "op1", "op2"}, "likes": {"cats", "dogs"}, "card": {"card"},
	"settings": {"theme", "units"}, "files": {"a.txt", "b.txt"},
}

// write queues a write under the user whom the app believes to be, and sends it when it can.
func (w *simPeople) write(p *simPhone, a simAction) {
	if p.cur == nil {
		if p.offline {
			return
		}
		w.ensure(p)
	}
	collections := []string{"sums", "likes", "card", "settings", "files"}
	collection := collections[a.A%len(collections)]
	names := simNames[collection]
	w.stamp++
	body := simRecord{Collection: collection, Name: names[a.B%len(names)], Value: fmt.Sprintf("v%d", w.stamp), Stamp: int64(a.B % 50)}
	made := w.model.byID(p.cur.user)
	p.outbox = append(p.outbox, &phoneWrite{madeAs: made, user: p.cur.user, key: fmt.Sprintf("%s-%d", w.name, w.stamp), body: body})
	if !p.offline {
		w.flush(p, a.Net)
	}
}

// belongs reports whether the app may send a write of user on its session, as far as it knows.
func (p *simPhone) belongs(user string) bool {
	for range len(p.was) + 1 {
		if user == p.cur.user {
			return true
		}
		user = p.was[user]
	}
	return false
}

// flush sends what waits and belongs to who is signed in.
func (w *simPeople) flush(p *simPhone, net int) {
	w.ensure(p)
	for _, one := range slices.Clone(p.outbox) {
		if p.belongs(one.user) && w.deliver(p, one, net, false) {
			p.outbox = slices.DeleteFunc(p.outbox, func(o *phoneWrite) bool { return o == one })
		}
	}
}

// deliver sends one write. A repeat must be answered as the first was. A token
// that is older than a merge, whose answer was lost, does not know of it: before
// an app parks a write for another user it refreshes once.
func (w *simPeople) deliver(p *simPhone, one *phoneWrite, net int, fresh bool) (done bool) {
	access, on, first := p.cur.access, w.model.sessions[p.cur.id], true
	a, heard := w.send(net, func() simAnswer {
		a := w.s.call(http.MethodPost, "/v1/records", access, one.body, "Idempotency-Key", one.key, "Expect-User", one.user)
		late := !first // of copies, and when the world has gone on
		first = false
		switch a.status {
		case http.StatusNoContent:
			if one.applied {
				w.counts["repeats answered"]++
			}
			if one.madeAs != on.user {
				w.counts["late writes"]++
			}
			if !w.model.write(on, one.madeAs, one.body, one.applied) {
				w.fault(faultWrong, "a write of %s was taken for %s", one.user, on.user.id)
			}
			one.applied = true
		case http.StatusUnauthorized, http.StatusPreconditionFailed:
			if !late && (fresh || a.status != http.StatusPreconditionFailed) {
				w.fault(faultLost, "the own write of %s was refused on the session of %s: %d %s", one.user, on.user.id, a.status, a.raw)
			}
		default:
			w.fault(faultAnswer, "a write: %d %s", a.status, a.raw)
		}
		return a
	})
	if heard && a.status == http.StatusPreconditionFailed && !fresh {
		if w.refresh(p, netFine); p.cur != nil {
			w.counts["writes after a refresh"]++
			return w.deliver(p, one, netFine, true)
		}
	}
	return heard && a.status == http.StatusNoContent
}

// stranger tries to write for somebody else; nothing may come of it.
func (w *simPeople) stranger(p, other *simPhone) {
	if p.offline || other == p || other.cur == nil {
		return
	}
	w.ensure(p)
	on, target := w.model.sessions[p.cur.id], w.model.byID(other.cur.user)
	if target == on.user || w.model.final(target) == on.user && w.model.wasHere(target, on) {
		return
	}
	w.nonce++
	a := w.s.call(http.MethodPost, "/v1/records", p.cur.access, simRecord{Collection: "files", Name: "stolen", Value: "x"},
		"Idempotency-Key", fmt.Sprintf("%s-stranger-%d", w.name, w.nonce), "Expect-User", target.id)
	if a.status != http.StatusPreconditionFailed || a.str("code") != "wrong_user" {
		w.fault(faultWrong, "%s wrote for %s: %d %s", on.user.id, target.id, a.status, a.raw)
	}
	w.counts["refused for another user"]++
}
