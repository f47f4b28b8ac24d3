package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// shelves has what makes a copy difficult: a foreign key to a table that comes
// later in the alphabet, numbers that the database gives out, rows of a
// migration, triggers that refuse, and a column of every type.
var shelves = sqldb.Migrations{Module: "shelf", FS: fstest.MapFS{
	"0001_shelf.sql":          {Data: []byte(fmt.Sprintf(shelvesSQL, "INTEGER PRIMARY KEY AUTOINCREMENT") + shelvesSQLiteTrigger)},
	"0001_shelf.postgres.sql": {Data: []byte(fmt.Sprintf(shelvesSQL, "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY") + shelvesPostgresTrigger)},
}}

const shelvesSQL = `-- +goose Up
CREATE TABLE shelf (id key_text NOT NULL PRIMARY KEY);
CREATE TABLE book (
  id     key_text NOT NULL PRIMARY KEY,
  shelf  key_text NOT NULL REFERENCES shelf (id),
  title  TEXT, pages BIGINT, lent BOOLEAN, cover BYTEA
);
CREATE TABLE slip (n %s, text TEXT NOT NULL);
CREATE TABLE head (id BIGINT PRIMARY KEY, size BIGINT NOT NULL);
INSERT INTO head (id, size) VALUES (1, 0);
`

const shelvesSQLiteTrigger = `
-- +goose StatementBegin
CREATE TRIGGER head_grows BEFORE UPDATE ON head WHEN NEW.size IS NOT OLD.size + 1 BEGIN SELECT RAISE(ABORT, 'by one'); END;
-- +goose StatementEnd
`

const shelvesPostgresTrigger = `
-- +goose StatementBegin
CREATE FUNCTION head_stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'stays' USING ERRCODE = 'integrity_constraint_violation'; END $$;
-- +goose StatementEnd
CREATE TRIGGER head_stays BEFORE INSERT OR DELETE ON head FOR EACH ROW EXECUTE FUNCTION head_stays();
`

func fillShelves(t *testing.T, db *sqldb.DB) {
	t.Helper()
	err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range 1500 {
			id := fmt.Sprintf("%c%d", "aÉzZ_"[i%5:][0], i)
			id = strings.ToValidUTF8(id, "é")
			if _, err := tx.ExecContext(ctx, `INSERT INTO shelf (id) VALUES ($1)`, id); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO book (id, shelf, title, pages, lent, cover) VALUES ($1, $2, $3, $4, $5, $6)`,
				"b"+id, id, sql.NullString{String: "line\nbreak\t\\N", Valid: i%2 == 0}, int64(i)<<40, i%3 == 0, []byte{0, 0xff, byte(i)}); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO slip (text) VALUES ($1)`, id); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM slip WHERE n > 1400`); err != nil { // their numbers must not come again
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE head SET size = size + 1`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var shelfOptions = sqldb.CopyOptions{Seeded: []string{"head"}}

func TestCopyMovesEveryRow(t *testing.T) {
	from, to := testkit.SQLite(t, shelves), testkit.Postgres(t, shelves)
	fillShelves(t, from)
	done, err := sqldb.Copy(t.Context(), from, to, shelfOptions)
	if err != nil || done.Tables != 4 || done.Rows != 1500+1500+1400+1 {
		t.Fatalf("%+v, %v", done, err)
	}
	var n, next int64
	err = to.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM book WHERE lent AND title = $1 AND cover IS NOT NULL`, "line\nbreak\t\\N").Scan(&n); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `INSERT INTO slip (text) VALUES ('next') RETURNING n`).Scan(&next)
	})
	if err != nil || n != 250 || next != 1501 {
		t.Errorf("%d lent books of 250, the next slip is %d, want 1501, %v", n, next, err)
	}
	err = to.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM head`)
		return err
	})
	if !errors.Is(err, sqldb.ErrConflict) {
		t.Errorf("the triggers are not back: %v", err)
	}
	if _, err := sqldb.Copy(t.Context(), from, to, shelfOptions); !errors.Is(err, sqldb.ErrNotEmpty) {
		t.Errorf("a second copy: %v", err)
	}
}

// What fails leaves nothing behind, so that it can be repeated.
func TestCopyIsAllOrNothing(t *testing.T) {
	from, to := testkit.SQLite(t, shelves), testkit.Postgres(t, shelves)
	fillShelves(t, from)
	failing := shelfOptions
	failing.Also = func(context.Context, *sql.Tx, *sql.Tx) (int64, error) { return 0, errors.New("no") }
	if _, err := sqldb.Copy(t.Context(), from, to, failing); err == nil {
		t.Fatal("the failure of a part is no failure")
	}
	for table := range strings.SplitSeq("shelf book slip", " ") {
		var n int
		if err := to.Writer().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s has %d rows, %v", table, n, err)
		}
	}
	if _, err := sqldb.Copy(t.Context(), from, to, shelfOptions); err != nil {
		t.Errorf("the repeat: %v", err)
	}
}

