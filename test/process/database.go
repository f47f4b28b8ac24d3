package process

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver pgx
)

// RandomName is prefix and 12 random hexadecimal digits.
func RandomName(prefix string) string {
	b := make([]byte, 6)
	rand.Read(b)
	return prefix + hex.EncodeToString(b)
}

// MasterKey makes a value for secrets.master_key.
func MasterKey() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// NewDatabase makes an empty database on the PostgreSQL server at base and
// returns its URL and what removes it, whoever is still connected.
func NewDatabase(ctx context.Context, base string) (string, func() error, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", nil, err
	}
	db, err := sql.Open("pgx", base)
	if err != nil {
		return "", nil, err
	}
	name := RandomName("test_")
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, errors.Join(err, db.Close())
	}
	u.Path = "/" + name
	return u.String(), func() error {
		_, err := db.Exec("DROP DATABASE " + name + " WITH (FORCE)")
		return errors.Join(err, db.Close())
	}, nil
}
