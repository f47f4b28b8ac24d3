package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// versions is a module "note" whose migration i is the i-th text; a text may be given for PostgreSQL only ("name.postgres").
func versions(files map[string]string) sqldb.Migrations {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name+".sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
	}
	return sqldb.Migrations{Module: "note", FS: m}
}

var (
	noteV1 = versions(map[string]string{"0001_note": "CREATE TABLE note (id key_text NOT NULL PRIMARY KEY);"})
	noteV2 = versions(map[string]string{
		"0001_note":  "CREATE TABLE note (id key_text NOT NULL PRIMARY KEY);",
		"0002_title": "ALTER TABLE note ADD COLUMN title TEXT NOT NULL DEFAULT 'none';",
	})
)

func scalar[T any](t *testing.T, db *sqldb.DB, text string) (v T, err error) {
	t.Helper()
	err = db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, text).Scan(&v)
	})
	return v, err
}

func TestMigrateIsForwardAndRepeatable(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t)
		pending := func(want int, m ...sqldb.Migrations) {
			t.Helper()
			if n, err := db.Pending(t.Context(), m...); err != nil || n != want {
				t.Errorf("pending = %d, %v, want %d", n, err, want)
			}
		}
		migrate := func(m ...sqldb.Migrations) {
			t.Helper()
			if err := db.Migrate(t.Context(), m...); err != nil {
				t.Fatal(err)
			}
		}
		pending(3, noteV2, things)
		migrate(noteV1)
		pending(1, noteV2)
		if err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO note (id) VALUES ('old')`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		migrate(noteV2, things)
		migrate(noteV2, things)
		pending(0, noteV2, things, sqldb.Migrations{})
		if title, err := scalar[string](t, db, `SELECT title FROM note WHERE id = 'old'`); err != nil || title != "none" {
			t.Errorf("the old row has %q, %v", title, err)
		}
		for _, table := range []string{"migration_note", "migration_thing"} {
			if n, err := scalar[int](t, db, `SELECT MAX(version_id) FROM `+table); err != nil || n < 1 {
				t.Errorf("%s: %d, %v", table, n, err)
			}
		}
	})
}

func TestMigrateRefusesANewerDatabase(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, noteV2)
		err := db.Migrate(t.Context(), things, noteV1)
		var newer *sqldb.NewerError
		if !errors.As(err, &newer) || newer.Module != "note" || newer.Database != 2 || newer.Binary != 1 {
			t.Fatalf("got %v", err)
		}
		for _, word := range []string{"note", "migration 2", "up to 1", "install", "backup"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not say %q", err, word)
			}
		}
		if n, err := db.Pending(t.Context(), things); err != nil || n != 1 {
			t.Errorf("another module was migrated before the refusal: %d pending, %v", n, err)
		}
	})
}

func TestAMigrationThatFailsLeavesTheVersionBefore(t *testing.T) {
	broken := versions(map[string]string{
		"0001_note":  "CREATE TABLE note (id key_text NOT NULL PRIMARY KEY);",
		"0002_break": "ALTER TABLE note ADD COLUMN title TEXT;\nINSERT INTO nowhere VALUES (1);",
	})
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t)
		err := db.Migrate(t.Context(), broken)
		if err == nil || !strings.Contains(err.Error(), "note") {
			t.Errorf("got %v", err)
		}
		if _, err := scalar[int](t, db, `SELECT COUNT(title) FROM note`); err == nil {
			t.Error("half of a migration stayed")
		}
		if err := db.Migrate(t.Context(), noteV2); err != nil {
			t.Errorf("the corrected one: %v", err)
		}
	})
}

func TestMigrationFilesForOneEngine(t *testing.T) {
	m := versions(map[string]string{
		"0001_note":          "CREATE TABLE note (id key_text NOT NULL PRIMARY KEY, engine TEXT NOT NULL DEFAULT 'general');",
		"0001_note.postgres": "CREATE TABLE note (id key_text NOT NULL PRIMARY KEY, engine TEXT NOT NULL DEFAULT 'special');",
		"0002_row":           "INSERT INTO note (id) VALUES ('x');",
	})
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, m)
		want := map[string]string{sqldb.SQLite: "general", sqldb.Postgres: "special"}[db.Engine()]
		if got, err := scalar[string](t, db, `SELECT engine FROM note`); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		for what, bad := range map[string]sqldb.Migrations{
			"a special file alone": versions(map[string]string{"0001_note.postgres": "SELECT 1;"}),
			"no file":              versions(nil),
			"a bad name":           {Module: `x"; DROP TABLE note`, FS: noteV1.FS},
		} {
			if err := db.Migrate(t.Context(), bad); err == nil {
				t.Errorf("%s was taken", what)
			}
		}
	})
}

