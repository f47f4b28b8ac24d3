package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"sync"

	"landline"
	"landline/internal/sqldb/faultfs"
)

// team is the upstream; it counts what it executed by key.
type team struct {
	*httptest.Server
	mu       sync.Mutex
	executed map[string]int
}

func newTeam() *team {
	t := &team{executed: map[string]int{}}
	t.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			t.mu.Lock()
			t.executed[r.Header.Get("Idempotency-Key")]++
			t.mu.Unlock()
		}
		w.WriteHeader(http.StatusCreated)
	}))
	return t
}

func (t *team) count(key string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.executed[key]
}

// wired is what apps were told over HTTP before the power went.
type wired struct {
	*promises
	mu     sync.Mutex
	tokens []string // the refresh tokens that apps have stored
	notes  []string // keyed writes of the program's feature
	calls  []string // keyed calls that were answered
	tried  []string // keyed calls that were begun
}

// cutSite cuts the power under a whole Landline that apps use over HTTP, starts
// another one on what is left, and looks as an app whether it was told the truth.
func (r *rig) cutSite(ctx context.Context, seed uint64, out *outcome) error {
	rng, early := seeded(seed), seed%8 == 0
	dir, err := r.directory(pick(early, "", r.site))
	if err != nil {
		return err
	}
	disk, err := faultfs.Mount(dir)
	if err != nil {
		return err
	}
	defer disk.Unmount()
	upstream := newTeam()
	defer upstream.Close()
	disk.CutAfter(1 + rng.IntN(120))
	w := &wired{promises: newPromises()}
	server, err := serve(dir, upstream.URL)
	if err == nil {
		w.load(server, disk, r)
	}
	select {
	case <-disk.Dead():
	default:
		return fmt.Errorf("seed %d: the load ended before the power did: %w", seed, err)
	}
	image, err := r.directory("")
	if err == nil {
		err = disk.Image(rng, image)
	}
	if err != nil {
		return err
	}
	broken, corrupt := w.look(ctx, image, upstream)
	out.add(seed, w.promises, server == nil, broken, corrupt)
	return os.RemoveAll(image)
}

// load runs apps against server until the disk is dead, then has it closed.
func (w *wired) load(server *landline.Server, disk *faultfs.Disk, r *rig) {
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(running) }()
	var apps sync.WaitGroup
	for n := range 4 {
		apps.Go(func() {
			s := &site{base: "http://" + server.PublicAddr().String()}
			for i := 0; w.app(s, disk, fmt.Sprintf("app-%d-%d-of-the-power-cut", n, i)); i++ {
			}
		})
	}
	apps.Wait()
	r.room <- struct{}{}
	r.dying.Go(func() {
		defer func() { <-r.room }()
		stop()
		quiet.Debug("a Landline ended on a dead disk", "error", <-ended)
	})
}

// app installs, refreshes and writes once. It is false when the power is gone.
// An answer counts when the power was still there after it had come.
func (w *wired) app(s *site, disk *faultfs.Disk, name string) bool {
	told := func(status int, err error) bool {
		select {
		case <-disk.Dead():
			return false
		default:
			return err == nil && status/100 == 2
		}
	}
	err := s.install(name)
	if !told(200, err) {
		return false
	}
	w.mu.Lock()
	at := len(w.tokens)
	w.tokens = append(w.tokens, s.refresh)
	w.mu.Unlock()
	w.keep("installation", func() {})
	for range 3 {
		err := s.rotate()
		if !told(200, err) {
			return false
		}
		w.mu.Lock()
		w.tokens[at] = s.refresh
		w.mu.Unlock()
		w.keep("refresh", func() {})
	}
	status, err := s.note(name)
	if !told(status, err) {
		return false
	}
	w.mu.Lock()
	w.notes, w.tried = append(w.notes, name), append(w.tried, name)
	w.mu.Unlock()
	w.keep("keyed write", func() {})
	if status, err = s.teamCall(name); !told(status, err) {
		return false
	}
	w.mu.Lock()
	w.calls = append(w.calls, name)
	w.mu.Unlock()
	w.keep("keyed call", func() {})
	return true
}

// rotate uses the stored refresh token and stores the next.
func (s *site) rotate() error {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.refresh}}.Encode()
	res, body, err := s.call("POST", "/oauth/token", form, "application/x-www-form-urlencoded")
	if err != nil {
		return err
	}
	var got struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &got); err != nil || res.StatusCode != http.StatusOK || got.Refresh == "" {
		return fmt.Errorf("refresh: %d %s", res.StatusCode, body)
	}
	s.refresh = got.Refresh
	return nil
}

func (s *site) teamCall(key string) (status int, err error) {
	res, _, err := s.call("POST", "/v1/team", "{}", "application/json", "Idempotency-Key", key)
	if err != nil {
		return 0, err
	}
	s.replayed = res.Header.Get("Idempotent-Replayed") == "true"
	return res.StatusCode, nil
}

// look asks a Landline on the image for everything that apps were told.
func (w *wired) look(ctx context.Context, image string, upstream *team) (broken []string, corrupt error) {
	fail := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	server, err := serve(image, upstream.URL)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(running) }()
	s := &site{base: "http://" + server.PublicAddr().String()}
	for _, token := range w.tokens {
		if s.refresh = token; token != "" {
			if err := s.rotate(); err != nil {
				fail("an app is signed out: %v", err)
			}
		}
	}
	for _, id := range w.notes {
		if res, _, err := s.call("GET", "/v1/notes/"+id, "", ""); err != nil || res.StatusCode != http.StatusOK {
			fail("note %s is lost: %v", id, err)
		}
		if status, err := s.note(id); err != nil || status != http.StatusCreated {
			fail("the retry of note %s was answered %s, %v", id, strconv.Itoa(status), err)
		}
	}
	for _, key := range w.calls {
		if status, err := s.teamCall(key); err != nil || status != http.StatusCreated || !s.replayed {
			fail("the retry of call %s was answered %d, replayed %t, %v", key, status, s.replayed, err)
		}
	}
	for _, key := range w.tried { // 409 where nobody knows whether it took effect
		if status, err := s.teamCall(key); err != nil || status != http.StatusCreated && status != http.StatusConflict {
			fail("call %s is stuck: %d, %v", key, status, err)
		}
		if n := upstream.count(key); n > 1 {
			fail("call %s was executed %d times", key, n)
		}
	}
	stop()
	return broken, errors.Join(<-ended)
}
