package identity

import (
	"context"
	"database/sql"
	"time"

	"landline/internal/sqldb"
)

type row interface{ Scan(...any) error }

func scanInstallation(r row) (i Installation, err error) {
	var thumbprint, clonedFrom sql.NullString
	var created, seen, until int64
	err = r.Scan(&i.ID, &i.SecretVersion, &i.PublicKey, &thumbprint, &clonedFrom, &i.App.Version, &i.App.Build,
		&i.App.Platform, &i.App.OS, &i.App.Device, &i.App.Locale, &created, &seen, &i.Device.Level, &until)
	i.Thumbprint, i.ClonedFrom = thumbprint.String, clonedFrom.String
	i.CreatedAt, i.SeenAt = sqldb.Time(created), sqldb.Time(seen)
	i.Device.Until = timeOrZero(until)
	return i, err
}

func scanUser(r row) (u User, err error) {
	var c userColumns
	if err := r.Scan(c.targets()...); err != nil {
		return User{}, err
	}
	return c.user(), nil
}

// userColumns are a user's columns; all are NULL where an outer join found none.
type userColumns struct {
	id, kind, state, installation, mergedInto sql.NullString
	created, stateAt                          sql.NullInt64
}

func (c *userColumns) targets() []any {
	return []any{&c.id, &c.kind, &c.state, &c.installation, &c.created, &c.mergedInto, &c.stateAt}
}

func (c *userColumns) user() User {
	u := User{ID: c.id.String, Kind: UserKind(c.kind.String), State: UserState(c.state.String), InstallationID: c.installation.String,
		CreatedAt: sqldb.Time(c.created.Int64), MergedInto: c.mergedInto.String}
	if c.stateAt.Valid {
		u.StateAt = sqldb.Time(c.stateAt.Int64)
	}
	return u
}

func scanGrant(r row) (g Grant, err error) {
	var s = &g.Session
	var rotated, created, auth, idle, absolute, until int64
	var jkt sql.NullString
	var u userColumns
	err = r.Scan(append([]any{&s.ID, &s.UserID, &s.InstallationID, &s.ClientID, &s.State, &s.EndReason, &s.KeyVersion,
		&s.Current, &s.Previous, &s.Recoveries, &rotated, &created, &auth, &s.Methods, &s.Scope, &idle, &absolute, &s.Formerly, &s.Device.Level, &until, &jkt, &s.Via, &s.AcceptedFrom},
		u.targets()...)...)
	if err != nil {
		return Grant{}, err
	}
	s.RotatedAt, s.CreatedAt, s.AuthTime = sqldb.Time(rotated), sqldb.Time(created), sqldb.Time(auth)
	s.IdleExpiresAt, s.ExpiresAt, s.Device.Until = sqldb.Time(idle), sqldb.Time(absolute), timeOrZero(until)
	s.KeyThumbprint = jkt.String
	g.User = User{ID: s.UserID, State: UserDeleted}
	if u.id.Valid {
		g.User = u.user()
	}
	return g, nil
}

func grants(ctx context.Context, q sqldb.Querier, query string, args ...any) ([]Grant, error) {
	rows, err := q.QueryContext(ctx, Queries.Get(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Grant
	for rows.Next() {
		g, err := scanGrant(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, rows.Err()
}

// timeOrZero is the inverse of millisOrZero.
func timeOrZero(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return sqldb.Time(ms)
}

func millisOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return sqldb.Millis(t)
}
