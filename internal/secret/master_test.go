package secret

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"landline/internal/testkit"
)

// TestNothingLeaks greps everything the package can print for the keys' bytes.
func TestNothingLeaks(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		ctx := t.Context()
		var log bytes.Buffer
		dir := t.TempDir()
		ring, err := Open(ctx, n.db, Options{MasterKey: n.master, Clock: n.clk, Log: slog.New(slog.NewJSONHandler(&log, nil))})
		must(t, err)
		must(t, ring.Ensure(ctx, "token", ES256))
		must(t, ring.Ensure(ctx, "refresh", HMAC))
		_, err = ring.Seal(ctx, "usr_1", "f", []byte("plain text canary"))
		must(t, err)
		out := &strings.Builder{}
		fmt.Fprintf(out, "%v %+v %#v %s %d %x", ring, ring, ring, ring, ring, ring)
		for _, k := range ring.snap.Load().keys {
			fmt.Fprintf(out, "%v %+v %#v %s %x %v", k, k, k, k, k, k.KeyInfo)
		}
		for _, v := range []any{ring, ring.Keys(), ring.JWKS("token")} {
			text, err := json.Marshal(v)
			must(t, err)
			out.Write(text)
		}
		slog.New(slog.NewJSONHandler(out, nil)).Info("ring", "ring", ring, "key", ring.snap.Load().purposes["token"].current)
		_, err = Open(ctx, n.db, Options{MasterKey: newMasterKey(), Log: slog.New(slog.NewJSONHandler(&log, nil))})
		fmt.Fprint(out, err)
		_, err = Open(ctx, n.db, Options{MasterKey: "secret!" + n.master, Dir: dir})
		fmt.Fprint(out, err)
		_, err = ring.Open(ctx, "usr_1", "f", []byte("x"))
		fmt.Fprint(out, err)
		out.Write(log.Bytes())
		master, err := base64.StdEncoding.DecodeString(n.master)
		must(t, err)
		materials := [][]byte{master, []byte("plain text canary")}
		for _, k := range ring.snap.Load().keys {
			if k.private != nil {
				b, err := k.private.Bytes()
				must(t, err)
				materials = append(materials, b)
			} else {
				materials = append(materials, k.mac.key, k.index.key)
			}
		}
		for i, m := range materials {
			for _, form := range []string{string(m), hex.EncodeToString(m), base64.StdEncoding.EncodeToString(m), base64.RawURLEncoding.EncodeToString(m),
				strings.Trim(fmt.Sprint(m), "[]")} {
				if strings.Contains(out.String(), form) {
					t.Errorf("material %d was printed", i)
				}
			}
		}
	})
}

func TestMasterKeyFile(t *testing.T) {
	db := testkit.SQLite(t, Migrations)
	dir := filepath.Join(t.TempDir(), "data")
	first, err := Open(t.Context(), db, Options{Dir: dir, Log: testkit.Logger(t)})
	must(t, err)
	path := filepath.Join(dir, MasterKeyFile)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("the directory has %v, %v", files, err)
	}
	again, err := Open(t.Context(), db, Options{Dir: dir, Log: testkit.Logger(t)})
	must(t, err)
	if first.kek.id != again.kek.id {
		t.Error("the second start made another key")
	}
	must(t, os.Chmod(path, 0o640))
	if _, err := Open(t.Context(), db, Options{Dir: dir}); !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
	must(t, os.Remove(path))
	if _, err := Open(t.Context(), db, Options{Dir: dir}); !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), first.kek.id) {
		t.Errorf("the lost file: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("a lost master key was replaced by another")
	}
	var wrong *WrongMasterKeyError
	if _, err := Open(t.Context(), db, Options{MasterKey: newMasterKey()}); !errors.As(err, &wrong) || wrong.Want != first.kek.id || !errors.Is(err, ErrMasterKey) {
		t.Errorf("another master key: %v", err)
	}
}

func TestMasterKeyFileOfManyProcesses(t *testing.T) {
	dir := t.TempDir()
	keys := make(chan string, 16)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			key, err := createMasterKeyFile(dir)
			if err != nil {
				t.Error(err)
			}
			keys <- string(key)
		})
	}
	wg.Wait()
	close(keys)
	seen := map[string]bool{}
	for k := range keys {
		seen[k] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d different master keys", len(seen))
	}
}

func TestWeakMasterKeysAreRefused(t *testing.T) {
	db := testkit.SQLite(t, Migrations)
	sequence := make([]byte, keySize)
	for i := range sequence {
		sequence[i] = byte(200 + i)
	}
	for name, text := range map[string]string{
		"short":      base64.StdEncoding.EncodeToString([]byte("0123456789")),
		"not base64": "correct horse battery staple!",
		"zeros":      base64.StdEncoding.EncodeToString(make([]byte, keySize)),
		"text":       base64.StdEncoding.EncodeToString([]byte("landline-production-master-key-1")),
		"sequence":   base64.StdEncoding.EncodeToString(sequence),
		"long":       strings.Repeat("A", 4096),
	} {
		_, err := Open(t.Context(), db, Options{MasterKey: text})
		if !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error quotes the key", name)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		key := make([]byte, keySize)
		rand.Read(key)
		if guessable(key) {
			t.Fatalf("random bytes were refused")
		}
	})
}

func TestProductionOnPostgresWantsAConfiguredMasterKey(t *testing.T) {
	db := testkit.Postgres(t, Migrations)
	dir := t.TempDir()
	if _, err := Open(t.Context(), db, Options{Dir: dir, Production: true}); !errors.Is(err, ErrMasterKey) {
		t.Errorf("got %v", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("left %v behind, %v", files, err)
	}
	if _, err := Open(t.Context(), db, Options{Dir: dir, Production: true, MasterKey: newMasterKey()}); err != nil {
		t.Error(err)
	}
}
