package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database makes a database of its own on TEST_POSTGRES_URL, and what drops it.
func Database() (address string, drop func() error, err error) {
	server := os.Getenv("TEST_POSTGRES_URL")
	if server == "" {
		return "", nil, errors.New(`TEST_POSTGRES_URL is not set: scripts/testdb start && eval "$(scripts/testdb env)", or -engines sqlite`)
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", nil, errors.New("TEST_POSTGRES_URL is not a URL")
	}
	name := "landline_load_" + strings.ToLower(rand.Text()[:12])
	admin := func(statement string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, statement)
		return errors.Join(err, conn.Close(ctx))
	}
	if err := admin("CREATE DATABASE " + name); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() error { return admin("DROP DATABASE " + name + " WITH (FORCE)") }, nil
}

// ServerCPU tells the CPU time so far of the processes that serve the
// connections to a database, for Row.Server. It is nil where they are not on
// this machine. Call end when nobody asks any more.
func ServerCPU(database string) (spent func() (time.Duration, error), end func() error, err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, nil, err
	}
	end = func() error { return conn.Close(ctx) }
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", conn.PgConn().PID())); err != nil || string(name) != "postgres\n" {
		return nil, end, nil
	}
	return func() (total time.Duration, err error) {
		rows, err := conn.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		if err != nil {
			return 0, err
		}
		pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
		for _, pid := range pids {
			spent, gone := cpuTimeOf(pid)
			err = errors.Join(err, gone)
			total += spent
		}
		return total, err
	}, end, nil
}
