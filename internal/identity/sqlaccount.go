package identity

import (
	"context"
	"database/sql"
	"time"

	"landline/internal/sqldb"
)

// account writes the parts of a change that concern accounts. What decides a
// race comes first.
func (w *writer) account(c Change) {
	if c.Active != "" {
		w.one("UserIsActive", c.Active)
	}
	if u := c.Use; u != nil && u.Held {
		w.one("CredentialUseSettle", u.UserID, orNull(u.MergedFrom), sqldb.Millis(u.ExpiresAt), u.ID, u.InstallationID)
	} else if u != nil {
		w.one("CredentialUseInsert", u.ID, u.InstallationID, u.UserID, orNull(u.MergedFrom), sqldb.Millis(u.ExpiresAt))
	}
	if t := c.Take; t != nil {
		w.one("ChallengeTake", t.ID, t.Version)
	}
	for _, ch := range c.Challenges {
		if ch.Version == 0 {
			w.one("ChallengeInsert", ch.ID, ch.Kind, ch.State, sqldb.Millis(ch.ExpiresAt))
		} else {
			w.one("ChallengeUpdate", ch.Kind, ch.State, sqldb.Millis(ch.ExpiresAt), ch.ID, ch.Version)
		}
	}
	if c.Promote != "" {
		w.one("UserPromote", c.Promote)
	}
	if m := c.Merge; m != nil {
		query := "UserMerged"
		if m.Account {
			query = "AccountMerged"
		}
		w.one(query, m.Into, sqldb.Millis(m.CreatedAt), m.From)
		w.one("MergeInsert", m.From, m.Into, m.ID, m.InstallationID, string(m.State), m.Records, m.Conflicts, m.Deduped,
			sqldb.Millis(m.CreatedAt), millisOrNull(m.FinishedAt))
		w.revocation(Ending{SessionID: m.From, Reason: ReasonUserMerged, At: m.CreatedAt})
	}
	for _, s := range c.State {
		w.one("UserState", string(s.To), sqldb.Millis(s.At), s.UserID, string(s.From))
	}
	if i := c.Unlink; i != nil {
		w.one("IdentityDelete", i.ID, i.UserID)
		w.also("IdentityUnlinked", i.ID, sqldb.Millis(i.At))
	}
	if i := c.Used; i != nil {
		w.one("IdentityUpdate", orNull(i.EmailLookup), i.EmailVerified, i.Sealed, sqldb.Millis(i.UsedAt), millisOrZero(i.SecretAt), i.SecretVoid, i.ID, i.UserID, c.UsedFrom)
	}
}

// endAll records the revocations first: they are of the sessions that are active still.
func (w *writer) endAll(e *EndAll) {
	if e.Proven != "" {
		w.also("RevocationsOfIdentity", string(e.Reason), sqldb.Millis(e.At), e.UserID, e.Except, e.Proven)
		w.also("SessionsRevokeIdentity", string(e.Reason), e.UserID, e.Except, e.Proven)
		return
	}
	w.also("RevocationsOfUser", string(e.Reason), sqldb.Millis(e.At), e.UserID, e.Except)
	w.also("SessionsRevokeUser", string(e.Reason), e.UserID, e.Except)
}

// proven writes down what a session was proven with. It comes after the session.
func (w *writer) proven(c Change) {
	if p := c.ProvenWith; p != nil {
		w.also("SessionProofPut", p.SessionID, p.IdentityID, sqldb.Millis(p.ExpiresAt))
	}
	if c.ProvenAs != "" && c.Session != nil {
		w.also("SessionProofsCopy", c.Session.ID, sqldb.Millis(c.Session.ExpiresAt), c.ProvenAs)
	}
}

func (w *writer) identity(i *Identity) {
	w.one("IdentityInsert", i.columns()...)
}

func (i *Identity) columns() []any {
	return []any{i.ID, i.UserID, i.Provider, i.Lookup, orNull(i.EmailLookup), i.EmailVerified, i.Sealed,
		sqldb.Millis(i.CreatedAt), sqldb.Millis(i.UsedAt), millisOrZero(i.SecretAt), i.SecretVoid}
}

func millisOrNull(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: sqldb.Millis(t), Valid: !t.IsZero()}
}

// list reads all rows of a query with scan.
func list[T any](ctx context.Context, db *sqldb.DB, query string, scan func(row) (T, error), args ...any) (all []T, err error) {
	err = db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		all = nil
		rows, err := q.QueryContext(ctx, Queries.Get(query), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			one, err := scan(rows)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return rows.Err()
	})
	return all, err
}

// one reads the row of a query, or sqldb.ErrNotFound.
func one[T any](ctx context.Context, db *sqldb.DB, query string, scan func(row) (T, error), args ...any) (v T, err error) {
	err = db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		v, err = scan(q.QueryRowContext(ctx, Queries.Get(query), args...))
		return err
	})
	return v, err
}