func TestCopyRefusesWhatIsNotTheSame(t *testing.T) {
	from, to := testkit.SQLite(t, shelves, things), testkit.Postgres(t, shelves)
	if _, err := sqldb.Copy(t.Context(), from, to, shelfOptions); err == nil || !strings.Contains(err.Error(), "a module that this binary does not have") {
		t.Errorf("a table that is not there: %v", err)
	}
	statement(t, to, `CREATE TABLE thing (id key_text)`)
	statement(t, to, `CREATE TABLE part (id key_text)`)
	if _, err := sqldb.Copy(t.Context(), from, to, shelfOptions); err == nil || !strings.Contains(err.Error(), "the same version") {
		t.Errorf("other columns: %v", err)
	}
	if _, err := sqldb.Copy(t.Context(), to, from, shelfOptions); err == nil {
		t.Error("PostgreSQL was copied to SQLite")
	}
	odd := testkit.SQLite(t, shelves)
	statement(t, odd, `INSERT INTO book (id, shelf, pages) SELECT 'b', 's', 'many' FROM (SELECT 1) WHERE 1 = 0`)
	statement(t, odd, `INSERT INTO shelf (id) VALUES ('s')`)
	statement(t, odd, `INSERT INTO book (id, shelf, pages) VALUES ('b', 's', 'many')`)
	if _, err := sqldb.Copy(t.Context(), odd, testkit.Postgres(t, shelves), shelfOptions); err == nil || !strings.Contains(err.Error(), "column pages") {
		t.Errorf("text in a number's column: %v", err)
	}
}

func statement(t *testing.T, db *sqldb.DB, text string) {
	t.Helper()
	if _, err := db.Writer().ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	dir := t.TempDir()
	db := testkit.Open(t, sqldb.Options{Dir: dir}, things)
	for i := range 200 {
		if err := db.Write(t.Context(), insert(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("a sound database: %v", err)
	}
	backup := filepath.Join(dir, "copy.db")
	if err := db.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	statement(t, db, `PRAGMA foreign_keys = OFF`)
	statement(t, db, `INSERT INTO part (id, thing) VALUES ('p', 'nothing')`)
	if err := db.Check(t.Context()); !errors.Is(err, sqldb.ErrCorrupt) || !strings.Contains(err.Error(), "part") {
		t.Errorf("a foreign key that leads nowhere: %v", err)
	}

	raw, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"a page":    func(b []byte) []byte { copy(b[4096:], strings.Repeat("x", 4096)); return b },
		"the head":  func(b []byte) []byte { copy(b, "no database"); return b },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
	} {
		bad := filepath.Join(t.TempDir(), "bad.db")
		if err := os.WriteFile(bad, spoil(append([]byte(nil), raw...)), 0o600); err != nil {
			t.Fatal(err)
		}
		o := sqldb.Options{Dir: filepath.Dir(bad), File: "bad.db", ReadOnly: true, Log: testkit.Logger(t)}
		broken, err := sqldb.Open(t.Context(), o)
		if err == nil {
			err = errors.Join(broken.Check(t.Context()), broken.Close())
		}
		if !errors.Is(err, sqldb.ErrCorrupt) || !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadOnlyLeavesTheFileAlone(t *testing.T) {
	dir := t.TempDir()
	db := testkit.Open(t, sqldb.Options{Dir: dir}, things)
	if err := db.Write(t.Context(), insert("kept")); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := db.Backup(t.Context(), filepath.Join(elsewhere, "copy.db")); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(elsewhere, "copy.db"))
	if err != nil {
		t.Fatal(err)
	}
	reading, err := sqldb.Open(t.Context(), sqldb.Options{Dir: elsewhere, File: "copy.db", ReadOnly: true, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := reading.Write(t.Context(), insert("more")); !errors.Is(err, sqldb.ErrUnavailable) {
		t.Errorf("a write: %v", err)
	}
	wantIDs(t, reading, "kept")
	if migrated, err := reading.Migrated(t.Context(), things); err != nil || !migrated {
		t.Errorf("migrated = %t, %v", migrated, err)
	}
	if n, err := reading.Pending(t.Context(), things); err != nil || n != 0 {
		t.Errorf("%d pending, %v", n, err)
	}
	if err := reading.Close(); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile(filepath.Join(elsewhere, "copy.db"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the file has changed: %v", err)
	}
	files, err := os.ReadDir(elsewhere)
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
	if _, err := sqldb.Open(t.Context(), sqldb.Options{Dir: elsewhere, File: "none.db", ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
