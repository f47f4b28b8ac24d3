package identity

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"time"

	"landline/internal/audit"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the tables of this package.
var Migrations = sqldb.Embedded("identity", migrationFiles)

// Queries are every statement of this package.
var Queries = sqldb.MustParse(queriesSQL)

// SQLStore is Store on SQLite or PostgreSQL.
type SQLStore struct {
	db    *sqldb.DB
	audit *audit.Log
}

var _ Store = (*SQLStore)(nil)

// NewSQLStore returns the store kept in db; Migrations and those of audit must have run.
func NewSQLStore(db *sqldb.DB, log *audit.Log) *SQLStore { return &SQLStore{db: db, audit: log} }

// errUnmet rolls a Change back whose condition does not hold.
var errUnmet = errors.New("a condition of the change does not hold")

// Apply is Store.Apply. The order matters: what decides a race comes first, and
// old sessions end before a new one takes their place in the unique index.
//
// Who loses a race usually has written nothing yet. It then waits for the commit
// like everybody in the group instead of failing at once: when Apply returns
// false, what won can be read.
func (s *SQLStore) Apply(ctx context.Context, c Change) (bool, error) {
	w := writer{ctx: ctx, collecting: true, proof: sqldb.Met, sqlite: s.db.Engine() == sqldb.SQLite}
	w.change(c)
	for _, e := range c.Audit {
		entry, err := s.audit.Statement(ctx, e)
		if err != nil {
			return false, err
		}
		w.all = append(w.all, entry)
	}
	unmet, err := s.run(ctx, c, w.all)
	switch {
	case w.unasked && errors.Is(err, sqldb.ErrConflict): // an id is taken
		return false, nil
	case err != nil:
		return false, err
	case unmet != sqldb.Met && unmet == w.proof:
		return false, ErrProofSpent
	}
	return unmet == sqldb.Met, nil
}

// run runs the statements of c, together with those of other changes unless c
// has a function that is to run within its transaction.
func (s *SQLStore) run(ctx context.Context, c Change, all []sqldb.Statement) (unmet int, err error) {
	if c.Within == nil {
		return s.db.WriteAll(ctx, all)
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		w := writer{ctx: ctx, tx: tx}
		for i, statement := range all {
			w.exec(statement)
			if unmet = i; errors.Is(w.err, errUnmet) && !w.wrote {
				return nil
			}
			if w.err != nil {
				return w.err
			}
		}
		unmet = len(all) // where Within says errUnmet
		if err := c.Within(ctx, tx); err != nil {
			return err
		}
		unmet = sqldb.Met
		return nil
	})
	if errors.Is(err, errUnmet) {
		return unmet, nil
	}
	return unmet, err
}

// writer runs statements until one fails, or collects them.
type writer struct {
	ctx   context.Context
	tx    *sqldb.Tx
	wrote bool
	err   error

	collecting bool
	all        []sqldb.Statement
	proof      int  // index of what spends the proof; sqldb.Met = nothing does
	unasked    bool // there are inserts that fail where others do nothing
	sqlite     bool // the engine
}

