package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

func main() {
	short := os.Getenv("CHAOS_SHORT") != ""
	cuts := flag.Int("cuts", pick(short, 40, 300), "power cuts")
	seed := flag.Uint64("seed", 1, "seed of the first one")
	flag.Parse()
	ok, err := run(context.Background(), *seed, *cuts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "storage:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

func pick[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}

func run(ctx context.Context, seed uint64, n int) (ok bool, err error) {
	r, err := newRig(ctx)
	if err != nil {
		return false, err
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	began := time.Now()
	var o outcome
	if err := r.cuts(ctx, mode{}, seed, n, &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Fprintln(out, o.cuts, o.early, o.acknowledged(), o.lossy, o.corrupt, time.Since(began), o.done, o.samples)
	return true, r.close()
}
