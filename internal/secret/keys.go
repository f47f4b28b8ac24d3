package secret

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"landline/internal/sqldb"
)

// KeepDefault is how long a retired signing key verifies when Ensure was not told.
const KeepDefault = 24 * time.Hour

const maxPurpose = 64

// KeyOption changes how Ensure treats a purpose.
type KeyOption func(*keyOptions)

type keyOptions struct{ keep time.Duration }

// Keep says how long a retired key still verifies: at least the longest life of
// what it signs. Without it signing keys verify for KeepDefault, HMAC keys for ever.
func Keep(d time.Duration) KeyOption { return func(o *keyOptions) { o.keep = d } }

// snapshot is what the hot path reads; it is never changed once stored.
type snapshot struct {
	keys     map[string]*key // by id
	purposes map[string]*purpose
	infos    []KeyInfo
}

type purpose struct {
	alg      Alg
	current  *key
	ordered  []*key // current, next, then previous from the newest
	versions map[int]*key
	first    *key // lowest version: the blind index
}

// Ensure makes the purpose usable: on a new database it makes a current and a
// next key. It is idempotent, also when many nodes start at once. It must not
// be called inside sqldb.Write.
func (r *Ring) Ensure(ctx context.Context, name string, alg Alg, opts ...KeyOption) error {
	if name == "" || len(name) > maxPurpose {
		return fmt.Errorf("secret: purpose must have 1 to %d bytes, has %d", maxPurpose, len(name))
	}
	if alg != ES256 && alg != RS256 && alg != HMAC {
		return fmt.Errorf("secret: purpose %q: algorithm %q is unknown: use ES256, RS256 or HMAC", name, alg)
	}
	var o keyOptions
	for _, opt := range opts {
		opt(&o)
	}
	if old, had := r.keep.Swap(name, o.keep); !had || old != o.keep || r.snap.Load().purposes[name] == nil {
		if err := r.Reload(ctx); err != nil {
			return err
		}
	}
	if r.snap.Load().purposes[name] == nil {
		if err := r.create(ctx, name, alg); err != nil {
			return fmt.Errorf("secret: make the first keys of purpose %q: %w", name, err)
		}
		if err := r.Reload(ctx); err != nil {
			return err
		}
	}
	p := r.snap.Load().purposes[name]
	if p == nil {
		return fmt.Errorf("secret: purpose %q: %w after it was made: is the database a copy that is being replaced?", name, ErrNoPurpose)
	}
	if p.alg != alg {
		return fmt.Errorf("secret: purpose %q has %s keys, wanted %s: choose another purpose name", name, p.alg, alg)
	}
	return nil
}

// create inserts version 1 as current and version 2 as next. A node that comes
// second finds the rows there and inserts nothing.
func (r *Ring) create(ctx context.Context, name string, alg Alg) error {
	now := r.clk.Now()
	var rows []insert
	for _, k := range []KeyInfo{{Version: 1, State: Current, ActivatedAt: &now}, {Version: 2, State: Next}} {
		k.ID, k.Purpose, k.Alg, k.CreatedAt = newKeyID(), name, alg, now
		row, err := r.wrapNew(k)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return r.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, row := range rows {
			if _, err := row.exec(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// insert is a wrapped key on its way to SQL.
type insert struct {
	info    KeyInfo
	kek     string
	wrapped []byte
}

func (r *Ring) wrapNew(k KeyInfo) (insert, error) {
	material, err := generate(k.Alg)
	if err != nil {
		return insert{}, err
	}
	defer clear(material)
	return insert{info: k, kek: r.kek.id, wrapped: r.kek.wrap(material, k.aad())}, nil
}

func (i insert) exec(ctx context.Context, tx *sqldb.Tx) (inserted bool, err error) {
	res, err := tx.ExecContext(ctx, Queries.Get("KeyInsert"), i.info.ID, i.info.Purpose, i.info.Version, string(i.info.Alg), string(i.info.State),
		i.kek, i.wrapped, sqldb.Millis(i.info.CreatedAt), nullMillis(i.info.ActivatedAt))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

func nullMillis(t *time.Time) sql.NullInt64 {
	if t == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: sqldb.Millis(*t), Valid: true}
}

func timePtr(ms sql.NullInt64) *time.Time {
	if !ms.Valid {
		return nil
	}
	t := sqldb.Time(ms.Int64)
	return &t
}

// Reload reads every key again. Call it when another node has rotated (by a
// message on bus) and every few minutes, in case that message was lost. When it
// fails the ring keeps what it had.
func (r *Ring) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys []*key
	err := r.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		keys = keys[:0]
		rows, err := q.QueryContext(ctx, Queries.Get("KeyList"))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			k, err := r.scanKey(rows)
			if err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("secret: read the keys: %w", err)
	}
	r.snap.Store(newSnapshot(keys))
	return nil
}

func (r *Ring) scanKey(rows *sql.Rows) (*key, error) {
	var (
		k                  key
		kekID              string
		wrapped            []byte
		created            int64
		activated, retired sql.NullInt64
	)
	if err := rows.Scan(&k.ID, &k.Purpose, &k.Version, &k.Alg, &k.State, &kekID, &wrapped, &created, &activated, &retired); err != nil {
		return nil, err
	}
	material, err := r.kek.unwrap(wrapped, k.aad(), fmt.Sprintf("key %s of purpose %q", k.ID, k.Purpose), kekID)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	k.CreatedAt, k.ActivatedAt, k.RetiredAt = sqldb.Time(created), timePtr(activated), timePtr(retired)
	if keep := r.keepFor(k.Purpose, k.Alg); keep > 0 && k.State == Previous && k.RetiredAt != nil {
		until := k.RetiredAt.Add(keep)
		k.ExpiresAt = &until
	}
	return &k, k.parse(material)
}

// keepFor is 0 for "for ever".
func (r *Ring) keepFor(name string, alg Alg) time.Duration {
	if v, ok := r.keep.Load(name); ok && v.(time.Duration) > 0 {
		return v.(time.Duration)
	}
	if alg != HMAC {
		return KeepDefault
	}
	return 0
}

func newSnapshot(keys []*key) *snapshot {
	s := &snapshot{keys: make(map[string]*key, len(keys)), purposes: map[string]*purpose{}}
	rank := map[KeyState]int{Current: 0, Next: 1, Previous: 2}
	slices.SortFunc(keys, func(a, b *key) int {
		return cmp.Or(cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(rank[a.State], rank[b.State]), cmp.Compare(b.Version, a.Version))
	})
	for _, k := range keys {
		s.keys[k.ID] = k
		s.infos = append(s.infos, k.KeyInfo)
		p := s.purposes[k.Purpose]
		if p == nil {
			p = &purpose{alg: k.Alg, versions: map[int]*key{}, first: k}
			s.purposes[k.Purpose] = p
		}
		if k.State == Current {
			p.current = k
		}
		if k.Version < p.first.Version {
			p.first = k
		}
		p.versions[k.Version] = k
		p.ordered = append(p.ordered, k)
	}
	return s
}

// Keys lists every key by purpose: current, next, then previous from the newest.
func (r *Ring) Keys() []KeyInfo { return slices.Clone(r.snap.Load().infos) }
