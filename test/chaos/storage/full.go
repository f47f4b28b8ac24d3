package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing/fstest"
	"time"

	"landline"
	"landline/internal/sqldb/faultfs"
)

// siteConfig is a gateway with one upstream, beside a program's own feature.
const siteConfig = `
app: {public_url: "https://api.example.test"}
upstreams:
  team: {targets: [{name: stable, url: %q}]}
features:
  team-reads: {auth: none, routes: [{match: "GET /v1/team", upstream: team}]}
  team-writes: {auth: none, idempotency: {required: true}, routes: [{match: "POST /v1/team", upstream: team}]}
shutdown: {delay: 0s, grace: 2s}
log: {level: error}
`

// serve makes a Landline in dir, whose upstream is at url.
func serve(dir, url string) (*landline.Server, error) {
	return landline.New(landline.Options{Config: fmt.Appendf(nil, siteConfig, url), Public: "127.0.0.1:0", Admin: "127.0.0.1:0",
		DataDir: dir, Stdout: io.Discard, Stderr: io.Discard}, notes)
}

// notes is a feature that a program brings along.
var notes = landline.Feature{
	Name: "notes", Owner: "chaos", Auth: landline.None,
	Migrations: fstest.MapFS{"0001_notes.sql": {Data: []byte("-- +goose Up\nCREATE TABLE notes (id key_text NOT NULL PRIMARY KEY, text TEXT NOT NULL);")}},
	Routes: []landline.Route{
		landline.Write("POST /v1/notes/{id}", func(ctx context.Context, tx *landline.Tx, r *landline.Request) (*landline.Response, error) {
			_, err := tx.ExecContext(ctx, `INSERT INTO notes (id, text) VALUES ($1, $2)`, r.PathValue("id"), strings.Repeat("x", 2000))
			if err != nil {
				return nil, err
			}
			return landline.JSON(http.StatusCreated, map[string]string{"id": r.PathValue("id")})
		}),
		landline.Read("GET /v1/notes/{id}", func(ctx context.Context, db landline.Querier, r *landline.Request) (*landline.Response, error) {
			var text string
			if err := db.QueryRowContext(ctx, `SELECT text FROM notes WHERE id = $1`, r.PathValue("id")).Scan(&text); err != nil {
				return nil, err
			}
			return landline.JSON(http.StatusOK, map[string]int{"length": len(text)})
		}),
	},
}

// filled is what a full disk did to a running Landline.
type filled struct {
	reads, writes, refused int
	recovered              time.Duration // from free space to the first write
	faults                 []string
}

func (f *filled) fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// site is a running Landline on a faulty disk and one app that uses it.
type site struct {
	base     string
	executed *atomic.Int64 // calls that reached the upstream's POST
	access   string
	refresh  string
	acked    []string
	out      *filled
	replayed bool // the last keyed call was answered from the store
}

// fill runs Landline, fills its disk, looks at what it answers, and frees it again.
func (r *rig) fill(ctx context.Context) (out filled, err error) {
	dir, err := r.directory("")
	if err != nil {
		return out, err
	}
	disk, err := faultfs.Mount(dir)
	if err != nil {
		return out, err
	}
	defer disk.Unmount()
	var executed atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			executed.Add(1)
		}
		w.WriteHeader(http.StatusOK)
	}))
	defer upstream.Close()
	server, err := serve(dir, upstream.URL)
	if err != nil {
		return out, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(running) }()
	s := &site{base: "http://" + server.PublicAddr().String(), executed: &executed, out: &out}
	err = s.day(disk)
	stop()
	err = errors.Join(err, <-ended)
	disk.Cut() // what was acknowledged on the way must also be durable
	if err == nil {
		err = r.reopenNotes(ctx, disk, s)
	}
	return out, errors.Join(err, os.RemoveAll(dir))
}

// day is what happens: space, no space, space again.
func (s *site) day(disk *faultfs.Disk) error {
	if err := s.install("first-launch-of-chaos"); err != nil {
		return err
	}
	if _, err := s.note("before"); err != nil {
		return err
	}
	disk.Limit(disk.Used())
	for i := 0; ; i++ { // the write-ahead log may have room left in what it has taken
		id := fmt.Sprintf("filling-%d", i)
		status, err := s.note(id)
		if err != nil {
			return err
		}
		if status == http.StatusServiceUnavailable {
			break
		}
		if status != http.StatusCreated || i == 10_000 {
			return fmt.Errorf("filling the disk: note %d was answered %d", i, status)
		}
	}
	for range 20 {
		s.readsGoOn()
		s.writesAreRefused()
	}
	disk.Limit(0)
	freed := time.Now()
	for {
		status, err := s.note(fmt.Sprintf("free-%d", time.Since(freed)))
		if err != nil {
			return err
		}
		if status == http.StatusCreated {
			break
		}
		if time.Since(freed) > 10*time.Second {
			return errors.New("no write succeeds 10 s after there was space again")
		}
	}
	s.out.recovered = time.Since(freed)
	return s.everythingWorks()
}

