package identity

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"landline/internal/sqldb"
)

// A merge whose job still runs moves rows to a user who is being erased.
func TestErasureOutrunsAMerge(t *testing.T) {
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice", "n1")
		account, alias := p.user, q.user
		n.add(t, alias, "op")
		q.signIn("alice", "n2")
		n.add(t, alias, "late")
		one := n.eraser()
		erase := one.Erase
		one.Erase = func(ctx context.Context, tx *sqldb.Tx, user string, limit int) (int64, error) {
			count, err := erase(ctx, tx, user, limit)
			if err == nil && user == account { // the next step of the merge's job
				_, err = tx.ExecContext(ctx, `UPDATE note SET user_id = $1 WHERE user_id = $2`, account, alias)
			}
			return count, err
		}
		f.people.Register(one)
		f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...)
		f.clock.Advance(15 * 24 * time.Hour)
		if err := f.service.erase(t.Context(), account, 1); err != nil {
			t.Fatal(err)
		}
		if left := append(n.of(t, account), n.of(t, alias)...); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
		// A backup from before the merge has the alias as a user: it must go again too.
		if users := must(f.service.journal.users()); !slices.Contains(users, account) || !slices.Contains(users, alias) {
			t.Errorf("the journal has %q, not %s and %s", users, account, alias)
		}
		a := f.get("/admin/v1/erasures")
		if data, _ := a.Body["data"].([]any); len(data) != 1 || !slices.Equal(data[0].(map[string]any)["aliases"].([]any), []any{alias}) {
			t.Errorf("%s", a.Raw)
		}
	})
}

// An export that is being made when its user is erased leaves no part behind.
func TestErasureOutrunsAnExport(t *testing.T) {
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		p := f.phone("a")
		user := p.user
		id := f.post("/v1/me/export", nil, p.bearer()...).str("id")
		one := n.eraser()
		one.Export = func(context.Context, string, func(any) error) error {
			f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...)
			return f.service.erase(t.Context(), user, 1)
		}
		f.people.Register(one)
		if err := f.service.export(t.Context(), id, 1); err != nil {
			t.Error(err)
		}
		if e := must(f.service.life.erasure(t.Context(), user)); e.State != ErasureDone {
			t.Errorf("%+v", e)
		}
		if _, err := f.service.life.exportPart(t.Context(), id, 0); !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("a part is left: %v", err)
		}
	})
}
