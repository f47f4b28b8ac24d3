package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// figure is one line of the table.
type figure struct {
	theme, name, value, want string
	ok                       bool
}

// report collects figures. It is safe for concurrent use.
type report struct {
	theme string
	short bool

	mu      sync.Mutex
	figures []figure
	notes   []string // what explains a broken invariant, bounded
}

const maxNotes = 20

func (r *report) add(name, value, want string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures = append(r.figures, figure{r.theme, name, value, want, ok})
}

// info is a figure without a threshold.
func (r *report) info(name, format string, args ...any) {
	r.add(name, fmt.Sprintf(format, args...), "", true)
}

// zero is a figure that must be 0.
func (r *report) zero(name string, n int) { r.add(name, fmt.Sprint(n), "0", n == 0) }

// atLeast is a figure that must reach least: above all, that the faults really happened.
func (r *report) atLeast(name string, n, least int) {
	r.add(name, fmt.Sprint(n), fmt.Sprintf(">= %d", least), n >= least)
}

func (r *report) atMost(name string, n, most int) {
	r.add(name, fmt.Sprint(n), fmt.Sprintf("<= %d", most), n <= most)
}

// ratio is a share in per cent that must reach least.
func (r *report) ratio(name string, share, least float64) {
	r.add(name, fmt.Sprintf("%.0f %%", 100*share), fmt.Sprintf(">= %.0f %%", 100*least), share >= least)
}

// quietly is a figure that says more of the machine than of the server in the
// short form, and on a machine with more work than processors: it is told then,
// and not judged.
func (r *report) quietly(name, value, want string, ok bool) {
	switch load := loadAverage(); {
	case r.short:
		r.add(name, value, "", true)
	case load > 2*float64(runtime.NumCPU()):
		r.add(name, value, fmt.Sprintf("%s; not judged at a load of %.0f", want, load), true)
	default:
		r.add(name, value, want, ok)
	}
}

// within is a time that must stay below most, quietly.
func (r *report) within(name string, d, most time.Duration) {
	r.quietly(name, ms(d), "< "+ms(most), d < most)
}

// loadAverage is that of the last minute, 0 where it cannot be told.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		return 0
	}
	return load
}

// broken notes why an invariant did not hold.
func (r *report) broken(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) < maxNotes {
		r.notes = append(r.notes, r.theme+": "+fmt.Sprintf(format, args...))
	}
}

// print writes the table and reports whether every invariant held.
func (r *report) print(w io.Writer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ok := true
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "theme\tfigure\tvalue\tmust be\t")
	for _, f := range r.figures {
		verdict := ""
		if !f.ok {
			ok, verdict = false, "BROKEN"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", f.theme, f.name, f.value, f.want, verdict)
	}
	out.Flush()
	for _, n := range r.notes {
		fmt.Fprintln(w, n)
	}
	return ok
}

func ms(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/1e6) }

// quantile returns the value below which the share q of all is.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// times collects durations.
type times struct {
	mu  sync.Mutex
	all []time.Duration
}

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, d)
}

func (t *times) quantile(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return quantile(t.all, q)
}

// join adds those of another.
func (t *times) join(o *times) {
	o.mu.Lock()
	more := slices.Clone(o.all)
	o.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, more...)
}

func (t *times) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = nil
}

func (t *times) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all)
}

// log keeps the last lines.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines[max(0, len(l.lines)-9):], time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (l *log) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[max(0, len(l.lines)-n):])
}
