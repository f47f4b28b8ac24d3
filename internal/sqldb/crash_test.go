//go:build linux || darwin

package sqldb_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// The tests below run this binary again as a process of its own, which may be
// killed or given a smaller disk.
const roleEnv, dirEnv, urlEnv = "SQLDB_TEST_ROLE", "SQLDB_TEST_DIR", "SQLDB_TEST_URL"

func TestMain(m *testing.M) {
	roles := map[string]func(*sqldb.DB) error{"writer": writeUntilKilled, "small disk": writeOnSmallDisk, "migrator": migrateOnce}
	role := roles[os.Getenv(roleEnv)]
	if role == nil {
		goleak.VerifyTestMain(m)
	}
	db, err := sqldb.Open(context.Background(), sqldb.Options{Dir: os.Getenv(dirEnv), URL: os.Getenv(urlEnv), Log: slog.New(slog.DiscardHandler)})
	if err == nil && os.Getenv(roleEnv) != "migrator" {
		err = db.Migrate(context.Background(), things)
	}
	if err == nil {
		err = errors.Join(role(db), db.Close())
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func command(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), roleEnv+"="+role, dirEnv+"="+dir)
	c.Stderr = os.Stderr
	return c
}

// writeUntilKilled says the id of each write on its standard output after it was promised durable.
func writeUntilKilled(db *sqldb.DB) error {
	var out sync.Mutex
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), c, i)
				err := addPair(context.Background(), db, id, (c+i)%2 == 0)
				out.Lock()
				if err != nil {
					fmt.Println("failed:", err)
				} else {
					fmt.Println(id)
				}
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

func TestAKilledProcessLosesNoPromise(t *testing.T) {
	dir := t.TempDir()
	promised := map[string]bool{}
	for round := range 4 {
		c := command(t, "writer", dir)
		pipe, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill := 50 + 137*round // promises after which it dies, in the middle of others
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "failed") {
				t.Fatal(lines.Text())
			}
			promised[lines.Text()] = true
			if kill--; kill == 0 {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		checkPromises(t, dir, promised)
	}
}

func checkPromises(t *testing.T, dir string, promised map[string]bool) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Options{Dir: dir, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if whole, err := scalar[string](t, db, `PRAGMA integrity_check`); err != nil || whole != "ok" {
		t.Fatalf("integrity: %s, %v", whole, err)
	}
	there := map[string]bool{}
	for _, id := range ids(t, db) {
		there[id] = true
	}
	for id := range promised {
		if !there[id] {
			t.Errorf("%s was promised and is lost", id)
		}
	}
	if n, err := scalar[int](t, db, `SELECT COUNT(*) FROM part`); err != nil || n != len(there) {
		t.Errorf("%d things but %d parts, %v: half a write is there", len(there), n, err)
	}
	t.Logf("%d promised, %d there", len(promised), len(there))
}

// writeOnSmallDisk makes the write of the log fail in the middle of a commit.
func writeOnSmallDisk(db *sqldb.DB) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	if err := db.Write(ctx, insert("before")); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(os.Getenv(dirEnv), sqldb.DefaultFile+"-wal"))
	if err != nil {
		return err
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	small := was
	small.Cur = uint64(info.Size()) + 20_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	hook := false
	err = db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		tx.OnCommit(func() { hook = true })
		_, err := tx.ExecContext(ctx, `INSERT INTO thing (id, blob) VALUES ('big', $1)`, make([]byte, 200_000))
		return err
	})
	if !errors.Is(err, sqldb.ErrUncertain) || !errors.Is(err, sqldb.ErrUnavailable) || hook {
		return fmt.Errorf("the commit that failed gave %v, its hook ran: %v", err, hook)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	return db.Write(ctx, insert("after"))
}

func TestACommitThatTheDiskRefuses(t *testing.T) {
	dir := t.TempDir()
	out, err := command(t, "small disk", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wantIDs(t, testkit.Open(t, sqldb.Options{Dir: dir}), "after", "before")
}
