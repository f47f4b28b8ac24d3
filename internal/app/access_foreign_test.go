package app

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"landline/internal/id"
)

// foreign says, for every route that takes an id, what belongs to somebody else
// there: the id of the owner's, and one of the same kind that nobody has. A route
// that is missing fails the test.
var foreign = map[string]func(owner *owned) (theirs, nobodys string){
	"DELETE /v1/me/sessions/{id}":     func(o *owned) (string, string) { return o.session, id.New(id.Session) },
	"GET /v1/me/exports/{id}":         func(o *owned) (string, string) { return o.export, id.New("exp") },
	"GET /v1/me/exports/{id}/archive": func(o *owned) (string, string) { return o.export, id.New("exp") },
}

// owned is an account with one of everything.
type owned struct {
	someone
	export, identity string
}

// varying are the members of a problem that differ between any two requests.
var varying = regexp.MustCompile(`"(trace_id|instance)":"[^"]*",?`)

// TestNobodyReachesWhatIsAnothers is figure F8: every route with an id, asked by
// another account and by an anonymous user, with an id that exists and one that
// does not. Both are answered alike, so that nothing is learnt.
func TestNobodyReachesWhatIsAnothers(t *testing.T) {
	h := newHouse(t)
	o := &owned{someone: h.account()}
	a := h.ask("POST /v1/me/export", "{}", bearer(o.access)...)
	if o.export = a.str("id"); o.export == "" {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	me := h.ask("GET /v1/me", "", bearer(o.access)...)
	identities, _ := me.body["identities"].([]any)
	if len(identities) != 1 {
		t.Fatalf("%d %s", me.status, me.raw)
	}
	o.identity, _ = identities[0].(map[string]any)["id"].(string)

	checked := 0
	for _, who := range []someone{h.account(), h.launch()} {
		for _, r := range h.publicRoutes() {
			if strings.Contains(r.shape, "{") {
				ids, known := foreign[r.shape]
				if !known {
					t.Errorf("%s takes an id; say in foreign what another's is", r.shape)
					continue
				}
				theirs, nobodys := ids(o)
				one := h.ask(fill(r.shape, theirs), "", bearer(who.access)...)
				two := h.ask(fill(r.shape, nobodys), "", bearer(who.access)...)
				if one.status != http.StatusNotFound && one.status != http.StatusForbidden {
					t.Errorf("%s with another's id: %d %s", r.shape, one.status, one.raw)
				}
				if one.status != two.status || varying.ReplaceAllString(one.raw, "") != varying.ReplaceAllString(two.raw, "") {
					t.Errorf("%s tells whether another's thing exists:\n%d %s\n%d %s", r.shape, one.status, one.raw, two.status, two.raw)
				}
				checked += 2
				continue
			}
			if strings.HasPrefix(r.shape, "GET ") { // what lists must not list another's
				got := h.ask(r.match, "", bearer(who.access)...)
				for _, theirs := range []string{o.user, o.session, o.installation, o.export, o.identity} {
					if strings.Contains(got.raw, theirs) {
						t.Errorf("%s shows %s to somebody else", r.shape, theirs)
					}
				}
				checked++
			}
		}
	}
	other := h.account()
	for _, identity := range []string{o.identity, id.New("idn")} { // an id in a body
		if a := h.ask("POST /v1/auth/unlink", `{"identity_id":"`+identity+`"}`, bearer(other.access)...); a.status != http.StatusNotFound {
			t.Errorf("unlinking another's: %d %s", a.status, a.raw)
		}
		checked++
	}
	// The control: the owner reaches all of it.
	if a := h.ask("GET /v1/me/exports/"+o.export, "", bearer(o.access)...); a.status != http.StatusOK {
		t.Errorf("the owner: %d %s", a.status, a.raw)
	}
	if a := h.ask("DELETE /v1/me/sessions/"+o.session, "", bearer(o.access)...); a.status != http.StatusNoContent {
		t.Errorf("the owner: %d %s", a.status, a.raw)
	}
	t.Logf("%d requests", checked)
}
