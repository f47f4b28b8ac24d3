package kv

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"landline/internal/kv/redisconn"
)

// opTimeout bounds one operation, waiting for a connection included.
const opTimeout = 500 * time.Millisecond

var (
	//go:embed lua/compare_and_swap.lua
	compareAndSwapLua string
	//go:embed lua/compare_and_delete.lua
	compareAndDeleteLua string
	//go:embed lua/add.lua
	addLua string

	compareAndSwap   = redis.NewScript(compareAndSwapLua)
	compareAndDelete = redis.NewScript(compareAndDeleteLua)
	add              = redis.NewScript(addLua)
)

// NewRedis returns a Store in the Redis (6 or newer) or Valkey server at url
// ("redis://user:password@host:6379/0", "rediss://…" for TLS,
// "unix:///path.sock"), with prefix before every key. It connects when first
// used; a server that is down now or later makes calls fail, not NewRedis.
// No operation is retried: a lost answer must not add twice.
func NewRedis(url, prefix string, log *slog.Logger) (Store, error) {
	client, err := redisconn.Open(url, log)
	if err != nil {
		return nil, err
	}
	return &redisStore{client: client, prefix: prefix}, nil
}

type redisStore struct {
	client *redis.Client
	prefix string
}

// do runs fn with the operation's time limit and gives its error our meaning.
func (s *redisStore) do(ctx context.Context, op string, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return callerGone(op, err)
	}
	limited, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err := fn(limited)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return ErrNotFound
	case isNotCounter(err):
		return ErrNotCounter
	case ctx.Err() != nil:
		return callerGone(op, ctx.Err())
	}
	return &UnavailableError{Op: op, Cause: err}
}

// callerGone is the error of a call whose own context ended: not the store's fault.
func callerGone(op string, err error) error { return fmt.Errorf("kv: %s: %w", op, err) }

// isNotCounter knows the two answers of INCRBY by their text; the protocol gives them no code.
func isNotCounter(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && (strings.Contains(reply.Error(), "not an integer") || strings.Contains(reply.Error(), "would overflow"))
}

// millis rounds up, so that the smallest time to live is 1 ms and not refused.
func millis(ttl time.Duration) int64 {
	return int64((ttl + time.Millisecond - 1) / time.Millisecond)
}

func (s *redisStore) Get(ctx context.Context, key string) (value []byte, err error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	err = s.do(ctx, "get", func(ctx context.Context) error {
		value, err = s.client.Get(ctx, s.prefix+key).Bytes()
		return err
	})
	return value, err
}

func (s *redisStore) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := checkSet(key, value, ttl); err != nil {
		return err
	}
	return s.do(ctx, "set", func(ctx context.Context) error {
		return s.client.Do(ctx, "SET", s.prefix+key, value, "PX", millis(ttl)).Err()
	})
}

func (s *redisStore) SetNX(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	if err := checkSet(key, value, ttl); err != nil {
		return false, err
	}
	err := s.do(ctx, "set if absent", func(ctx context.Context) error {
		return s.client.Do(ctx, "SET", s.prefix+key, value, "PX", millis(ttl), "NX").Err()
	})
	if errors.Is(err, ErrNotFound) { // a nil answer: not set
		return false, nil
	}
	return err == nil, err
}

func (s *redisStore) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (done bool, err error) {
	if err := checkSet(key, new, ttl); err != nil {
		return false, err
	}
	return s.script(ctx, "compare and swap", compareAndSwap, key, text(old), text(new), millis(ttl))
}

func (s *redisStore) CompareAndDelete(ctx context.Context, key string, old []byte) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	return s.script(ctx, "compare and delete", compareAndDelete, key, text(old))
}

// text makes a nil value the empty string on the wire, as in the memory store.
func text(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (s *redisStore) script(ctx context.Context, op string, script *redis.Script, key string, args ...any) (done bool, err error) {
	err = s.do(ctx, op, func(ctx context.Context) error {
		n, err := script.Run(ctx, s.client, []string{s.prefix + key}, args...).Int64()
		done = n == 1
		return err
	})
	return done && err == nil, err
}

func (s *redisStore) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	full := make([]string, len(keys))
	for i, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
		full[i] = s.prefix + key
	}
	return s.do(ctx, "delete", func(ctx context.Context) error { return s.client.Del(ctx, full...).Err() })
}

func (s *redisStore) Add(ctx context.Context, key string, delta int64, ttl time.Duration) (sum int64, err error) {
	if err := checkSet(key, nil, ttl); err != nil {
		return 0, err
	}
	err = s.do(ctx, "add", func(ctx context.Context) error {
		stored, err := add.Run(ctx, s.client, []string{s.prefix + key}, delta, millis(ttl)).Text()
		if err != nil {
			return err
		}
		sum, err = strconv.ParseInt(stored, 10, 64)
		return err
	})
	return sum, err
}

func (s *redisStore) Ping(ctx context.Context) error {
	return s.do(ctx, "ping", func(ctx context.Context) error { return s.client.Ping(ctx).Err() })
}

func (s *redisStore) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("kv: close: %w", err)
	}
	return nil
}