func (w *writer) change(c Change) {
	w.all = make([]sqldb.Statement, 0, 4)
	if firstLaunch(c) {
		if w.sqlite && launchAlike(c.Installation, c.User, c.Session) {
			w.launch(c.Installation, c.User, c.Session)
		} else {
			w.first(c.Installation, c.User, c.Session)
		}
		c.Installation, c.User, c.Session = nil, nil, nil
	}
	if c.Installation != nil {
		w.installation(c.Installation)
	}
	for _, e := range c.End {
		w.one("SessionRevoke", string(e.Reason), e.SessionID)
		w.revocation(e)
	}
	if c.Update != nil {
		w.update(c.Update)
	}
	w.account(c)
	if c.EndAll != nil {
		w.endAll(c.EndAll)
	}
	if u := c.User; u != nil {
		w.one("UserInsert", u.ID, string(u.Kind), string(u.State), orNull(u.InstallationID), sqldb.Millis(u.CreatedAt))
	}
	if r := c.Reassign; r != nil {
		w.one("SessionReassign", r.After.UserID, r.After.Formerly, sqldb.Millis(r.After.AuthTime), r.After.Methods,
			r.After.Current, r.After.Previous, r.After.AcceptedFrom, sqldb.Millis(r.After.RotatedAt), sqldb.Millis(r.After.IdleExpiresAt), r.After.ID, r.Before, r.Current)
	}
	if c.Session != nil {
		w.session(c.Session)
	}
	w.proven(c)
	if c.Identity != nil {
		w.identity(c.Identity)
	}
	if c.Proof != nil {
		w.proof = len(w.all)
		w.one("ProofInsert", c.Proof.ID, sqldb.Millis(c.Proof.Expires))
	}
	if i := c.Seen; i != nil {
		w.one("InstallationSeen", i.App.Version, i.App.Build, i.App.Platform, i.App.OS, i.App.Device, i.App.Locale, sqldb.Millis(i.SeenAt), i.ID)
	}
	w.oauth(c)
	if c.Restore != nil {
		w.one("RestoreWindowSet", sqldb.Millis(c.Restore.From), sqldb.Millis(c.Restore.Until))
	}
}

// one is for a statement that must touch one row.
func (w *writer) one(query string, args ...any) {
	w.do(sqldb.Statement{Text: Queries.Get(query), Args: args})
}

// also is for a statement that is no condition.
func (w *writer) also(query string, args ...any) {
	w.do(sqldb.Statement{Text: Queries.Get(query), Args: args, Any: true})
}

func (w *writer) do(s sqldb.Statement) {
	if w.collecting {
		w.all = append(w.all, s)
		return
	}
	w.exec(s)
}

