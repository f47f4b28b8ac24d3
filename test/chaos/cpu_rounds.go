package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// price measures what one request of each kind costs alone, and sets the mix.
func (s *siege) price(ctx context.Context) error {
	for _, k := range s.gun.kinds {
		one := s.gun
		one.kinds = []*ammunition{k}
		k.weight = 1
		before, err := cpuTime(s.node.PID())
		if err != nil {
			return err
		}
		clients, length := 4, pick(s.h, 2*time.Second, 500*time.Millisecond)
		one.press(ctx, clients, length)
		after, err := cpuTime(s.node.PID())
		if err != nil {
			return err
		}
		n := k.good.Load()
		if n == 0 {
			return fmt.Errorf("%s: none was answered, %d turned away: %v", k.name, k.shed.Load(), k.example.Load())
		}
		k.cost = (after - before) / time.Duration(n)
		k.weight = cpuMix[k.name] / k.cost.Seconds()
		s.r.info("processor time of one "+k.name, "%d µs", k.cost.Microseconds())
		k.reset()
	}
	return ctx.Err()
}

// spell is what a spell of load did.
type spell struct {
	offered   int
	took, cpu time.Duration // wall clock, and the node's processor time
	idle      float64       // part of the node's processor that nobody used
	work      time.Duration // what was answered, by price
}

// goodput is work for each second of the processor that the node could have.
func (p spell) goodput() float64 { return p.work.Seconds() / p.cpu.Seconds() * (1 - p.idle) }

func (s *siege) spell(load func() int) (p spell, err error) {
	for _, k := range s.gun.kinds {
		k.reset()
	}
	idle, err := idleTime(0)
	if err != nil {
		return p, err
	}
	before, err := cpuTime(s.node.PID())
	if err != nil {
		return p, err
	}
	began := time.Now()
	p.offered = load()
	p.took = time.Since(began)
	after, err := cpuTime(s.node.PID())
	if err != nil {
		return p, err
	}
	then, err := idleTime(0)
	if err != nil {
		return p, err
	}
	p.cpu, p.idle = after-before, (then-idle).Seconds()/p.took.Seconds()
	for _, k := range s.gun.kinds {
		p.work += time.Duration(k.good.Load()) * k.cost
	}
	return p, nil
}

func (s *siege) rounds(ctx context.Context) error {
	length := pick(s.h, 10*time.Second, 2*time.Second)
	peak, err := s.spell(func() int { s.gun.press(ctx, 48, length/2); return 0 })
	if err != nil {
		return err
	}
	answered := int64(0)
	for _, k := range s.gun.kinds {
		answered += k.good.Load()
	}
	rate := float64(answered) / peak.took.Seconds()
	fmt.Printf("peak %.0f/s cpu %v idle %.2f goodput %.2f\n", rate, peak.cpu, peak.idle, peak.goodput())
	s.dump()
	over, err := s.spell(func() int { return s.gun.fire(ctx, cpuOverload*rate, length) })
	if err != nil {
		return err
	}
	fmt.Printf("over offered %d took %v cpu %v idle %.2f goodput %.2f\n", over.offered, over.took, over.cpu, over.idle, over.goodput())
	s.dump()
	os.WriteFile("/tmp/cpu.log", []byte(s.node.Logs.String()), 0o600)
	return ctx.Err()
}

func (s *siege) dump() {
	for _, k := range s.gun.kinds {
		fmt.Printf("  %-8s w %.0f good %d shed %d failed %d unexplained %d p50 %s p99 %s; refusal p50 %s p99 %s; %v\n", k.name, k.weight, k.good.Load(), k.shed.Load(), k.failed.Load(), k.unexplained.Load(),
			ms(k.slowest.quantile(.5)), ms(k.slowest.quantile(.99)), ms(k.refusals.quantile(.5)), ms(k.refusals.quantile(.99)), k.example.Load())
	}
}
