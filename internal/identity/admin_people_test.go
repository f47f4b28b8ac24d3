package identity

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func (f *fixture) admin(path string, body any) answer {
	f.t.Helper()
	return f.post("/admin/v1"+path, body)
}

func TestSupportFindsAPerson(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		p, q := f.phone("a"), f.phone("b")
		f.events.wants = true
		p.signIn("alice Alice@Example.com", "n1")
		alias := q.user
		q.signIn("alice alice@example.com", "n2")
		for name, body := range map[string]map[string]any{
			"address": {"email": "ALICE@example.com"}, "subject": {"issuer": "https://fake", "subject": "alice"}, "user": {"id": p.user},
			"merged user": {"id": alias}, "installation": {"id": p.installation}, "session": {"id": p.session},
		} {
			a := f.admin("/users/search", body)
			list, _ := a.Body["data"].([]any)
			if len(list) != 1 || list[0].(map[string]any)["id"] != p.user || !strings.Contains(a.Raw, "alice@example.com") || !strings.Contains(a.Raw, alias) {
				t.Errorf("%s: %d %s", name, a.Status, a.Raw)
			}
		}
		for name, body := range map[string]map[string]any{"nobody": {"email": "x@example.com"}, "no subject": {"issuer": "https://fake", "subject": "x"}, "no id": {"id": "usr_01h455vb4pex5vsknk084sn02q"}} {
			if a := f.admin("/users/search", body); a.Status != 200 || !strings.Contains(a.Raw, `"data":[]`) {
				t.Errorf("%s: %d %s", name, a.Status, a.Raw)
			}
		}
		for name, body := range map[string]map[string]any{"nothing": {}, "two": {"email": "x@example.com", "id": p.user}, "no issuer": {"subject": "x"}, "another kind": {"id": "key_01h455vb4pex5vsknk084sn02q"}} {
			if a := f.admin("/users/search", body); a.Status != 400 {
				t.Errorf("%s: %d %s", name, a.Status, a.Raw)
			}
		}
		if n := slices.Index(f.actions(), "user.search"); n < 0 {
			t.Errorf("a search is not in the audit log: %q", f.actions())
		}
	})
}

func TestOperatorsLockAndDelete(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		p.signIn("alice", "n1")
		user, why := p.user, map[string]any{"reason": "asked by phone"}
		if a := f.admin("/users/"+user+"/lock", why); a.Status != 200 || a.str("state") != "locked" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if p.me().Status != 401 || f.token(p.refresh).str("reason") != "account_locked" {
			t.Errorf("a locked user goes on: %s", p.me().Raw)
		}
		if a := f.admin("/users/"+user+"/lock", why); a.Status != 409 {
			t.Errorf("locked twice: %d %s", a.Status, a.Raw)
		}
		p.take(f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret}))
		if p.signIn("alice", "n2"); p.code != "account_locked" {
			t.Errorf("%d %s", p.status, p.last.Raw)
		}
		f.admin("/users/"+user+"/unlock", why)
		if p.signIn("alice", "n3"); p.status != 200 {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if f.admin("/users/"+user+"/end-sessions", why); p.me().Status != 401 {
			t.Errorf("after its sessions were ended: %s", p.me().Raw)
		}
		if a := f.admin("/users/"+user+"/delete", why); a.str("state") != "deleting" || a.str("erasure", "state") != "waiting" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if a := f.admin("/users/"+user+"/undelete", why); a.str("state") != "active" {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if a := f.admin("/users/"+user+"/undelete", why); a.Status != 200 { // it is as was wanted
			t.Errorf("undone twice: %d %s", a.Status, a.Raw)
		}
		identity := must(f.service.store.IdentitiesOf(t.Context(), user, 1))[0].ID
		if a := f.admin("/users/"+user+"/unlink", map[string]any{"identity_id": identity, "reason": "stolen"}); a.Status != 200 || !strings.Contains(a.Raw, `"identities":[]`) {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		f.admin("/users/"+user+"/delete", why)
		f.clock.Advance(20 * 24 * time.Hour)
		if err := f.service.erase(t.Context(), user, 1); err != nil {
			t.Fatal(err)
		}
		if a := f.admin("/users/"+user+"/undelete", why); a.Status != 409 {
			t.Errorf("undone too late: %d %s", a.Status, a.Raw)
		}
		a := f.get("/admin/v1/erasures?limit=1")
		if !strings.Contains(a.Raw, user) || a.Body["page"].(map[string]any)["next"] == nil {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if a := f.admin("/erasures/replay", map[string]any{"users": []string{user}}); a.Body["erased_again"] != 0.0 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	})
}
