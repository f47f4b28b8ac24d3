package testkit

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"landline/internal/sqldb"
)

const wayOut = `: start the private servers and export their addresses with

	scripts/testdb start && eval "$(scripts/testdb env)"`

// Engines runs fn as the subtests "sqlite" and "postgres". Each call of open
// gives a fresh, empty database with m applied, closed and deleted with its test.
func Engines(t *testing.T, fn func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB)) {
	t.Helper()
	t.Run(sqldb.SQLite, func(t *testing.T) { fn(t, SQLite) })
	t.Run(sqldb.Postgres, func(t *testing.T) { fn(t, Postgres) })
}

// SQLite opens a fresh SQLite file with m applied.
func SQLite(t *testing.T, m ...sqldb.Migrations) *sqldb.DB {
	t.Helper()
	return Open(t, sqldb.Options{Dir: t.TempDir()}, m...)
}

// Postgres opens a fresh PostgreSQL database with m applied.
func Postgres(t *testing.T, m ...sqldb.Migrations) *sqldb.DB {
	t.Helper()
	return Open(t, sqldb.Options{URL: PostgresURL(t), MaxConns: 8}, m...)
}

// Open opens o with m applied and closes it with the test. Use it where a test
// needs other options than SQLite and Postgres take.
func Open(t *testing.T, o sqldb.Options, m ...sqldb.Migrations) *sqldb.DB {
	t.Helper()
	if o.Log == nil {
		o.Log = Logger(t)
	}
	db, err := sqldb.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the test database: %v", err)
		}
	})
	if err := db.Migrate(t.Context(), m...); err != nil {
		t.Fatal(err)
	}
	return db
}

// PostgresURL creates an empty database and returns its address; the database
// is dropped with the test. Its default collation is linguistic (ICU en-US),
// whatever the server's is, so that text keys without the domain key_text fail.
func PostgresURL(t *testing.T) string {
	t.Helper()
	server := os.Getenv("TEST_POSTGRES_URL")
	if server == "" {
		t.Fatal("TEST_POSTGRES_URL is not set" + wayOut)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("TEST_POSTGRES_URL is not a URL")
	}
	name := "landline_test_" + strings.ToLower(rand.Text()[:16])
	execOnServer(t, server, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'`)
	t.Cleanup(func() { execOnServer(t, server, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`) })
	u.Path = "/" + name
	return u.String()
}

// execOnServer runs one statement on the server's own database. It must also
// work in a cleanup, when the test's context has ended.
func execOnServer(t *testing.T, server, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	db, err := sqldb.Open(ctx, sqldb.Options{URL: server, MaxConns: 1, Log: Logger(t)})
	if err != nil {
		t.Fatalf("TEST_POSTGRES_URL cannot be reached: %v%s", err, wayOut)
	}
	_, err = db.Writer().ExecContext(ctx, statement)
	if closed := db.Close(); err == nil {
		err = closed
	}
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
