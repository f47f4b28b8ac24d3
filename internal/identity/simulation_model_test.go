package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// This is the reference for simulated people: what users, sessions and records
// there are after each event, in the words of the guide and not of the code. It
// knows nothing of DecideSignIn, of plans and of tables.

// modelUser is a person, or the stand-in that an installation begins with.
type modelUser struct {
	id        string // as the server named it, once it has
	account   bool
	gone      bool // deleted, or part of another
	records   map[string]simRecord
	conflicts []string
	home      string // installation of an anonymous user
}

type modelSession struct {
	user         *modelUser
	installation string
	ended        bool
}

type model struct {
	owners   map[string]*modelUser // by subject at the provider
	standIns map[string]*modelUser // the anonymous user of an installation
	sessions map[string]*modelSession
	became   map[*modelUser]*modelUser // who became part of whom; where is modelUser.home
	users    []*modelUser
}

func newModel() *model {
	return &model{owners: map[string]*modelUser{}, standIns: map[string]*modelUser{}, sessions: map[string]*modelSession{}, became: map[*modelUser]*modelUser{}}
}

func (m *model) newUser(home string, account bool) *modelUser {
	u := &modelUser{records: map[string]simRecord{}, home: home, account: account}
	m.users = append(m.users, u)
	return u
}

// byID finds a user by the server's name.
func (m *model) byID(id string) *modelUser {
	i := slices.IndexFunc(m.users, func(u *modelUser) bool { return u.id == id })
	if i < 0 {
		return nil
	}
	return m.users[i]
}

// sessionOf finds the live session of a user on an installation.
func (m *model) sessionOf(u *modelUser, installation string) *modelSession {
	for _, s := range m.sessions {
		if s.user == u && s.installation == installation && !s.ended {
			return s
		}
	}
	return nil
}

// arrive is a launch, or the return after a sign-out: the installation's
// stand-in, the one it had or a new one.
func (m *model) arrive(installation string) *modelUser {
	u := m.standIns[installation]
	if u == nil || u.gone || u.account {
		u = m.newUser(installation, false)
		m.standIns[installation] = u
	}
	return u
}

type modelMerge struct{ moved, conflicts, deduped int }

// signIn says whose the phone is after a sign-in, which session goes on (nil: a
// new one), and what was carried over (nil: nothing).
func (m *model) signIn(on *modelSession, subject string) (who *modelUser, session *modelSession, merged *modelMerge) {
	me, owner := on.user, m.owners[subject]
	switch {
	case owner == nil && !me.account: // the stand-in becomes a person and keeps all it has
		me.account = true
		m.owners[subject] = me
		return me, on, nil
	case owner == nil: // a second person on the phone
		who = m.newUser("", true)
		m.owners[subject] = who
		return who, nil, nil
	case owner == me:
		return me, on, nil
	}
	there := m.sessionOf(owner, on.installation)
	if me.account || len(me.records) == 0 { // persons are never mixed; an empty stand-in has nothing to bring
		return owner, there, nil
	}
	merged = m.carryOver(me, owner)
	if there == nil {
		on.user = owner
		return owner, on, merged
	}
	on.ended = true
	return owner, there, merged
}

// carryOver makes from part of into.
func (m *model) carryOver(from, into *modelUser) *modelMerge {
	out := &modelMerge{}
	for _, key := range slices.Sorted(maps.Keys(from.records)) {
		one := from.records[key]
		other, both := into.records[key]
		switch one.Collection {
		case "sums", "likes":
			if both {
				out.deduped++
				continue
			}
		case "card":
			if both {
				out.conflicts++
				into.conflicts = append(into.conflicts, conflictText(one))
				continue
			}
		case "settings":
			if both {
				out.conflicts++
				if one.Stamp <= other.Stamp {
					into.conflicts = append(into.conflicts, conflictText(one))
					continue
				}
				into.conflicts = append(into.conflicts, conflictText(other))
				out.moved--
			}
		case "files":
			name := one.Name
			for i := 2; both; i++ {
				name = fmt.Sprintf("%s (%d)", one.Name, i)
				_, both = into.records[one.Collection+"/"+name]
			}
			one.Name = name
		}
		out.moved++
		into.records[one.Collection+"/"+one.Name] = one
	}
	from.records, from.gone = map[string]simRecord{}, true
	m.became[from] = into
	return out
}

func conflictText(r simRecord) string { return r.Collection + "/" + r.Name + "=" + r.Value }

// write says whether a write that was made as user may go out on the session,
// and notes it when done is not known yet.
func (m *model) write(on *modelSession, madeAs *modelUser, r simRecord, again bool) bool {
	if on.user != madeAs && (m.final(madeAs) != on.user || !m.wasHere(madeAs, on)) {
		return false
	}
	if again {
		return true
	}
	key := r.Collection + "/" + r.Name
	old, there := on.user.records[key]
	r.Writes = 1
	if there {
		if r.Collection == "sums" || r.Collection == "likes" {
			return true
		}
		r.Writes = old.Writes + 1
	}
	on.user.records[key] = r
	return true
}

// wasHere reports whether the user who became part of another lived on the session's installation.
func (m *model) wasHere(u *modelUser, on *modelSession) bool { return u.home == on.installation }

// final is who a user is now.
func (m *model) final(u *modelUser) *modelUser {
	for m.became[u] != nil {
		u = m.became[u]
	}
	return u
}

// leave deletes a user with all its sessions and ways in.
func (m *model) leave(u *modelUser) {
	u.gone, u.records, u.conflicts = true, map[string]simRecord{}, nil
	for _, s := range m.sessions {
		s.ended = s.ended || s.user == u
	}
	for subject, owner := range m.owners {
		if owner == u {
			delete(m.owners, subject)
		}
	}
}

// text is a user's records in a form that compares.
func recordsText(all []simRecord) string {
	lines := make([]string, 0, len(all))
	for _, r := range all {
		lines = append(lines, fmt.Sprintf("%s/%s=%s@%d×%d", r.Collection, r.Name, r.Value, r.Stamp, r.Writes))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
