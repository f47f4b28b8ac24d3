package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	o := full
	if os.Getenv("CHAOS_SHORT") != "" {
		o = brief
	}
	flag.IntVar(&o.cuts, "cuts", o.cuts, "power cuts")
	flag.IntVar(&o.wire, "wire", o.wire, "power cuts under all of Landline")
	flag.Uint64Var(&o.seed, "seed", o.seed, "seed of the first one")
	flag.Parse()
	missed, err := run(context.Background(), os.Stdout, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "storage:", err)
	}
	if err != nil || missed > 0 {
		os.Exit(1)
	}
}

// options say how much is done.
type options struct {
	seed     uint64
	cuts     int // power cuts
	wire     int // power cuts under all of Landline
	control  int // power cuts of each control
	stride   int // of the sweep over a running installation
	creation int // stride of the sweep over the first start
}

var (
	full  = options{seed: 1, cuts: 300, wire: 60, control: 60, stride: 1, creation: 5}
	brief = options{seed: 1, cuts: 40, wire: 8, control: 15, stride: 12, creation: 60}
)

// table prints lines of what was tried, what came of it and whether the target is met.
type table struct {
	out    *tabwriter.Writer
	notes  []string
	missed int
}

func (t *table) line(what, tried, found, target string, ok bool, notes ...string) {
	verdict := "met"
	if !ok {
		verdict = "MISSED"
		t.missed++
	}
	fmt.Fprintf(t.out, "%s\t%s\t%s\t%s\t%s\n", what, tried, found, target, verdict)
	t.notes = append(t.notes, notes...)
}

// run prints the table and returns how many targets were missed.
func run(ctx context.Context, w io.Writer, o options) (missed int, err error) {
	r, err := newRig(ctx)
	if err != nil {
		return 0, err
	}
	t := &table{out: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	began := time.Now()
	fmt.Fprintln(t.out, "fault\ttried\tfound\ttarget\t")
	err = errors.Join(r.powerCuts(ctx, t, o), r.sweeps(ctx, t, o), r.fullDisk(ctx, t))
	err = errors.Join(err, t.out.Flush(), r.close())
	for _, n := range t.notes {
		fmt.Fprintln(w, " ", n)
	}
	fmt.Fprintf(w, "seed %d, %.0f s\n", o.seed, time.Since(began).Seconds())
	return t.missed, err
}

func (r *rig) powerCuts(ctx context.Context, t *table, o options) error {
	var real, wire, relaxed, lying outcome
	err := errors.Join(
		r.cuts(ctx, mode{}, o.seed, o.cuts, &real),
		many(o.seed, o.wire, func(seed uint64) error { return r.cutSite(ctx, seed, &wire) }),
		r.cuts(ctx, mode{relaxed: true}, o.seed, o.control, &relaxed),
		r.cuts(ctx, mode{lying: true}, o.seed, o.control, &lying))
	tried := func(o *outcome) string {
		return fmt.Sprintf("%d cuts, %d acknowledged operations", o.cuts, o.acknowledged())
	}
	found := func(o *outcome) string {
		return fmt.Sprintf("%d cuts broke a promise, %d databases unsound", o.lossy, o.corrupt)
	}
	t.line("power cut", tried(&real), found(&real), "0, 0", real.lossy == 0 && real.corrupt == 0 && real.cuts == o.cuts,
		append([]string{fmt.Sprintf("power cuts: %d during the first start; acknowledged: %s", real.early, kinds(real.done))}, real.samples...)...)
	t.line("power cut under all of Landline, over HTTP", tried(&wire), found(&wire), "0, 0", wire.lossy == 0 && wire.corrupt == 0 && wire.cuts == o.wire,
		append([]string{fmt.Sprintf("over HTTP: %d during the first start; acknowledged: %s", wire.early, kinds(wire.done))}, wire.samples...)...)
	t.line("control: synchronous=NORMAL", tried(&relaxed), found(&relaxed), "> 0, 0", relaxed.lossy > 0 && relaxed.corrupt == 0)
	// How many of a few cuts leave an unsound file is chance; that one is seen is a test.
	t.line("control: a disk that lies", tried(&lying), found(&lying), "> 0, any", lying.lossy > 0)
	return err
}

func kinds(done map[string]int) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(done)) {
		all = append(all, fmt.Sprintf("%s %d", kind, done[kind]))
	}
	return strings.Join(all, ", ")
}

func (r *rig) sweeps(ctx context.Context, t *table, o options) (all error) {
	for _, empty := range []bool{false, true} {
		what, stride := "k-th ", o.stride
		if empty { // with the making and migrating of the file
			what, stride = "first start, k-th ", o.creation
		}
		for _, target := range targets {
			var sum swept
			var names []string
			for _, kind := range target.kinds {
				s, err := r.sweep(ctx, target, kind, empty, stride)
				all = errors.Join(all, err)
				names = append(names, kind.String())
				sum.points, sum.refused = sum.points+s.points, sum.refused+s.refused
				sum.broken, sum.dead = append(sum.broken, s.broken...), append(sum.dead, s.dead...)
			}
			notes := slices.Concat(sum.broken, sum.dead)
			if sum.points > 0 {
				t.line(what+target.name+" fails ("+strings.Join(names, ", ")+")", fmt.Sprintf("%d points, %d refusals", sum.points, sum.refused),
					fmt.Sprintf("%d wrong, %d unusable afterwards", len(sum.broken), len(sum.dead)), "0, 0", len(notes) == 0, notes[:min(3, len(notes))]...)
			}
		}
	}
	return all
}

func (r *rig) fullDisk(ctx context.Context, t *table) error {
	f, err := r.fill(ctx)
	t.line("disk full", fmt.Sprintf("%d reads, %d writes", f.reads, f.writes),
		fmt.Sprintf("%d reads answered, %d writes refused with 503, writing again %.1f ms after there was space", f.reads, f.refused, float64(f.recovered.Microseconds())/1000),
		"all, all, no restart", err == nil && len(f.faults) == 0 && f.refused == f.writes, f.faults[:min(5, len(f.faults))]...)
	return err
}