func (s *site) install(key string) error {
	res, body, err := s.call("POST", "/v1/installations", "{}", "application/json", "Idempotency-Key", key)
	if err != nil {
		return err
	}
	var got struct {
		Session struct {
			AccessToken  string `json:"access_token"`
			RefreshToken string `json:"refresh_token"`
		} `json:"session"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Session.RefreshToken == "" {
		return fmt.Errorf("install: %d %s: %v", res.StatusCode, body, err)
	}
	s.access, s.refresh = got.Session.AccessToken, got.Session.RefreshToken
	return nil
}

func (s *site) note(id string) (status int, err error) {
	res, _, err := s.call("POST", "/v1/notes/"+id, "", "", "Idempotency-Key", id)
	if err != nil {
		return 0, err
	}
	if res.StatusCode == http.StatusCreated {
		s.acked = append(s.acked, id)
	}
	return res.StatusCode, nil
}

func (s *site) readsGoOn() {
	for _, c := range [][]string{
		{"/v1/me", "Authorization", "Bearer " + s.access}, {"/v1/team"}, {"/v1/notes/before"}, {"/.well-known/jwks.json"},
	} {
		res, body, err := s.call("GET", c[0], "", "", c[1:]...)
		s.out.reads++
		if err != nil || res.StatusCode != http.StatusOK {
			s.out.fault("a full disk: GET %s: %v %s", c[0], err, body)
		}
	}
}

func (s *site) writesAreRefused() {
	before := s.executed.Load()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.refresh}}.Encode()
	n := fmt.Sprint(s.out.writes)
	for _, c := range [][]string{
		{"/v1/installations", "{}", "application/json", "Idempotency-Key", "launch-under-a-full-disk-" + n},
		{"/oauth/token", form, "application/x-www-form-urlencoded"},
		{"/v1/auth/sign-out", "", "", "Authorization", "Bearer " + s.access},
		{"/v1/notes/refused-" + n, "", "", "Idempotency-Key", "refused-" + n},
		{"/v1/team", "{}", "application/json", "Idempotency-Key", "team-" + n},
	} {
		res, body, err := s.call("POST", c[0], c[1], c[2], c[3:]...)
		s.out.writes++
		var p struct {
			Code  string          `json:"code"`
			Error json.RawMessage `json:"error"`
		}
		switch {
		case err != nil:
			s.out.fault("a full disk: POST %s: %v", c[0], err)
			continue
		case json.Unmarshal(body, &p) != nil || res.StatusCode != http.StatusServiceUnavailable || p.Code != "storage_unavailable":
			s.out.fault("a full disk: POST %s was answered %d %s", c[0], res.StatusCode, body)
			continue
		case res.Header.Get("Retry-After") == "" || p.Error != nil:
			s.out.fault("a full disk: POST %s: Retry-After %q, error %s", c[0], res.Header.Get("Retry-After"), p.Error)
		}
		s.out.refused++
	}
	if n := s.executed.Load() - before; n != 0 {
		s.out.fault("a full disk: %d keyed writes reached the upstream without a durable key", n)
	}
}

// everythingWorks is the same day once there is space: the refused token is
// good, the refused keys are free.
func (s *site) everythingWorks() error {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.refresh}}.Encode()
	for _, c := range [][]string{
		{"/oauth/token", form, "application/x-www-form-urlencoded"},
		{"/v1/installations", "{}", "application/json", "Idempotency-Key", "launch-under-a-full-disk-0"},
		{"/v1/notes/refused-3", "", "", "Idempotency-Key", "refused-3"},
		{"/v1/team", "{}", "application/json", "Idempotency-Key", "team-4"},
	} {
		res, body, err := s.call("POST", c[0], c[1], c[2], c[3:]...)
		if err != nil {
			return err
		}
		if res.StatusCode/100 != 2 {
			s.out.fault("space again: POST %s was answered %d %s", c[0], res.StatusCode, body)
		}
	}
	for _, id := range s.acked {
		res, body, err := s.call("GET", "/v1/notes/"+id, "", "")
		if err != nil || res.StatusCode != http.StatusOK {
			s.out.fault("space again: acknowledged note %s: %v %s", id, err, body)
		}
	}
	return nil
}

// reopenNotes looks for acknowledged notes after a power cut.
func (r *rig) reopenNotes(ctx context.Context, disk *faultfs.Disk, s *site) error {
	image, err := r.directory("")
	if err != nil {
		return err
	}
	if err := disk.Image(seeded(1), image); err != nil {
		return err
	}
	server, err := serve(image, "http://127.0.0.1:1")
	if err != nil {
		return fmt.Errorf("after the power cut: %w", err)
	}
	err = server.Database().Read(ctx, func(ctx context.Context, q landline.Querier) error {
		for _, id := range s.acked {
			var n int
			if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM notes WHERE id = $1`, id).Scan(&n); err != nil {
				return err
			}
			if n != 1 {
				s.out.fault("acknowledged note %s is lost after a power cut", id)
			}
		}
		return nil
	})
	return errors.Join(err, server.Close(), os.RemoveAll(image))
}

func (s *site) call(method, path, body, contentType string, header ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, s.base+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(res.Body, 1<<20)); err != nil {
		return nil, nil, err
	}
	return res, b.Bytes(), nil
}
