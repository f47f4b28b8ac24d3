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
	{"leak", "nothing grows with the number of requests", leak},
}

func main() {
	var s settings
	flag.BoolVar(&s.short, "short", os.Getenv("CHAOS_SHORT") != "", "run the short form")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of the faults")
	flag.DurationVar(&s.kill, "kill", 0, "how long the kill loops last together; 0 = 10m, short 25s")
	flag.IntVar(&s.requests, "requests", 0, "requests of the leak theme; 0 = 1000000, short 50000")
	flag.BoolVar(&s.keep, "keep", false, "keep the working directory with the logs")
	flag.Usage = usage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, s, flag.Args())
	stop()
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

// run runs the named themes, or all, and prints the table. A theme that cannot
// go on is an error; the figures until then are printed all the same.
func run(ctx context.Context, s settings, names []string) (ok bool, err error) {
	for _, name := range names {
		if !slices.ContainsFunc(themes, func(t theme) bool { return t.name == name }) {
			return false, fmt.Errorf("there is no theme %q", name)
		}
	}
	h, err := newHouse(ctx, s)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	r := &report{short: s.short}
	var errs []error
	for _, t := range themes {
		if len(names) > 0 && !slices.Contains(names, t.name) || ctx.Err() != nil {
			continue
		}
		r.theme = t.name
		began := time.Now()
		fmt.Fprintf(os.Stderr, "chaos: %s: %s\n", t.name, t.about)
		if err := t.run(ctx, h, r); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.name, err))
		}
		if err := h.endNodes(); err != nil {
			errs = append(errs, err)
		}
		r.info("time", "%.0f s", time.Since(began).Seconds())
	}
	fmt.Printf("chaos: seed %d, short %v, %s\n", s.seed, s.short, machine())
	ok = r.print(os.Stdout)
	return ok, errors.Join(append(errs, ctx.Err())...)
}
