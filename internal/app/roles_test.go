package app

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

const rolesConfig = `
app: {id: com.example.app, public_url: "https://api.example.com"}
database: {url: "${DATABASE_URL}", migrate: false}
identity: {email_code: {on: true}, password: {on: true}}
`

func rolesOptions(t *testing.T, url string) Options {
	return Options{ConfigData: []byte(rolesConfig), Data: t.TempDir(), Public: "127.0.0.1:0", Admin: "127.0.0.1:0", Stdout: io.Discard, Stderr: io.Discard, Version: "development",
		Env: config.Env{Lookup: func(name string) (string, bool) { return url, name == "DATABASE_URL" }}}
}

// onPostgres runs statements as the role in the URL, each on its own.
func onPostgres(t *testing.T, url string, statements ...string) error {
	t.Helper()
	db, err := sqldb.Open(context.WithoutCancel(t.Context()), sqldb.Options{URL: url, MaxConns: 1, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err = db.Writer().ExecContext(context.WithoutCancel(t.Context()), s); err != nil {
			break
		}
	}
	return errors.Join(err, db.Close())
}

// TestARuntimeRoleCanServeAndNoMore: one role migrates, the other serves with
// the rights of deploy/postgres/roles.sql (B-22).
func TestARuntimeRoleCanServeAndNoMore(t *testing.T) {
	owner := testkit.PostgresURL(t)
	role := "landline_runtime_" + strings.ToLower(rand.Text()[:12])
	if err := onPostgres(t, owner, `CREATE ROLE `+role+` LOGIN PASSWORD 'of-the-test' NOSUPERUSER NOCREATEDB NOCREATEROLE`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := onPostgres(t, owner, `DROP OWNED BY `+role, `DROP ROLE `+role); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "of-the-test")
	serving := u.String()

	// Nothing is migrated: the server says what to do.
	if _, err := New(t.Context(), rolesOptions(t, serving)); err == nil || ExitCode(err) != ExitConfig || !strings.Contains(err.Error(), "landline db migrate") {
		t.Fatalf("on an empty database: %v", err)
	}
	if _, err := MigrateDatabase(t.Context(), rolesOptions(t, owner)); err != nil {
		t.Fatal(err)
	}
	grants, err := os.ReadFile(filepath.Join("..", "..", "deploy", "postgres", "roles.sql"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(grants), "landline_runtime", role)
	for range 2 { // it may be run again
		if err := onPostgres(t, owner, text); err != nil {
			t.Fatal(err)
		}
	}

	a, err := New(t.Context(), rolesOptions(t, serving))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	h := &theHouse{t: t, app: a}
	p, q := h.account(), h.account()
	for _, c := range []struct {
		match, body string
		status      int
	}{
		{"GET /v1/me", "", 200}, {"PATCH /v1/me", `{"name":"Ada"}`, 200}, {"GET /v1/me/sessions", "", 200}, {"POST /v1/me/export", "", 202},
		{"POST /v1/auth/email-code", `{"email":"ada@example.com"}`, 202}, {"DELETE /v1/me", "", 202},
	} {
		if got := h.ask(c.match, c.body, bearer(p.access)...); got.status != c.status {
			t.Errorf("%s: %d %s", c.match, got.status, got.raw)
		}
	}
	// Jobs run, and what was recorded finds its place in the audit log.
	export := h.ask("POST /v1/me/export", "", bearer(q.access)...).str("id")
	for deadline := time.Now().Add(time.Minute); h.ask("GET /v1/me/exports/"+export, "", bearer(q.access)...).str("state") != "ready"; {
		if time.Now().After(deadline) {
			t.Fatal("the export is not ready after a minute")
		}
		runtime.Gosched()
	}
	if err := a.kernel.audit.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	if n, err := a.kernel.audit.Verify(t.Context()); err != nil || n == 0 {
		t.Errorf("%d audit entries, %v", n, err)
	}
	for _, forbidden := range []string{
		`CREATE TABLE mine (id BIGINT)`, `ALTER TABLE session ADD COLUMN mine BIGINT`, `DROP TABLE app_user`, `TRUNCATE audit_entry`,
		`UPDATE audit_entry SET reason = ''`, `DELETE FROM audit_entry`, `UPDATE audit_staged SET reason = ''`, `DELETE FROM audit_head`,
		`ALTER TABLE audit_entry DISABLE TRIGGER ALL`, `UPDATE migration_identity SET version_id = 1`, `CREATE ROLE mine`,
	} {
		if err := onPostgres(t, serving, forbidden); err == nil || !strings.Contains(err.Error(), "42501") && !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "must be owner") {
			t.Errorf("%s: %v", forbidden, err)
		}
	}
}
