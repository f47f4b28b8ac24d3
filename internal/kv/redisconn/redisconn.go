// Package redisconn opens connections to Redis or Valkey for kv and bus, with
// the same bounds for both and without ever showing a password.
package redisconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Timeout bounds a dial, a read and a write each.
const Timeout = 500 * time.Millisecond

// Open returns a client for rawURL. It does not connect. The client retries
// nothing by itself: whether a command may run twice is the caller's to know.
func Open(rawURL string, log *slog.Logger) (*redis.Client, error) {
	o, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = Timeout, Timeout, Timeout, Timeout
	o.ContextTimeoutEnabled = true
	o.ClientName = "landline"
	o.DisableIdentity = true // CLIENT SETINFO is unknown to Redis 7.0
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	quietLibrary(log)
	return redis.NewClient(o), nil
}

// parse explains a bad URL without repeating any of it: url.Parse puts its
// whole input into errors, and a password with a "/" ends up in the host.
func parse(rawURL string) (*redis.Options, error) {
	const form = `want "redis://user:password@host:6379/0", "rediss://…" or "unix:///path"` // #nosec G101 -- an example
	if strings.TrimSpace(rawURL) == "" {
		return nil, errors.New("redis.url is empty; " + form)
	}
	if _, err := url.Parse(rawURL); err != nil {
		return nil, errors.New("redis.url is not a URL (write special characters of the password as %XX); " + form)
	}
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, errors.New("redis.url is not usable: check its scheme, database number and options; " + form)
	}
	return o, nil
}

var quieten sync.Once

// quietLibrary sends the client library's own lines, which it would print to
// standard error, to the first logger it is given. The library knows one
// logger per process, so this is the one global of the package; what matters
// is returned to callers as errors anyway.
func quietLibrary(log *slog.Logger) {
	quieten.Do(func() { redis.SetLogger(libraryLog{log}) })
}

type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
}