func TestNodesThatStartTogetherMigrateOnce(t *testing.T) {
	url := testkit.PostgresURL(t)
	const nodes = 6
	var wg sync.WaitGroup
	for range nodes {
		db := testkit.Open(t, sqldb.Options{URL: url, MaxConns: 1})
		wg.Go(func() {
			if err := db.Migrate(t.Context(), things, noteV2); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	db := testkit.Open(t, sqldb.Options{URL: url})
	if n, err := scalar[int](t, db, `SELECT COUNT(*) FROM migration_note`); err != nil || n != 3 { // 0, 1 and 2
		t.Errorf("%d rows in the version table, %v", n, err)
	}
}

func TestABackupComesBeforeAMigrationAndRestores(t *testing.T) {
	dir := t.TempDir()
	db := testkit.Open(t, sqldb.Options{Dir: dir}, noteV1)
	backups := func() []string {
		list, err := filepath.Glob(filepath.Join(dir, "backups", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := backups(); got != nil {
		t.Fatalf("an empty database was backed up: %q", got)
	}
	for _, text := range []string{`INSERT INTO note (id) VALUES ('kept')`} {
		if err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Migrate(t.Context(), noteV1); err != nil {
		t.Fatal(err)
	}
	if got := backups(); got != nil {
		t.Fatalf("backed up with nothing pending: %q", got)
	}
	if err := db.Migrate(t.Context(), noteV2); err != nil {
		t.Fatal(err)
	}
	got := backups()
	if len(got) != 1 {
		t.Fatalf("backups = %q, want one", got)
	}
	if info, err := os.Stat(got[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's rights are %v, %v", info.Mode(), err)
	}

	restored := t.TempDir()
	data, err := os.ReadFile(got[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(restored, sqldb.DefaultFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	old := testkit.Open(t, sqldb.Options{Dir: restored}, noteV1)
	if id, err := scalar[string](t, old, `SELECT id FROM note`); err != nil || id != "kept" {
		t.Errorf("restored: %q, %v", id, err)
	}
	if n, err := old.Pending(t.Context(), noteV2); err != nil || n != 1 {
		t.Errorf("restored: %d pending, %v", n, err)
	}
}

func TestNothingMigratesWithoutItsBackup(t *testing.T) {
	dir := t.TempDir()
	db := testkit.Open(t, sqldb.Options{Dir: dir}, noteV1)
	if err := os.WriteFile(filepath.Join(dir, "backups"), nil, 0o600); err != nil { // where the directory should be
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), noteV2); err == nil || !strings.Contains(err.Error(), "nothing was migrated") {
		t.Errorf("got %v", err)
	}
	if n, err := db.Pending(t.Context(), noteV2); err != nil || n != 1 {
		t.Errorf("%d pending, %v", n, err)
	}
}

func TestOldBackupsGo(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{}
	var db *sqldb.DB
	for i := range 13 {
		files[fmt.Sprintf("%04d_step", i+1)] = fmt.Sprintf("CREATE TABLE step%d (id key_text NOT NULL PRIMARY KEY);", i)
		if db == nil {
			db = testkit.Open(t, sqldb.Options{Dir: dir}, versions(files))
		} else if err := db.Migrate(t.Context(), versions(files)); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(dir, "backups", "mine.db")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(filepath.Join(dir, "backups", "main-before-migration-*.db"))
	if err != nil || len(list) != 10 {
		t.Errorf("%d backups, %v, want 10", len(list), err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("a file that Migrate did not make has gone")
	}
}

func TestBackup(t *testing.T) {
	db := testkit.SQLite(t, things)
	if err := db.Write(t.Context(), insert("a")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new", "copies")
	path := filepath.Join(dir, `odd ?#%name'.db`)
	if err := db.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), insert("after the copy")); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, testkit.Open(t, sqldb.Options{Dir: dir, File: filepath.Base(path)}), "a")
	if err := db.Backup(t.Context(), path); err == nil {
		t.Error("a file that was there has been replaced")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Backup(ctx, path+"2"); err == nil {
		t.Error("a cancelled backup succeeded")
	}
	if parts, err := filepath.Glob(filepath.Join(dir, "*2*")); err != nil || parts != nil {
		t.Errorf("a failed backup left %q, %v", parts, err)
	}
}
