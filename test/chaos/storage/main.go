package main

import (
	"context"
	"flag"
	"fmt"
	"time"
)

func main() {
	cuts := flag.Int("cuts", 300, "power cuts")
	seed := flag.Uint64("seed", 1, "seed of the first one")
	flag.Parse()
	ctx := context.Background()
	r, err := newRig(ctx)
	if err != nil {
		panic(err)
	}
	_ = cuts
	_ = seed
	for _, empty := range []bool{false, true} {
		for _, t := range targets {
			for _, k := range t.kinds {
				b := time.Now()
				s, err := r.sweep(ctx, t, k, empty, map[bool]int{false: 1, true: 10}[empty])
				fmt.Println(empty, s.name, s.points, s.refused, len(s.broken), len(s.dead), err, time.Since(b))
				for i, x := range append(s.broken, s.dead...) {
					if i < 4 {
						fmt.Println("   ", x)
					}
				}
			}
		}
	}
	fmt.Println(r.close())
}