func scanIdentity(r row) (Identity, error) {
	var c identityColumns
	if err := r.Scan(c.targets()...); err != nil {
		return Identity{}, err
	}
	return c.identity(), nil
}

type identityColumns struct {
	i                       Identity
	email                   sql.NullString
	created, used, secretAt int64
}

func (c *identityColumns) targets() []any {
	return []any{&c.i.ID, &c.i.UserID, &c.i.Provider, &c.i.Lookup, &c.email, &c.i.EmailVerified, &c.i.Sealed, &c.created, &c.used, &c.secretAt, &c.i.SecretVoid}
}

func (c *identityColumns) identity() Identity {
	c.i.EmailLookup, c.i.CreatedAt, c.i.UsedAt = c.email.String, sqldb.Time(c.created), sqldb.Time(c.used)
	if c.secretAt != 0 {
		c.i.SecretAt = sqldb.Time(c.secretAt)
	}
	return c.i
}

type ownedIdentity struct {
	identity Identity
	owner    User
}

func scanOwnedIdentity(r row) (o ownedIdentity, err error) {
	var i identityColumns
	var u userColumns
	if err := r.Scan(append(i.targets(), u.targets()...)...); err != nil {
		return o, err
	}
	return ownedIdentity{i.identity(), u.user()}, nil
}

func scanUse(r row) (u CredentialUse, err error) {
	var merged sql.NullString
	var expires int64
	err = r.Scan(&u.ID, &u.InstallationID, &u.UserID, &merged, &expires)
	u.MergedFrom, u.ExpiresAt = merged.String, sqldb.Time(expires)
	return u, err
}

func scanMerge(r row) (m UserMerge, err error) {
	var created int64
	var finished sql.NullInt64
	err = r.Scan(&m.From, &m.Into, &m.ID, &m.InstallationID, &m.State, &m.Records, &m.Conflicts, &m.Deduped, &created, &finished)
	m.CreatedAt = sqldb.Time(created)
	if finished.Valid {
		m.FinishedAt = sqldb.Time(finished.Int64)
	}
	return m, err
}

func scanConflict(r row) (c MergeConflict, err error) {
	var created int64
	err = r.Scan(&c.ID, &c.MergeID, &c.UserID, &c.Collection, &c.Key, &c.Sealed, &created)
	c.CreatedAt = sqldb.Time(created)
	return c, err
}

func scanChallenge(r row) (c Challenge, err error) {
	var expires int64
	err = r.Scan(&c.ID, &c.Kind, &c.State, &c.Version, &expires)
	c.ExpiresAt = sqldb.Time(expires)
	return c, err
}

// IdentityBy is Store.IdentityBy.
func (s *SQLStore) IdentityBy(ctx context.Context, lookup string) (Identity, User, error) {
	o, err := one(ctx, s.db, "IdentityByLookup", scanOwnedIdentity, lookup)
	return o.identity, o.owner, err
}

// IdentitiesOf is Store.IdentitiesOf.
func (s *SQLStore) IdentitiesOf(ctx context.Context, userID string, limit int) ([]Identity, error) {
	return list(ctx, s.db, "IdentitiesOfUser", scanIdentity, userID, limit)
}

// IdentitiesByEmail is Store.IdentitiesByEmail.
func (s *SQLStore) IdentitiesByEmail(ctx context.Context, emailLookup string, limit int) ([]Identity, error) {
	return list(ctx, s.db, "IdentitiesByEmail", scanIdentity, emailLookup, limit)
}

// VerifiedByEmail is Store.VerifiedByEmail.
func (s *SQLStore) VerifiedByEmail(ctx context.Context, emailLookup string, limit int) ([]Identity, error) {
	return list(ctx, s.db, "IdentitiesVerifiedByEmail", scanIdentity, emailLookup, limit)
}

// CredentialUse is Store.CredentialUse.
func (s *SQLStore) CredentialUse(ctx context.Context, id string) (CredentialUse, error) {
	return one(ctx, s.db, "CredentialUse", scanUse, id)
}

// MergeOf is Store.MergeOf.
func (s *SQLStore) MergeOf(ctx context.Context, from string) (UserMerge, error) {
	return one(ctx, s.db, "MergeOf", scanMerge, from)
}

// MergesInto is Store.MergesInto.
func (s *SQLStore) MergesInto(ctx context.Context, into string, limit int) ([]UserMerge, error) {
	return list(ctx, s.db, "MergesInto", scanMerge, into, limit)
}

// Conflicts is Store.Conflicts.
func (s *SQLStore) Conflicts(ctx context.Context, userID, after string, limit int) ([]MergeConflict, error) {
	return list(ctx, s.db, "ConflictsOfUser", scanConflict, userID, after, limit)
}

// Challenge is Store.Challenge.
func (s *SQLStore) Challenge(ctx context.Context, id string) (Challenge, error) {
	return one(ctx, s.db, "Challenge", scanChallenge, id)
}
