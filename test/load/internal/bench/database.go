package bench

import (
	"context"
	"crypto/rand"
	"errors"
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
