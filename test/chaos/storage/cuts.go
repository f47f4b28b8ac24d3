package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"landline/internal/sqldb/faultfs"
)

// start is the time at which every fake clock begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// mode is how a power cut is made.
type mode struct {
	relaxed bool // synchronous=NORMAL, a control
	lying   bool // a disk that only pretends to sync, a control
}

// outcome sums up what power cuts did.
type outcome struct {
	mu      sync.Mutex
	cuts    int
	early   int            // of them before the schema was complete
	done    map[string]int // acknowledged operations by kind
	lossy   int            // cuts that broke a promise
	corrupt int            // databases that did not open or were not sound
	samples []string       // the first broken promises
}

func (o *outcome) add(seed uint64, p *promises, early bool, broken []string, corrupt error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cuts++
	if early {
		o.early++
	}
	if o.done == nil {
		o.done = map[string]int{}
	}
	for kind, n := range p.done {
		o.done[kind] += n
	}
	if corrupt != nil {
		o.corrupt++
		broken = append(broken, corrupt.Error())
	}
	if len(broken) > 0 {
		o.lossy++
		if len(o.samples) < 5 {
			o.samples = append(o.samples, fmt.Sprintf("seed %d: %d broken promises, the first: %s", seed, len(broken), broken[0]))
		}
	}
}

func (o *outcome) acknowledged() (n int) {
	for v := range maps.Values(o.done) {
		n += v
	}
	return n
}

// rig makes power cuts in directories of its own.
type rig struct {
	root     string
	template string         // a migrated, empty house
	site     string         // the same as a starting Landline makes it
	dying    sync.WaitGroup // houses whose disk is gone and that are being closed
	room     chan struct{}  // bounds them
}

func newRig(ctx context.Context) (*rig, error) {
	root, err := os.MkdirTemp("", "landline-chaos-")
	if err != nil {
		return nil, err
	}
	r := &rig{root: root, template: filepath.Join(root, "template"), room: make(chan struct{}, 24)}
	if err := os.Mkdir(r.template, 0o700); err != nil {
		return nil, err
	}
	h, err := open(ctx, r.template, false, start)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(h.db.Checkpoint(ctx), h.db.Close()); err != nil {
		return nil, err
	}
	r.site = filepath.Join(root, "site")
	server, err := serve(r.site, "http://127.0.0.1:1")
	if err != nil {
		return nil, err
	}
	return r, server.Close()
}

func (r *rig) close() error {
	r.dying.Wait()
	return os.RemoveAll(r.root)
}

// directory is a new one, with the files of another one or, with "", empty.
func (r *rig) directory(of string) (dir string, err error) {
	if dir, err = os.MkdirTemp(r.root, "disk-"); err != nil || of == "" {
		return dir, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	files, err := os.ReadDir(of)
	for _, f := range files {
		var data []byte
		if err == nil && f.Type().IsRegular() {
			if data, err = os.ReadFile(filepath.Join(of, f.Name())); err == nil { // #nosec G304 -- a directory of this program
				err = root.WriteFile(f.Name(), data, 0o600)
			}
		}
	}
	return dir, err
}

// cuts makes n power cuts, a few at the same time, into out.
func (r *rig) cuts(ctx context.Context, m mode, first uint64, n int, out *outcome) error {
	return many(first, n, func(seed uint64) error { return r.cut(ctx, m, seed, out) })
}

// many calls fn with n seeds, a few at the same time.
func many(first uint64, n int, fn func(seed uint64) error) error {
	seeds := make(chan uint64)
	errs := make(chan error, n)
	var workers sync.WaitGroup
	for range 6 {
		workers.Go(func() {
			for seed := range seeds {
				errs <- fn(seed)
			}
		})
	}
	for i := range n {
		seeds <- first + uint64(i) // #nosec G115 -- a count
	}
	close(seeds)
	workers.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

// cut loads a house, cuts its power at a random operation and checks what is left.
func (r *rig) cut(ctx context.Context, m mode, seed uint64, out *outcome) error {
	rng := seeded(seed)
	early := seed%8 == 0 // these include the first start
	dir, err := r.directory(pick(early, "", r.template))
	if err != nil {
		return err
	}
	disk, err := faultfs.Mount(dir)
	if err != nil {
		return err
	}
	defer disk.Unmount()
	if m.lying {
		disk.Lie()
	}
	disk.CutAfter(1 + rng.IntN(pick(m.relaxed, 500, 120))) // without syncs the writes of a commit are not joined
	p := newPromises()
	h, err := open(ctx, dir, m.relaxed, start)
	if err == nil {
		if err = h.queue.Start(ctx); err == nil {
			err = r.load(ctx, h, disk, p)
		}
		r.bury(h)
	}
	select {
	case <-disk.Dead():
	default:
		return fmt.Errorf("seed %d: the load ended before the power did: %w", seed, err)
	}
	image, err := r.directory("")
	if err != nil {
		return err
	}
	if err := disk.Image(rng, image); err != nil {
		return err
	}
	broken, corrupt := survey(ctx, image, p)
	out.add(seed, p, h == nil, broken, corrupt)
	return os.RemoveAll(image)
}

// load runs every actor until the disk is dead. An error before that is a fault.
func (r *rig) load(ctx context.Context, h *house, disk *faultfs.Disk, p *promises) error {
	errs := make(chan error, len(actors))
	for _, a := range actors {
		go func() {
			for i := 0; ; i++ {
				err := a.step(ctx, h, p, a.name, i)
				select {
				case <-disk.Dead():
					errs <- nil
					return
				default:
				}
				if err != nil {
					errs <- fmt.Errorf("%s failed before the cut: %w", a.name, err)
					disk.Cut()
					return
				}
			}
		}()
	}
	var all error
	for range actors {
		all = errors.Join(all, <-errs)
	}
	return all
}

// bury closes a house whose disk is gone. That takes a while, because the queue
// tries to store its results again.
func (r *rig) bury(h *house) {
	r.room <- struct{}{}
	r.dying.Go(func() {
		defer func() { <-r.room }()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := errors.Join(h.queue.Stop(ctx), h.db.Close()) // both fail: there is no disk
		quiet.Debug("closed on a dead disk", "error", err)
	})
}

// survey starts again on what the power cut has left.
func survey(ctx context.Context, image string, p *promises) (broken []string, corrupt error) {
	if _, err := os.Stat(filepath.Join(image, "main.db")); errors.Is(err, fs.ErrNotExist) && p.total() > 0 {
		return []string{"the database is gone"}, nil
	}
	h, err := open(ctx, image, false, start.Add(time.Minute))
	if err != nil {
		return nil, err
	}
	broken, err = p.check(ctx, h)
	return broken, errors.Join(err, h.db.Close())
}

// seeded is a choice of faults that can be repeated.
func seeded(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 7)) // #nosec G404 -- no secret
}
