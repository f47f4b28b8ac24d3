package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"

	"landline/internal/clock"
	"landline/internal/sqldb"
)

const (
	liveEvery = 10 * time.Second // how soon a new token is good behind a blocked address
	maxLive   = 10_000
)

// liveTokens tells whether a token is some operator's without asking the
// database each time: it keeps the MACs of all, read at most every liveEvery and
// only when somebody asks, which is behind a blocked address alone. What it
// says is a reason to ask the database, never one to let in.
type liveTokens struct {
	operators *Operators
	clock     clock.Clock
	log       *slog.Logger

	mu   sync.Mutex
	at   time.Time
	macs map[[sha256.Size]byte]bool // digests of version and MAC
}

func (l *liveTokens) has(ctx context.Context, token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.clock.Now(); l.macs == nil || now.Sub(l.at).Abs() >= liveEvery {
		l.at = now
		if err := l.read(ctx); err != nil {
			l.log.WarnContext(ctx, "the operators' tokens could not be read; those known before are used for addresses that sent bad ones", "error", err)
		}
	}
	for _, version := range l.operators.versions() {
		mac, err := l.operators.ring.MACWith(tokenPurpose, version, []byte(token))
		if err == nil && l.macs[liveKey(version, mac)] {
			return true
		}
	}
	return false
}

func (l *liveTokens) read(ctx context.Context) error {
	var macs map[[sha256.Size]byte]bool
	err := l.operators.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
		macs = map[[sha256.Size]byte]bool{}
		rows, err := q.QueryContext(ctx, Queries.Get("OperatorMACs"), maxLive)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var version int
			var mac []byte
			if err := rows.Scan(&version, &mac); err != nil {
				return err
			}
			macs[liveKey(version, mac)] = true
		}
		return rows.Err()
	})
	if err == nil {
		l.macs = macs
	}
	return err
}

func liveKey(version int, mac []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte{byte(version), byte(version >> 8), byte(version >> 16), byte(version >> 24)}, mac...)) // #nosec G115 -- a number of rotations
}
