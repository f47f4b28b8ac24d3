// Package bench is what the programs of test/load have in common: processes to
// measure, a generator as light as possible, interleaved rounds, and tables with
// ratios to a baseline.
//
// A program states rows: each is a process, a request, and what a good answer
// is. Compare sends every row's requests for one round, then again, as often as
// there are rounds, so that what else the machine does meets all rows alike. The
// median of the rounds counts; ratios are against the first row. To add a row,
// add a Row.
//
// The generator shares the machine with what it measures: compare ratios, not
// absolute figures. It looks at every answer: its status, its length, its
// fields, and its body where a row says what must be in it.
package bench

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options are the flags that all programs have. With BENCH_SHORT=1 in the
// environment the defaults are those of a short run, as CI makes.
type Options struct {
	Landline    string        // binary to measure
	Rounds      int           // the median counts
	Duration    time.Duration // of one round
	Connections int           // at the same time
	Short       bool
	Latency     bool // Print also has the 50th and the 99th percentile of one request's time
	Generator   bool // Print also has the CPU time of process and generator together

	profile string
}

// Flags declares the flags; call flag.Parse after it.
func Flags() *Options {
	o := &Options{Short: os.Getenv("BENCH_SHORT") != ""}
	o.Rounds, o.Duration = 7, 2*time.Second
	if o.Short {
		o.Rounds, o.Duration = 5, 250*time.Millisecond
	}
	flag.StringVar(&o.Landline, "landline", "bin/landline", "binary to measure")
	flag.IntVar(&o.Rounds, "rounds", o.Rounds, "rounds; the median counts")
	flag.DurationVar(&o.Duration, "duration", o.Duration, "length of one round")
	flag.IntVar(&o.Connections, "connections", 32, "connections at the same time")
	flag.StringVar(&o.profile, "profile", "", "also write a CPU profile of landline in the row that matters to this file")
	return o
}

// Main runs measure, or the role that a child process was started in, and ends the program.
func Main(measure func() error, roles map[string]func() error) {
	role := flag.String("role", "", "internal: what this process is for")
	flag.Parse()
	if *role != "" {
		measure = roles[*role]
	}
	if measure == nil {
		fmt.Fprintln(os.Stderr, "no such role:", *role)
		os.Exit(2)
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Row is one row of a table.
type Row struct {
	Name    string
	Process *Process                      // whose CPU time counts; nil: that of this program
	Server  func() (time.Duration, error) // CPU time so far of the database it uses; nil: it has none of its own
	Client                                // what the generator does

	rates, cpu, both, server []float64
	times                    []time.Duration // of every request of the measured rounds
}

// Rate and CPU are the medians: requests a second, and microseconds of the
// process's CPU time for one.
func (r *Row) Rate() float64 { return Median(r.rates) }

// CPU is explained at Rate.
func (r *Row) CPU() float64 { return Median(r.cpu) }

// Compare measures rows in interleaved rounds, after one round of warming up.
func (o *Options) Compare(rows []*Row) error {
	for _, r := range rows {
		if _, _, err := r.round(min(o.Duration, 300*time.Millisecond), o.Connections); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		r.times = nil
	}
	for range o.Rounds {
		for _, r := range rows {
			began, err := r.around()
			if err != nil {
				return err
			}
			rate, cpu, err := r.round(o.Duration, o.Connections)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
			ended, err := r.around()
			if err != nil {
				return err
			}
			requests := max(1, rate*o.Duration.Seconds())
			own := float64((ended.generator - began.generator).Microseconds()) / requests
			if r.Process != nil {
				own += cpu
			}
			r.rates, r.cpu, r.both = append(r.rates, rate), append(r.cpu, cpu), append(r.both, own)
			r.server = append(r.server, float64((ended.server-began.server).Microseconds())/requests)
		}
	}
	return nil
}

// around is the CPU time so far of what works beside the row's process.
func (r *Row) around() (spent struct{ generator, server time.Duration }, err error) {
	if spent.generator, err = (*Process)(nil).cpuTime(); err == nil && r.Server != nil {
		spent.server, err = r.Server()
	}
	return spent, err
}

// Warm sends the first n requests of one connection.
func (r *Row) Warm(n int) error {
	_, err := r.drive(1, n, time.Now().Add(time.Minute))
	return err
}

// Prepare sends the first n requests of each connection, to get what a
// measurement needs. Nothing of it is counted.
func (r *Row) Prepare(connections, n int) error {
	_, err := r.drive(connections, n, time.Now().Add(10*time.Minute))
	if err != nil {
		return fmt.Errorf("%s: %w", r.Name, err)
	}
	return nil
}

// round sends requests for a while.
func (r *Row) round(d time.Duration, connections int) (rate, cpu float64, err error) {
	before, err := r.Process.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	times, err := r.drive(connections, 0, began.Add(d))
	took := time.Since(began)
	if err != nil {
		return 0, 0, err
	}
	r.times = append(r.times, times...)
	after, err := r.Process.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	return float64(len(times)) / took.Seconds(), float64((after - before).Nanoseconds()) / 1e3 / float64(max(len(times), 1)), nil
}

// Print prints a table of rows, with ratios to the first: above 1 is better.
// reach is what is asked of rows, by name: "≥ 1.2".
func (o *Options) Print(title string, rows []*Row, reach map[string]string) {
	fmt.Printf("\n### %s\n\n%d connections, %d rounds of %s, interleaved, median.\n\n", title, o.Connections, o.Rounds, o.Duration)
	cells := [][]string{{"", "requests/s", "ratio", "µs of CPU per request", "ratio"}}
	for _, r := range rows {
		cells = append(cells, []string{r.Name, fmt.Sprintf("%.0f", r.Rate()), fmt.Sprintf("%.2f", r.Rate()/rows[0].Rate()),
			fmt.Sprintf("%.1f", r.CPU()), fmt.Sprintf("%.2f", rows[0].CPU()/r.CPU())})
	}
	if o.Latency {
		cells[0] = append(cells[0], "p50 ms", "p99 ms")
		for i, r := range rows {
			slices.Sort(r.times)
			cells[i+1] = append(cells[i+1], milliseconds(r.times, 0.5), milliseconds(r.times, 0.99))
		}
	}
	if o.Generator {
		cells[0] = append(cells[0], "µs with the generator's")
		for i, r := range rows {
			cells[i+1] = append(cells[i+1], fmt.Sprintf("%.1f", Median(r.both)))
		}
	}
	if slices.ContainsFunc(rows, func(r *Row) bool { return r.Server != nil }) {
		cells[0] = append(cells[0], "µs of the database server")
		for i, r := range rows {
			cells[i+1] = append(cells[i+1], fmt.Sprintf("%.1f", Median(r.server)))
		}
	}
	cells[0] = append(cells[0], "reach")
	for i, r := range rows {
		cells[i+1] = append(cells[i+1], reach[r.Name])
	}
	Table(cells)
}

// milliseconds is a quantile of sorted times.
func milliseconds(sorted []time.Duration, q float64) string {
	if len(sorted) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", float64(sorted[int(q*float64(len(sorted)-1))].Microseconds())/1000)
}

// Table prints rows of cells as Markdown, the first as the head.
func Table(rows [][]string) {
	for i, row := range rows {
		fmt.Println("| " + strings.Join(row, " | ") + " |")
		if i == 0 {
			fmt.Println("|" + strings.Repeat("---|", len(row)))
		}
	}
}

// Median of a list that is not empty.
func Median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// CPUs is how many processors generator and measured processes share.
func CPUs() int { return runtime.NumCPU() }