func (w *writer) exec(s sqldb.Statement) {
	if w.err != nil {
		return
	}
	result, err := w.tx.ExecContext(w.ctx, s.Text, s.Args...)
	if err != nil {
		w.err = err
		return
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 && !s.Any {
		err = errUnmet
	}
	w.wrote = w.wrote || n > 0
	w.err = err
}

// firstLaunch is true of a change whose three new rows have nothing that the
// statements of a first launch leave out, and nothing that comes between them.
func firstLaunch(c Change) bool {
	i, u, s := c.Installation, c.User, c.Session
	return i != nil && u != nil && s != nil && c.Within == nil && len(c.End) == 0 && c.Update == nil && c.Reassign == nil && c.EndAll == nil &&
		i.Thumbprint == "" && i.ClonedFrom == "" && i.Device == Device{} && u.InstallationID == i.ID && s.UserID == u.ID &&
		s.InstallationID == i.ID && s.Formerly == "" && s.Device == Device{} && s.KeyThumbprint == "" && s.Via == ""
}

func (w *writer) first(i *Installation, u *User, s *Session) {
	w.unasked = true
	query := "InstallationFirstUnasked"
	if w.sqlite {
		query = "InstallationFirst"
	}
	w.one(query, i.ID, i.SecretVersion, i.PublicKey, orNull(i.BootstrapKey),
		i.App.Version, i.App.Build, i.App.Platform, i.App.OS, i.App.Device, i.App.Locale, sqldb.Millis(i.CreatedAt), sqldb.Millis(i.SeenAt))
	w.one("UserFirst", u.ID, string(u.Kind), string(u.State), u.InstallationID, sqldb.Millis(u.CreatedAt))
	w.one("SessionFirst", s.ID, s.UserID, s.InstallationID, s.ClientID, string(s.State), string(s.EndReason), s.KeyVersion,
		s.Current, s.Previous, s.Recoveries, sqldb.Millis(s.RotatedAt), sqldb.Millis(s.CreatedAt), sqldb.Millis(s.AuthTime),
		s.Methods, s.Scope, sqldb.Millis(s.IdleExpiresAt), sqldb.Millis(s.ExpiresAt))
}

// launchAlike is true of a first launch whose rows have nothing that the statements
// of launch say themselves.
func launchAlike(i *Installation, u *User, s *Session) bool {
	at := i.CreatedAt
	return i.PublicKey == "" && i.SeenAt.Equal(at) && u.Kind == Anonymous && u.State == UserActive && u.CreatedAt.Equal(at) &&
		s.State == SessionActive && s.EndReason == "" && s.Current == 1 && s.Previous == 0 && s.AcceptedFrom == 0 && s.Recoveries == 0 &&
		s.CreatedAt.Equal(at) && s.RotatedAt.Equal(at) && s.AuthTime.Equal(at)
}

// launch is first on SQLite. What several statements take is one argument: each
// takes a piece of memory.
func (w *writer) launch(i *Installation, u *User, s *Session) {
	w.unasked = true
	var installation, user, at, bootstrap any = i.ID, u.ID, sqldb.Millis(i.CreatedAt), nil
	if i.BootstrapKey != "" {
		bootstrap = i.BootstrapKey
	}
	w.one("InstallationLaunch", installation, i.SecretVersion, bootstrap,
		i.App.Version, i.App.Build, i.App.Platform, i.App.OS, i.App.Device, i.App.Locale, at)
	w.one("UserLaunch", user, installation, at)
	w.one("SessionLaunch", s.ID, user, installation, s.ClientID, s.KeyVersion, at, s.Methods, s.Scope, sqldb.Millis(s.IdleExpiresAt), sqldb.Millis(s.ExpiresAt))
}

func (w *writer) installation(i *Installation) {
	w.one("InstallationInsert", i.ID, i.SecretVersion, i.PublicKey, orNull(i.Thumbprint), orNull(i.BootstrapKey), orNull(i.ClonedFrom),
		i.App.Version, i.App.Build, i.App.Platform, i.App.OS, i.App.Device, i.App.Locale, sqldb.Millis(i.CreatedAt), sqldb.Millis(i.SeenAt),
		string(i.Device.Level), millisOrZero(i.Device.Until))
}

func (w *writer) session(s *Session) {
	w.one("SessionInsert", s.ID, s.UserID, s.InstallationID, s.ClientID, string(s.State), string(s.EndReason), s.KeyVersion,
		s.Current, s.Previous, s.Recoveries, sqldb.Millis(s.RotatedAt), sqldb.Millis(s.CreatedAt), sqldb.Millis(s.AuthTime),
		s.Methods, s.Scope, sqldb.Millis(s.IdleExpiresAt), sqldb.Millis(s.ExpiresAt), s.Formerly, string(s.Device.Level), millisOrZero(s.Device.Until), orNull(s.KeyThumbprint), s.Via)
}

func (w *writer) update(u *Update) {
	a := u.After
	if a.State == SessionActive {
		w.one("SessionAdvance", a.Current, a.Previous, a.AcceptedFrom, a.Recoveries, sqldb.Millis(a.RotatedAt), sqldb.Millis(a.IdleExpiresAt), a.ID, u.Before.Current)
		return
	}
	w.one("SessionEnd", string(a.State), string(a.EndReason), a.ID, u.Before.Current)
	if a.State == SessionRevoked {
		w.revocation(Ending{SessionID: a.ID, Reason: a.EndReason, At: u.At})
	}
}

// revocation is not a condition: a session can have been recorded before a restore brought it back.
func (w *writer) revocation(e Ending) {
	w.also("RevocationInsert", e.SessionID, string(e.Reason), sqldb.Millis(e.At))
}

// Line is Store.Line, from one snapshot.
func (s *SQLStore) Line(ctx context.Context, by LineKey) (l Line, err error) {
	query, arg := "InstallationByID", by.ID
	switch {
	case by.Thumbprint != "":
		query, arg = "InstallationByThumbprint", by.Thumbprint
	case by.BootstrapKey != "":
		query, arg = "InstallationByBootstrapKey", by.BootstrapKey
	}
	err = s.db.ReadSnapshot(ctx, func(ctx context.Context, q sqldb.Querier) error {
		var err error
		if l.Installation, err = scanInstallation(q.QueryRowContext(ctx, Queries.Get(query), arg)); err != nil {
			return err
		}
		l.Anonymous, err = scanUser(q.QueryRowContext(ctx, Queries.Get("UserAnonymous"), l.Installation.ID))
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		l.Active, err = grants(ctx, q, "SessionsActive", l.Installation.ID)
		return err
	})
	return l, err
}

// Session is Store.Session.
func (s *SQLStore) Session(ctx context.Context, id string) (g Grant, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		g, err = scanGrant(q.QueryRowContext(ctx, Queries.Get("SessionByID"), id))
		return err
	})
	return g, err
}

