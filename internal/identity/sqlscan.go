package identity

import (
	"context"
	"database/sql"

	"landline/internal/sqldb"
)

type row interface{ Scan(...any) error }

func scanInstallation(r row) (i Installation, err error) {
	var thumbprint, clonedFrom sql.NullString
	var created, seen int64
	err = r.Scan(&i.ID, &i.SecretVersion, &i.PublicKey, &thumbprint, &clonedFrom, &i.App.Version, &i.App.Build,
		&i.App.Platform, &i.App.OS, &i.App.Device, &i.App.Locale, &created, &seen)
	i.Thumbprint, i.ClonedFrom = thumbprint.String, clonedFrom.String
	i.CreatedAt, i.SeenAt = sqldb.Time(created), sqldb.Time(seen)
	return i, err
}

func scanUser(r row) (u User, err error) {
	var installation sql.NullString
	var created int64
	err = r.Scan(&u.ID, &u.Kind, &u.State, &installation, &created)
	u.InstallationID, u.CreatedAt = installation.String, sqldb.Time(created)
	if err != nil {
		u = User{}
	}
	return u, err
}

func scanGrant(r row) (g Grant, err error) {
	var s = &g.Session
	var rotated, created, auth, idle, absolute int64
	var userID, kind, state, installation sql.NullString
	var userCreated sql.NullInt64
	err = r.Scan(&s.ID, &s.UserID, &s.InstallationID, &s.ClientID, &s.State, &s.EndReason, &s.KeyVersion,
		&s.Current, &s.Previous, &s.Recoveries, &rotated, &created, &auth, &s.Methods, &s.Scope, &idle, &absolute,
		&userID, &kind, &state, &installation, &userCreated)
	if err != nil {
		return Grant{}, err
	}
	s.RotatedAt, s.CreatedAt, s.AuthTime = sqldb.Time(rotated), sqldb.Time(created), sqldb.Time(auth)
	s.IdleExpiresAt, s.ExpiresAt = sqldb.Time(idle), sqldb.Time(absolute)
	g.User = User{ID: s.UserID, State: UserDeleted}
	if userID.Valid {
		g.User = User{ID: userID.String, Kind: UserKind(kind.String), State: UserState(state.String),
			InstallationID: installation.String, CreatedAt: sqldb.Time(userCreated.Int64)}
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
