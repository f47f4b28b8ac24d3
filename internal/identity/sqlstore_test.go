package identity_test

import (
	"testing"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/identity"
	"landline/internal/identity/identitytest"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestSQLStore(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		identitytest.Run(t, func(t *testing.T) identity.Store {
			db := open(t, audit.Migrations, identity.Migrations)
			return identity.NewSQLStore(db, audit.New(db, clock.System))
		})
	})
}

func TestEveryStatementIsPrepared(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		if err := sqldb.PrepareAll(t.Context(), open(t, identity.Migrations), identity.Queries); err != nil {
			t.Fatal(err)
		}
	})
}
