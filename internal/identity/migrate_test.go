package identity

import (
	"context"
	"io/fs"
	"testing"
	"testing/fstest"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/module"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// A database of the first release, with people in it, is brought up to date:
// every row is there, says the same, and has what an installation's key proves.
func TestUpgradeFromTheFirstRelease(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		const name = "migrations/0001_identity.sql"
		first := sqldb.Embedded("identity", migrationFiles)
		first.FS = fstest.MapFS{"0001_identity.sql": {Data: must(fs.ReadFile(migrationFiles, name))}}
		db := open(t, audit.Migrations, first)
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			for _, statement := range []string{
				`INSERT INTO installation (id, secret_key, public_key, thumbprint, app_version, app_build, platform, os, device, locale, created_at, seen_at) VALUES ('ins_key', 0, '{}', 'tp', '1', 1, 'ios', '', '', '', 1, 2)`,
				`INSERT INTO installation (id, secret_key, public_key, bootstrap_key, app_version, app_build, platform, os, device, locale, created_at, seen_at) VALUES ('ins_secret', 1, '', 'bk', '1', 1, 'android', '', '', '', 1, 2)`,
				`INSERT INTO app_user (id, kind, state, installation_id, created_at) VALUES ('usr_key', 'anonymous', 'active', 'ins_key', 1), ('usr_secret', 'anonymous', 'active', 'ins_secret', 1)`,
				`INSERT INTO session (id, user_id, installation_id, client_id, state, end_reason, key_version, current, previous, recoveries, rotated_at, created_at, auth_time, methods, scope, idle_expires_at, expires_at) VALUES
				 ('ses_key', 'usr_key', 'ins_key', 'app', 'active', '', 1, 7, 6, 0, 3, 1, 1, 'pop', 'app', 10, 20),
				 ('ses_ended', 'usr_key', 'ins_key', 'app', 'revoked', 'sign_out', 1, 2, 1, 0, 3, 1, 1, 'pop', 'app', 10, 20),
				 ('ses_secret', 'usr_secret', 'ins_secret', 'app', 'active', '', 1, 1, 0, 0, 3, 1, 1, 'installation', 'app', 10, 20)`,
				`INSERT INTO session_revocation (session_id, reason, revoked_at) VALUES ('ses_ended', 'sign_out', 3)`,
			} {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Migrate(t.Context(), Migrations); err != nil {
			t.Fatal(err)
		}
		s := NewSQLStore(db, audit.New(db, clock.System))
		for _, want := range []struct {
			session, user string
			state         SessionState
			current       int64
			device        module.DeviceLevel
		}{
			{"ses_key", "usr_key", SessionActive, 7, module.DeviceKey},
			{"ses_ended", "usr_key", SessionRevoked, 2, ""},
			{"ses_secret", "usr_secret", SessionActive, 1, ""},
		} {
			g := must(s.Session(t.Context(), want.session))
			if g.Session.State != want.state || g.Session.Current != want.current || g.Session.Device.Level != want.device || g.Session.Formerly != "" ||
				g.User.ID != want.user || g.User.State != UserActive || g.User.MergedInto != "" || !g.User.StateAt.IsZero() {
				t.Errorf("%s: %+v", want.session, g)
			}
		}
		if i := must(s.Installation(t.Context(), "ins_key")); i.Device.Level != module.DeviceKey || !i.Device.Until.IsZero() {
			t.Errorf("%+v", i)
		}
		if r := must(s.Revocations(t.Context(), Revocation{}, 10)); len(r) != 1 {
			t.Errorf("%+v", r)
		}
		// What was there can go on as of this release.
		into := User{ID: "usr_account", Kind: Account, State: UserActive, CreatedAt: t0}
		for _, c := range []Change{{User: &into}, {Promote: "usr_key"}, {Merge: &UserMerge{ID: "mrg_1", From: "usr_secret", Into: into.ID, InstallationID: "ins_secret", State: MergeDone, CreatedAt: t0}}} {
			if done, err := s.Apply(t.Context(), c); err != nil || !done {
				t.Errorf("%+v: %t %v", c, done, err)
			}
		}
	})
}
