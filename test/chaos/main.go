// Command chaos torments landline and counts what breaks: every line it prints
// is a figure with the threshold that it must hold, and one broken threshold
// makes it end with 1.
//
//	make chaos                       everything, about half an hour
//	CHAOS_SHORT=1 make chaos         the short form that CI runs
//	go run ./test/chaos kill network some themes
//
// It starts its own PostgreSQL, Redis and landline processes on free loopback
// ports and sends traffic to nothing else. Faults are drawn from -seed, which is
// printed: the same seed draws the same faults, not the same interleaving.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// theme is one kind of torment.
type theme struct {
	name, about string
	run         func(ctx context.Context, h *house, r *report) error
}

var themes = []theme{
	{"kill", "kill -9 every few hundred milliseconds", kill},
	{"network", "connections cut, delayed, sliced and stalled", network},
	{"dependencies", "PostgreSQL, Redis, DNS and the clock fail", dependencies},
	{"nodes", "one of several nodes is killed, restarted, upgraded", nodes},
	{"linear", "histories across crashes are linearizable", linear},
	{"hostile", "upstreams that break every rule", hostile},
	{"overload", "five times what can be done", overload},
	{"cpu", "five times what the processor can do", cpu},
	{"leak", "nothing grows with the number of requests", leak},
}

func main() {
	var s settings
	flag.BoolVar(&s.short, "short", os.Getenv("CHAOS_SHORT") != "", "run the short form")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of the faults")
	flag.DurationVar(&s.kill, "kill", 0, "how long the kill loops last together; 0 = 10m, short 25s")
	flag.IntVar(&s.requests, "requests", 0, "requests of the leak theme; 0 = 1000000, short 50000")
	flag.StringVar(&s.binaries, "binaries", "", "`directory` in which the servers are built once for several runs; empty = anew for each")
	flag.BoolVar(&s.keep, "keep", false, "keep the working directory with the logs")
	flag.Usage = usage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	all, err := run(ctx, s, flag.Args())
	stop()
	fmt.Printf("chaos: seed %d, short %v, %s\n", s.seed, s.short, machine())
	ok := all.print(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: chaos [flags] [theme...]")
	for _, t := range themes {
		fmt.Fprintf(os.Stderr, "  %-13s %s\n", t.name, t.about)
	}
	flag.PrintDefaults()
}

// lanes are themes that run one after the other, beside the other lanes. Only the
// short form has several: it mostly waits, and is meant to be over soon.
func lanes(short bool) [][]string {
	if short {
		return [][]string{{"kill"}, {"network", "hostile"}, {"dependencies"}, {"linear", "nodes"}}
	}
	return nil
}

// run runs the named themes, or all, ends all that was started, and returns the
// figures. A theme that cannot go on is an error; there are figures until then.
func run(ctx context.Context, s settings, names []string) (all *report, err error) {
	all = &report{}
	for _, name := range names {
		if !slices.ContainsFunc(themes, func(t theme) bool { return t.name == name }) {
			return all, fmt.Errorf("there is no theme %q", name)
		}
	}
	common, err := newShared(ctx, s)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, common.close()) }()
	var chosen []*turn
	for _, t := range themes {
		if len(names) == 0 || slices.Contains(names, t.name) {
			chosen = append(chosen, &turn{theme: t, report: &report{theme: t.name, short: s.short}})
		}
	}
	together(ctx, common, chosen, lanes(s.short))
	together(ctx, common, chosen, nil) // what has no lane
	errs := []error{ctx.Err()}
	for _, t := range chosen {
		all.figures, all.notes = append(all.figures, t.report.figures...), append(all.notes, t.report.notes...)
		errs = append(errs, t.err)
	}
	return all, errors.Join(errs...)
}

// turn is one theme's run.
type turn struct {
	theme
	report *report
	done   bool
	err    error
}

// together runs the lanes beside each other; without lanes, what is left in its order.
func together(ctx context.Context, common *shared, all []*turn, lanes [][]string) {
	if lanes == nil {
		for _, t := range all {
			t.run(ctx, common)
		}
		return
	}
	var running sync.WaitGroup
	for _, lane := range lanes {
		running.Go(func() {
			for _, t := range all {
				if slices.Contains(lane, t.name) {
					t.run(ctx, common)
				}
			}
		})
	}
	running.Wait()
}

// run runs the theme once, and ends its processes.
func (t *turn) run(ctx context.Context, common *shared) {
	if t.done || ctx.Err() != nil {
		return
	}
	t.done = true
	h := &house{shared: common}
	began := time.Now()
	fmt.Fprintf(os.Stderr, "chaos: %s: %s\n", t.name, t.about)
	err := t.theme.run(ctx, h, t.report)
	if t.err = errors.Join(err, h.endNodes()); t.err != nil {
		t.err = fmt.Errorf("%s: %w", t.name, t.err)
	}
	t.report.info("time", "%.0f s", time.Since(began).Seconds())
}
