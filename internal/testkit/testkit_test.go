package testkit_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

var words = sqldb.Migrations{Module: "word", FS: fstest.MapFS{"0001_word.sql": &fstest.MapFile{
	Data: []byte("-- +goose Up\nCREATE TABLE word (w key_text NOT NULL PRIMARY KEY);\n"),
}}}

func TestEnginesGivesFreshMigratedDatabasesOfBoth(t *testing.T) {
	var seen []string
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		for range 2 { // the second is empty again
			db := open(t, words)
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO word (w) VALUES ($1)`, "w")
				return err
			})
			if err != nil {
				t.Error(err)
			}
			seen = append(seen, db.Engine())
		}
	})
	if want := []string{sqldb.SQLite, sqldb.SQLite, sqldb.Postgres, sqldb.Postgres}; !slices.Equal(seen, want) {
		t.Errorf("engines = %q, want %q", seen, want)
	}
}

func TestADatabaseGoesWithItsTest(t *testing.T) {
	var gone string
	t.Run("inner", func(t *testing.T) {
		u, err := url.Parse(testkit.PostgresURL(t))
		if err != nil {
			t.Fatal(err)
		}
		gone = strings.TrimPrefix(u.Path, "/")
	})
	db := testkit.Postgres(t)
	var n int
	if err := db.Writer().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_database WHERE datname = $1`, gone).Scan(&n); err != nil || n != 0 || gone == "" {
		t.Errorf("%q is there %d times, %v", gone, n, err)
	}
}

func TestRedisPrefixesDiffer(t *testing.T) {
	first, second := testkit.RedisPrefix(t), testkit.RedisPrefix(t)
	if testkit.Redis(t) == "" || first == second {
		t.Error("two tests would share keys")
	}
}

func TestALoggerOutlivesItsTest(t *testing.T) {
	var log *slog.Logger
	t.Run("inner", func(t *testing.T) { log = testkit.Logger(t) })
	log.Info("late") // must not panic
}

// A missing engine must fail the run, never skip it, and say what to do.
func TestAMissingEngineFails(t *testing.T) {
	for name, variable := range map[string]string{"TestADatabaseGoesWithItsTest": "TEST_POSTGRES_URL", "TestRedisPrefixesDiffer": "TEST_REDIS_URL"} {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+name+"$", "-test.v")
		c.Env = append(os.Environ(), variable+"=")
		out, err := c.CombinedOutput()
		if err == nil || !strings.Contains(string(out), variable+" is not set") || !strings.Contains(string(out), "scripts/testdb start") || strings.Contains(string(out), "SKIP") {
			t.Errorf("without %s: %v\n%s", variable, err, out)
		}
	}
}
