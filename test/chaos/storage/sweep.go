package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"landline/internal/sqldb/faultfs"
)

// target is a kind of operation and the ways in which it can fail.
type target struct {
	name  string
	op    faultfs.Op
	kinds []faultfs.Kind
	dies  bool // all that follow fail too, then the process dies, and the next one goes on until the power goes
}

var targets = []target{
	{name: "write", op: faultfs.Write, kinds: []faultfs.Kind{faultfs.EIO, faultfs.Torn, faultfs.Space}},
	{name: "sync", op: faultfs.Sync, kinds: []faultfs.Kind{faultfs.EIO, faultfs.Space}},
	{name: "sync, with all later ones until the process dies,", op: faultfs.Sync, kinds: []faultfs.Kind{faultfs.EIO}, dies: true},
	{name: "truncate", op: faultfs.Truncate, kinds: []faultfs.Kind{faultfs.EIO}},
	{name: "create", op: faultfs.Create, kinds: []faultfs.Kind{faultfs.EIO, faultfs.Space}},
	{name: "open", op: faultfs.Open, kinds: []faultfs.Kind{faultfs.EIO}},
	{name: "delete", op: faultfs.Delete, kinds: []faultfs.Kind{faultfs.EIO}},
	{name: "map", op: faultfs.Map, kinds: []faultfs.Kind{faultfs.EIO}},
	{name: "read", op: faultfs.Read, kinds: []faultfs.Kind{faultfs.EIO}},
}

// swept is what a sweep over one kind of fault found.
type swept struct {
	name    string
	points  int // k at which the fault struck
	refused int // of them, at which a step of the script said so
	broken  []string
	dead    []string // k after which the house did not work again
}

// sweep fails the k-th operation of a script for every k from 1 until the script
// does not get that far; with a stride, only every stride-th.
func (r *rig) sweep(ctx context.Context, t target, kind faultfs.Kind, empty bool, stride int) (swept, error) {
	s := swept{name: t.name + " " + kind.String()}
	var mu sync.Mutex
	var all error
	next, end := 1, false
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() {
			for {
				mu.Lock()
				k := next
				next += stride
				stop := end
				mu.Unlock()
				if stop {
					return
				}
				p, err := r.point(ctx, faultfs.Fault{Ops: t.op, At: k, Times: pick(t.dies, -1, 1), Kind: kind}, empty, t.dies)
				mu.Lock()
				all = errors.Join(all, err)
				end = end || err != nil || !p.hit
				if p.hit {
					s.points++
				}
				if p.refused {
					s.refused++
				}
				for _, b := range p.broken {
					s.broken = append(s.broken, fmt.Sprintf("%s at %d: %s", s.name, k, b))
				}
				if p.unusable != nil {
					s.dead = append(s.dead, fmt.Sprintf("%s at %d: %v", s.name, k, p.unusable))
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return s, all
}

type point struct {
	hit      bool
	refused  bool
	broken   []string
	unusable error
}

// point runs the script with one fault, then again without, in the same process
// or the next one, cuts the power so that only what was synced remains, and checks
// every promise.
func (r *rig) point(ctx context.Context, f faultfs.Fault, empty, dies bool) (pt point, err error) {
	dir, err := r.directory(pick(empty, "", r.template))
	if err != nil {
		return pt, err
	}
	disk, err := faultfs.Mount(dir)
	if err != nil {
		return pt, err
	}
	defer disk.Unmount()
	p := newPromises()
	disk.Fail(f)
	h, err := open(ctx, dir, false, start)
	if err == nil {
		pt.refused = script(ctx, h, p, "first", nil)
	} else {
		pt.refused = true
	}
	pt.hit = disk.Hit() > 0
	disk.Fail(faultfs.Fault{})
	if dies {
		disk.Cut()
		if h != nil {
			quiet.Debug("closed on a dead disk", "error", h.db.Close())
		}
		if disk, err = disk.Remount(); err != nil {
			return pt, err
		}
	}
	if err != nil || dies {
		h, err = open(ctx, dir, false, start)
	}
	switch {
	case err != nil:
	case dies: // a checkpoint later would put everything right
		disk.CutAfter(1 + f.At%19)
		script(ctx, h, p, "again", nil)
	default:
		script(ctx, h, p, "again", &err)
	}
	if err != nil {
		pt.unusable = err
	}
	disk.Cut()
	if h != nil {
		quiet.Debug("closed on a dead disk", "error", h.db.Close())
	}
	image, err := r.directory("")
	if err == nil {
		err = disk.Image(seeded(uint64(f.At)), image) // #nosec G115 -- a count
	}
	if err != nil {
		return pt, err
	}
	broken, corrupt := survey(ctx, image, p)
	if corrupt != nil {
		broken = append(broken, corrupt.Error())
	}
	pt.broken = broken
	return pt, errors.Join(os.RemoveAll(image), os.RemoveAll(dir))
}

// script does one step of every actor. It reports whether one was refused, and
// the first refusal in *first.
func script(ctx context.Context, h *house, p *promises, round string, first *error) (refused bool) {
	for i, a := range actors {
		n := 3 * (i % 2) // phones of both kinds; the keeper's step with a checkpoint
		if a.name == "keeper" {
			n = 3
		}
		if err := a.step(ctx, h, p, round+"-"+a.name, n); err != nil {
			refused = true
			if first != nil && *first == nil {
				*first = fmt.Errorf("%s: %w", a.name, err)
			}
		}
	}
	return refused
}
