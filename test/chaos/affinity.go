package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// onProcessor ties this goroutine's thread, and what it starts, to one processor
// until restore is called, on the same goroutine.
func onProcessor(n int) (restore func() error, err error) {
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	one.Set(n)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("use processor %d alone: %w", n, err)
	}
	return func() error {
		defer runtime.UnlockOSThread()
		return unix.SchedSetaffinity(0, &before)
	}, nil
}

// keepOff moves every thread of this process away from processor n until back is called.
func keepOff(n int) (back func() error, err error) {
	var all, others unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, err
	}
	others = all
	others.Clear(n)
	if !all.IsSet(n) || others.Count() == 0 {
		return nil, errors.New("the node needs a processor and the generator another: two or more are needed, the first among them")
	}
	return func() error { return everyThread(&all) }, everyThread(&others)
}

func everyThread(set *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
			return err
		}
	}
	return nil
}

// idleTime is how long processor n has had nothing to do since the machine started (proc(5)).
func idleTime(n int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != "cpu"+strconv.Itoa(n) {
			continue
		}
		idle, err := strconv.Atoi(f[4])
		if err != nil {
			return 0, err
		}
		waiting, err := strconv.Atoi(f[5])
		return time.Duration(idle+waiting) * 10 * time.Millisecond, err
	}
	return 0, fmt.Errorf("/proc/stat has no processor %d", n)
}
