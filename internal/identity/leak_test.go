package identity

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"landline/internal/sqldb"
)

// TestNothingUsableIsStoredOrLogged searches the whole database and the log,
// after everything that can happen, for every secret that was given out.
func TestNothingUsableIsStoredOrLogged(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		secrets := map[string]string{
			"idempotency key": launchKey, "installation secret": a.str("installation", "secret"),
			"access token": a.str("session", "access_token"), "refresh token": a.str("session", "refresh_token"),
		}
		d := newDevice(t)
		secrets["proof"] = d.proof(f.clock.Now(), nil)
		b := f.post(registerPath, map[string]any{"public_key": d.public(), "proof": secrets["proof"]})
		secrets["refresh token of the key"] = b.str("session", "refresh_token")
		x := f.token(secrets["refresh token"])
		secrets["second refresh token"] = x.str("refresh_token")
		f.clock.Advance(time.Hour)
		secrets["third refresh token"] = f.token(secrets["refresh token"]).str("refresh_token")
		f.token(secrets["second refresh token"])
		f.clock.Advance(time.Hour)
		f.token(secrets["second refresh token"])                                       // the alarm
		f.token(secrets["refresh token of the key"], "client_id", "com.example.thief") // R9
		f.form("/oauth/revoke", "token", secrets["refresh token of the key"])
		wrong := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("w", 32)))
		secrets["wrong secret"] = wrong
		f.post(registerPath, map[string]any{"installation_id": a.str("installation", "id"), "installation_secret": wrong})
		f.bearer(secrets["access token"] + "x")
		f.token("v1.broken" + secrets["third refresh token"])

		// A person's address and subject are stored sealed alone, and logged never.
		one, two := f.phone("leak-one"), f.phone("leak-two")
		one.signIn("canarysubject canary.person@example.com", "n1")
		two.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "other", "code": "othersubject Canary.Person@example.com", "nonce": "n2"}, two.bearer()...))
		secrets["pending link"] = two.last.str("pending_link")
		one.signIn("canarysubject canary.person@example.com", "n3")
		f.admin("/users/search", map[string]any{"email": "canary.person@example.com"})
		personal := []string{"canarysubject", "othersubject", "anary.person", "anary.Person"}

		stored := dump(t, f.db)
		for _, p := range personal {
			if strings.Contains(stored, p) || strings.Contains(stored, hex.EncodeToString([]byte(p))) || strings.Contains(f.logs.String(), p) {
				t.Errorf("%s is in the database or the log", p)
			}
		}
		for name, s := range secrets {
			if s == "" {
				t.Fatalf("there is no %s", name)
			}
			parts := []string{s}
			if i := strings.LastIndexByte(s, '.'); i > 0 {
				parts = append(parts, s[i+1:]) // the MAC or signature alone
			}
			for _, p := range parts {
				if strings.Contains(stored, p) || strings.Contains(stored, hex.EncodeToString([]byte(p))) {
					t.Errorf("the %s is in the database", name)
				}
				if raw, err := base64.RawURLEncoding.DecodeString(p); err == nil && strings.Contains(stored, hex.EncodeToString(raw)) {
					t.Errorf("the %s is in the database as bytes", name)
				}
				if strings.Contains(f.logs.String(), p) {
					t.Errorf("the %s is in the log", name)
				}
			}
		}
		if !strings.Contains(stored, a.str("installation", "id")) || !strings.Contains(f.logs.String(), a.str("session", "id")) {
			t.Error("the search does not see what is there")
		}
	})
}

// dump is every value of every table as text, binary ones in hexadecimal.
func dump(t *testing.T, db *sqldb.DB) string {
	t.Helper()
	tables := `SELECT name FROM sqlite_master WHERE type = 'table'`
	if db.Engine() == sqldb.Postgres {
		tables = `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`
	}
	var out strings.Builder
	err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		names, err := texts(ctx, q, tables)
		if err != nil {
			return err
		}
		for _, name := range names {
			rows, err := texts(ctx, q, `SELECT * FROM `+name)
			if err != nil {
				return err
			}
			out.WriteString(name + ": " + strings.Join(rows, " ") + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func texts(ctx context.Context, q sqldb.Querier, query string) ([]string, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(sql.Null[any])
		}
		if err := rows.Scan(values...); err != nil {
			return nil, err
		}
		for _, v := range values {
			switch v := v.(*sql.Null[any]).V.(type) {
			case []byte:
				all = append(all, string(v), hex.EncodeToString(v))
			default:
				all = append(all, fmt.Sprint(v))
			}
		}
	}
	return all, rows.Err()
}
