package identity

import (
	"context"
	"time"

	"landline/internal/sqldb"
)

// Browser is a browser that has signed in, or is about to, on the hosted pages.
// It is an installation that proves itself with a cookie.
type Browser struct {
	ID             string // keyed hash of the cookie
	InstallationID string
	CreatedAt      time.Time
	ExpiresAt      time.Time
}

// oauth writes the parts of a change that concern hosted sign-in.
func (w *writer) oauth(c Change) {
	if c.EndBrowser != "" {
		w.one("BrowserDelete", c.EndBrowser)
	}
	if b := c.Browser; b != nil {
		w.one("BrowserInsert", b.ID, b.InstallationID, sqldb.Millis(b.CreatedAt), sqldb.Millis(b.ExpiresAt))
	}
	if one := c.Consent; one != nil {
		w.one("ConsentUpsert", one.UserID, one.ClientID, one.Scope, sqldb.Millis(one.CreatedAt), sqldb.Millis(one.UpdatedAt))
	}
}

func scanBrowser(r row) (b Browser, err error) {
	var created, expires int64
	err = r.Scan(&b.ID, &b.InstallationID, &created, &expires)
	b.CreatedAt, b.ExpiresAt = sqldb.Time(created), sqldb.Time(expires)
	return b, err
}

func scanConsent(r row) (c Consent, err error) {
	var created, updated int64
	err = r.Scan(&c.UserID, &c.ClientID, &c.Scope, &created, &updated)
	c.CreatedAt, c.UpdatedAt = sqldb.Time(created), sqldb.Time(updated)
	return c, err
}

// Browser is Store.Browser.
func (s *SQLStore) Browser(ctx context.Context, id string) (Browser, error) {
	return one(ctx, s.db, "BrowserByID", scanBrowser, id)
}

// Consent is Store.Consent.
func (s *SQLStore) Consent(ctx context.Context, userID, clientID string) (Consent, error) {
	return one(ctx, s.db, "Consent", scanConsent, userID, clientID)
}

// consentExport gives the consents of a user to an export.
func consentExport(db *sqldb.DB) func(context.Context, string, func(any) error) error {
	return func(ctx context.Context, user string, emit func(any) error) error {
		all, err := list(ctx, db, "ConsentsOfUser", scanConsent, user, maxConsents)
		if err != nil {
			return err
		}
		for _, c := range all {
			if err := emit(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// maxConsents is more than there can be clients in a configuration file.
const maxConsents = 10_000

func consentErase(ctx context.Context, tx *sqldb.Tx, user string, limit int) (int64, error) {
	result, err := tx.ExecContext(ctx, Queries.Get("ConsentsErase"), user, limit)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
