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
}

var targets = []target{
	{"write", faultfs.Write, []faultfs.Kind{faultfs.EIO, faultfs.Torn, faultfs.Space}},
	{"sync", faultfs.Sync, []faultfs.Kind{faultfs.EIO, faultfs.Space}},
	{"truncate", faultfs.Truncate, []faultfs.Kind{faultfs.EIO}},
	{"create", faultfs.Create, []faultfs.Kind{faultfs.EIO, faultfs.Space}},
	{"open", faultfs.Open, []faultfs.Kind{faultfs.EIO}},
	{"delete", faultfs.Delete, []faultfs.Kind{faultfs.EIO}},
	{"map", faultfs.Map, []faultfs.Kind{faultfs.EIO}},
	{"read", faultfs.Read, []faultfs.Kind{faultfs.EIO}},
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
				p, err := r.point(ctx, faultfs.Fault{Ops: t.op, At: k, Kind: kind}, empty)
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

// point runs the script with one fault, then again without, cuts the power so
// that only what was synced remains, and checks every promise.
func (r *rig) point(ctx context.Context, f faultfs.Fault, empty bool) (pt point, err error) {
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
	if err != nil {
		h, err = open(ctx, dir, false, start)
	}
	if err == nil {
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
