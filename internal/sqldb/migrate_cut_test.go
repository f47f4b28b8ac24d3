package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// counted are migrations whose being applied twice, or in part, shows in the
// rows: n begins with 1 and must become 4.
func counted(version int) sqldb.Migrations {
	files := fstest.MapFS{"0001_count.sql": {Data: []byte("-- +goose Up\nCREATE TABLE counted (id key_text NOT NULL PRIMARY KEY, n BIGINT NOT NULL);")}}
	if version >= 3 {
		files["0002_title.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nUPDATE counted SET n = n + 1;\nALTER TABLE counted ADD COLUMN title TEXT NOT NULL DEFAULT 'none';")}
		files["0003_double.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE INDEX counted_title ON counted (title, n);\nUPDATE counted SET n = n * 2;")}
	}
	return sqldb.Migrations{Module: "counted", FS: files}
}

const countedRows = 40

func fillCounted(t *testing.T, db *sqldb.DB) {
	t.Helper()
	err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range countedRows {
			if _, err := tx.ExecContext(ctx, `INSERT INTO counted (id, n) VALUES ($1, 1)`, fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// upgraded wants every migration to have been applied once.
func upgraded(t *testing.T, when string, db *sqldb.DB) {
	t.Helper()
	for text, want := range map[string]int{
		`SELECT COUNT(*) FROM counted WHERE n = 4 AND title = 'none'`:    countedRows,
		`SELECT COUNT(*) FROM counted`:                                   countedRows,
		`SELECT COUNT(*) FROM migration_counted WHERE version_id > 0`:    3,
		`SELECT MAX(version_id) FROM migration_counted WHERE is_applied`: 3,
	} {
		if n, err := scalar[int](t, db, text); err != nil || n != want {
			t.Errorf("%s: %s is %d, want %d, %v", when, text, n, want, err)
		}
	}
}

// The power goes before every single operation of an upgrade, the backup before
// it included. The next start finds the schema before or after each migration.
func TestAPowerCutDuringAMigration(t *testing.T) {
	from := t.TempDir()
	old := testkit.Open(t, sqldb.Options{Dir: from}, counted(1))
	fillCounted(t, old)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	db, disk, _ := failing(t, from)
	before := disk.Changes()
	if err := db.Migrate(t.Context(), counted(3)); err != nil {
		t.Fatal(err)
	}
	n := disk.Changes() - before
	upgraded(t, "without a cut", db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= n; k++ {
		db, disk, _ := failing(t, from)
		disk.CutAfter(k)
		if err := db.Migrate(t.Context(), counted(3)); err == nil && k < n {
			t.Fatalf("cut %d of %d: the migration was not told", k, n)
		}
		disk.Cut()
		db.Close() // fails, of course: the disk is gone
		disk.Unmount()
		image := t.TempDir()
		if err := disk.Image(rand.New(rand.NewPCG(uint64(k), 9)), image); err != nil {
			t.Fatal(err)
		}
		again, err := sqldb.Open(t.Context(), sqldb.Options{Dir: image, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("cut %d: %v", k, err)
		}
		if err := errors.Join(again.Check(t.Context()), again.Migrate(t.Context(), counted(3)), again.Check(t.Context())); err != nil {
			t.Errorf("cut %d: the next start: %v", k, err)
		}
		upgraded(t, fmt.Sprintf("cut %d of %d", k, n), again)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d cuts", n)
}

// severed is a PostgreSQL that goes away before the k-th piece that clients send.
type severed struct {
	listener net.Listener
	server   string
	at       int

	mu     sync.Mutex
	pieces int
	open   []net.Conn
	dead   bool
	all    sync.WaitGroup
}

func newSevered(t *testing.T, server string, at int) *severed {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &severed{listener: l, server: server, at: at}
	s.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.serve(c)
		}
	})
	return s
}

func (s *severed) serve(c net.Conn) {
	up, err := net.Dial("tcp", s.server)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.dead {
		c.Close()
		if up != nil {
			up.Close()
		}
		return
	}
	s.open = append(s.open, c, up)
	s.all.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil || !s.count() {
				up.Close()
				return
			}
			if _, err := up.Write(b[:n]); err != nil {
				return
			}
		}
	})
	s.all.Go(func() {
		_, _ = io.Copy(c, up) // until either end is gone
		c.Close()
	})
}

