package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"landline/test/process"
)

type settings struct {
	short    bool
	seed     uint64
	kill     time.Duration
	requests int
	keep     bool
	binaries string
}

// pick is the long or the short value.
func pick[T any](h *house, long, short T) T {
	if h.short {
		return short
	}
	return long
}

const patience = 60 * time.Second // bounds every wait; nothing takes that long unless it is broken

// shared is what all themes have in common.
type shared struct {
	settings
	dir      string // working directory
	config   string // landline.yaml
	landline string // the binary that ships
	service  string // the same with a feature of its own
	next     string // its next version

	servers  sync.Mutex
	postgres *postgres
	redis    *redis
	dirs     atomic.Int64
}

// house has everything that one theme needs, and ends its processes.
type house struct {
	*shared
	mu    sync.Mutex
	nodes []*process.Node
}

func newShared(ctx context.Context, s settings) (h *shared, err error) {
	h = &shared{settings: s}
	root, err := root()
	if err != nil {
		return nil, err
	}
	h.config = filepath.Join(root, "test", "chaos", "landline.yaml")
	if h.dir, err = os.MkdirTemp("", "landline-chaos-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(h.dir, 0o711); err != nil { // #nosec G302 -- PostgreSQL runs as another user and must reach its own directory below
		return nil, errors.Join(err, h.close())
	}
	if err = h.build(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// build makes the binaries, unless a run before has.
func (h *shared) build(ctx context.Context) error {
	dir := h.binaries
	if dir == "" {
		dir = h.dir
	}
	h.landline, h.service, h.next = filepath.Join(dir, "landline"), filepath.Join(dir, "service"), filepath.Join(dir, "service-next")
	if _, err := os.Stat(filepath.Join(dir, "built")); err == nil && h.binaries != "" {
		return nil
	}
	err := errors.Join(
		process.Build(ctx, h.landline, "landline/cmd/landline"),
		process.Build(ctx, h.service, "landline/test/chaos/service"),
		process.Build(ctx, h.next, "landline/test/chaos/service", "chaos_next"),
	)
	if err != nil || h.binaries == "" {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "built"), nil, 0o600)
}

// root is the directory of go.mod.
func root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.Join(err, errors.New("run it inside the repository"))
}

func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := ""
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = ", load average " + strings.Join(strings.Fields(string(text))[:3], " ")
	}
	return fmt.Sprintf("%d x %s, %s%s", runtime.NumCPU(), model, runtime.Version(), load)
}

// rng is a source that belongs to a name, so that themes do not change each other's faults.
func (h *shared) rng(name string) *rand.Rand {
	var sum uint64
	for _, b := range []byte(name) {
		sum = sum*131 + uint64(b)
	}
	return rand.New(rand.NewPCG(h.seed, sum))
}

// directory makes a new one for one node.
func (h *shared) directory() (string, error) {
	dir := filepath.Join(h.dir, fmt.Sprint("data-", h.dirs.Add(1)))
	return dir, os.Mkdir(dir, 0o700)
}

// launch starts a process that the house ends; it need not be ready.
func (h *house) launch(o process.Options) (*process.Node, error) {
	if o.Config == "" {
		o.Config = h.config
	}
	n, err := process.Launch(o)
	h.mu.Lock()
	h.nodes = append(h.nodes, n)
	h.mu.Unlock()
	return n, err
}

// start is launch and wait.
func (h *house) start(o process.Options) (*process.Node, error) {
	n, err := h.launch(o)
	if err == nil {
		err = n.Ready(patience)
	}
	if err != nil {
		return n, fmt.Errorf("%w\n%s", err, tail(n.Logs.String()))
	}
	return n, nil
}

func tail(text string) string { return text[max(0, len(text)-3000):] }

// stop ends a node as an operator would, and wants a clean end.
func stop(n *process.Node) error {
	if err := n.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	exit, err := n.Wait(patience)
	if err != nil || exit != 0 {
		return fmt.Errorf("after SIGTERM: exit code %d, %w\n%s", exit, err, tail(n.Logs.String()))
	}
	return nil
}

// endNodes kills what a theme left running.
func (h *house) endNodes() error {
	h.mu.Lock()
	all := h.nodes
	h.nodes = nil
	h.mu.Unlock()
	var errs []error
	for i, n := range all {
		errs = append(errs, n.Kill())
		if text := n.Logs.String(); h.keep && text != "" {
			errs = append(errs, os.WriteFile(filepath.Join(h.dir, fmt.Sprintf("log-%d-%d", time.Now().UnixNano(), i)), []byte(text), 0o600))
		}
	}
	return errors.Join(errs...)
}

// server returns the house's PostgreSQL, started on first use.
func (h *shared) server(ctx context.Context) (*postgres, error) {
	h.servers.Lock()
	defer h.servers.Unlock()
	if h.postgres == nil {
		p, err := newPostgres(ctx, filepath.Join(h.dir, "postgres"))
		if err != nil {
			return nil, err
		}
		h.postgres = p
	}
	return h.postgres, nil
}

// cache returns the house's Redis, started on first use.
func (h *shared) cache(ctx context.Context) (*redis, error) {
	h.servers.Lock()
	defer h.servers.Unlock()
	if h.redis == nil {
		c, err := newRedis(ctx, h.dir)
		if err != nil {
			return nil, err
		}
		h.redis = c
	}
	return h.redis, nil
}

// database makes an empty database on the house's PostgreSQL.
func (h *shared) database(ctx context.Context) (string, error) {
	p, err := h.server(ctx)
	if err != nil {
		return "", err
	}
	url, _, err := process.NewDatabase(ctx, p.url()) // it goes with the server
	return url, err
}

func (h *shared) close() error {
	var errs []error
	if h.postgres != nil {
		errs = append(errs, h.postgres.end())
	}
	if h.redis != nil {
		errs = append(errs, h.redis.stop())
	}
	if h.keep {
		fmt.Fprintln(os.Stderr, "chaos: kept", h.dir)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(h.dir))...)
}

// eventually polls until ok says yes, and returns how long that took.
func eventually(ctx context.Context, within time.Duration, what string, ok func() bool) (time.Duration, error) {
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > within || ctx.Err() != nil {
			return time.Since(began), errors.Join(fmt.Errorf("not within %s: %s", within, what), ctx.Err())
		}
		<-tick.C
	}
	return time.Since(began), nil
}