// SessionsOf is Store.SessionsOf.
func (s *SQLStore) SessionsOf(ctx context.Context, userID string, limit int) (all []Grant, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		all, err = grants(ctx, q, "SessionsOfUser", userID, limit)
		return err
	})
	return all, err
}

// ActiveSessionsOf is Store.ActiveSessionsOf.
func (s *SQLStore) ActiveSessionsOf(ctx context.Context, userID string, limit int) (all []Grant, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		all, err = grants(ctx, q, "SessionsActiveOfUser", userID, limit)
		return err
	})
	return all, err
}

// User is Store.User.
func (s *SQLStore) User(ctx context.Context, id string) (u User, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		u, err = scanUser(q.QueryRowContext(ctx, Queries.Get("UserByID"), id))
		return err
	})
	return u, err
}

// Installation is Store.Installation.
func (s *SQLStore) Installation(ctx context.Context, id string) (i Installation, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		i, err = scanInstallation(q.QueryRowContext(ctx, Queries.Get("InstallationByID"), id))
		return err
	})
	return i, err
}

// Revocations is Store.Revocations.
func (s *SQLStore) Revocations(ctx context.Context, after Revocation, limit int) (all []Revocation, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		all = nil
		rows, err := q.QueryContext(ctx, Queries.Get("RevocationsAfter"), sqldb.Millis(after.At), after.SessionID, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r Revocation
			var at int64
			if err := rows.Scan(&r.SessionID, &r.Reason, &at); err != nil {
				return err
			}
			r.At = sqldb.Time(at)
			all = append(all, r)
		}
		return rows.Err()
	})
	return all, err
}

// RestoreUntil is Store.RestoreUntil.
func (s *SQLStore) RestoreUntil(ctx context.Context) (until time.Time, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		var ms int64
		err := q.QueryRowContext(ctx, Queries.Get("RestoreWindow")).Scan(&ms)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		until = sqldb.Time(ms)
		return err
	})
	return until, err
}

// Clean is Store.Clean. Each kind is a transaction of its own, so that none holds the others up.
func (s *SQLStore) Clean(ctx context.Context, before Retention, limit int) (total int64, err error) {
	for _, step := range []struct {
		query string
		than  time.Time
	}{
		{"CleanBootstrapKeys", before.BootstrapKeys}, {"CleanProofs", before.Proofs},
		{"CleanRevocations", before.Revocations},
		{"CleanInstallations", before.Sessions}, {"CleanDeviceProofs", before.Sessions}, {"CleanSessions", before.Sessions},
		{"CleanCredentialUses", before.Expired}, {"CleanChallenges", before.Expired}, {"CleanBrowsers", before.Expired}, {"CleanSessionProofs", before.Expired}, {"CleanUnlinked", before.Unlinked},
		{"CleanExportParts", before.Expired}, {"CleanExports", before.Expired},
	} {
		var n int64
		err := s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			result, err := tx.ExecContext(ctx, Queries.Get(step.query), sqldb.Millis(step.than), limit)
			if err != nil {
				return err
			}
			n, err = result.RowsAffected()
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

func orNull(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