// count reports whether one more piece may pass.
func (s *severed) count() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces++
	if s.at > 0 && s.pieces >= s.at && !s.dead {
		s.dead = true
		for _, c := range s.open {
			c.Close()
		}
	}
	return !s.dead
}

func (s *severed) close() {
	s.listener.Close()
	s.mu.Lock()
	for _, c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

// migrateThrough upgrades through a server that goes away at a piece, 0 = never.
func migrateThrough(t *testing.T, direct string, at int) (pieces int, err error) {
	t.Helper()
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	s := newSevered(t, u.Host, at)
	defer s.close()
	u.Host = s.listener.Addr().String()
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: u.String(), MaxConns: 2, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = errors.Join(db.Migrate(t.Context(), counted(3)), db.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieces, err
}

// beginAgain empties a database on PostgreSQL and fills the old schema.
func beginAgain(t *testing.T, url string) string {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Writer().ExecContext(t.Context(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), counted(1)); err != nil {
		t.Fatal(err)
	}
	fillCounted(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return url
}

// PostgreSQL goes away before every message of an upgrade, as it does for a node
// that is killed. The next node finds no lock held and applies what is missing.
func TestAMigrationThatLosesPostgreSQL(t *testing.T) {
	url := testkit.PostgresURL(t)
	n, err := migrateThrough(t, beginAgain(t, url), 0)
	if err != nil {
		t.Fatal(err)
	}
	if n < 20 {
		t.Fatalf("a migration takes %d messages only: the proxy does not see it", n)
	}
	failed := 0
	for k := 1; k <= n; k++ {
		if _, err := migrateThrough(t, beginAgain(t, url), k); err != nil {
			failed++
		}
		db, err := sqldb.Open(t.Context(), sqldb.Options{URL: url, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Migrate(t.Context(), counted(3)); err != nil {
			t.Errorf("cut %d of %d: the next start: %v", k, n, err)
		}
		upgraded(t, fmt.Sprintf("cut %d of %d", k, n), db)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d cuts, %d of them told", n, failed)
	if failed < n/2 {
		t.Errorf("only %d of %d cuts were noticed", failed, n)
	}
}

// migrateOnce is the role of a process that upgrades and ends.
func migrateOnce(db *sqldb.DB) error {
	fmt.Println("begun")
	return db.Migrate(context.Background(), counted(3))
}

// Processes that start together upgrade once, while one of them is killed at any
// moment: those that live come up, and so does whoever starts afterwards.
func TestProcessesThatMigrateTogetherAndAreKilled(t *testing.T) {
	for _, engine := range []string{sqldb.SQLite, sqldb.Postgres} {
		t.Run(engine, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, 12))
			url := ""
			if engine == sqldb.Postgres {
				url = testkit.PostgresURL(t)
			}
			for round := range 6 {
				o := sqldb.Options{URL: url}
				if engine == sqldb.Postgres {
					beginAgain(t, url)
				} else {
					o.Dir = t.TempDir()
					old := testkit.Open(t, o, counted(1))
					fillCounted(t, old)
					if err := old.Close(); err != nil {
						t.Fatal(err)
					}
				}
				var all sync.WaitGroup
				for p := range 3 {
					c := command(t, "migrator", o.Dir)
					c.Env = append(c.Env, urlEnv+"="+o.URL)
					out, err := c.StdoutPipe()
					if err != nil {
						t.Fatal(err)
					}
					if err := c.Start(); err != nil {
						t.Fatal(err)
					}
					doomed := p == 0
					moment := time.Duration(rng.IntN(12)) * time.Millisecond
					all.Go(func() {
						b := make([]byte, 6)
						if _, err := io.ReadFull(out, b); err != nil && !doomed {
							t.Errorf("round %d: a process did not begin: %v", round, err)
						}
						if doomed {
							time.Sleep(moment) // any; what is tested holds at all of them
							if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
								t.Error(err)
							}
						}
						rest, err := io.ReadAll(out)
						if ended := c.Wait(); !doomed && (err != nil || ended != nil) {
							t.Errorf("round %d: a process that lives: %v, %v: %s", round, err, ended, rest)
						}
					})
				}
				all.Wait()
				db := testkit.Open(t, o, counted(3))
				upgraded(t, fmt.Sprint("round ", round), db)
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
