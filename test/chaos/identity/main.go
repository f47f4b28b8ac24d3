// Command identity runs the simulations of internal/identity as a whole and
// holds their figures against what is promised: phones whose answers are lost,
// that are killed, robbed and restored, and people who sign in, out and over on
// several of them. It exits with 1 when a figure misses its target.
//
//	go run ./test/chaos/identity
//	go run ./test/chaos/identity -seed 20000 -only people -dir /dev/shm
//	CHAOS_SHORT=1 go run ./test/chaos/identity
//
// The short form, for CI, plays less of every simulation, still hundreds of scripts.
//
// The simulations use nothing but SQLite files below -dir; they take minutes. A
// seed that fails is printed with its shortest script; keep it in
// internal/identity/testdata/simulation/seeds, which the ordinary suite runs.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is what a simulation prints.
type figure struct {
	ID     string             `json:"id"`
	Values map[string]float64 `json:"values"`
}

// target is one promise about a figure.
type target struct {
	figure, what string
	of           func(v map[string]float64) float64
	least, most  float64
	unit         string
	brief        float64 // least in the short form, of what is counted; 0 = the same
}

func value(name string) func(map[string]float64) float64 {
	return func(v map[string]float64) float64 { return v[name] }
}

func percent(part, whole string) func(map[string]float64) float64 {
	return func(v map[string]float64) float64 { return 100 * v[part] / v[whole] }
}

const unbounded = 1e18

// targets are what docs/reference/reliability/identity.md promises.
var targets = []target{
	{"F1", "refreshes", value("refreshes"), 100_000, unbounded, "", 1000},
	{"F1", "unwanted logouts", value("unwanted logouts"), 0, 0, "", 0},
	{"F2", "thefts", value("thefts"), 3000, unbounded, "", 100},
	{"F2", "ended at the victim's next refresh", percent("ended", "thefts"), 99, 100, "%", 0},
	{"F2", "thieves with at most one token after it", percent("with at most one such grant", "thefts"), 99, 100, "%", 0},
	{"F3", "scripts", value("scripts"), 10_000, unbounded, "", 600},
	{"F3", "merges", value("merges"), 1, unbounded, "", 1},
	{"F3", "records lost", value("lost"), 0, 0, "", 0},
	{"F3", "records doubled", value("doubled"), 0, 0, "", 0},
	{"F3", "records shown to the wrong user", value("shown to the wrong user"), 0, 0, "", 0},
	{"F3", "merges against the law of conservation", value("conservation"), 0, 0, "", 0},
	{"F3", "answers that the model did not expect", value("unexpected answer"), 0, 0, "", 0},
	{"F13", "replays", value("replays"), 2000, unbounded, "", 100},
	{"F13", "second effects", value("second effects"), 0, 0, "", 0},
	{"F14", "sessions in the backup that nobody ended", value("sessions restored"), 100, unbounded, "", 6},
	{"F14", "of them alive after the restore", percent("sessions survived", "sessions restored"), 100, 100, "%", 0},
	{"F14", "ended sessions that came back", value("ended sessions that are back"), 0, 0, "", 0},
	{"F14", "erased users who came back", value("erased users that are back"), 0, 0, "", 0},
}

// simulations are the tests, by the name that -only takes.
var simulations = map[string]struct{ test, figure string }{
	"refreshes": {"TestSimulatedRefreshes/sqlite", "F1"}, "thefts": {"TestSimulatedThefts", "F2"}, "people": {"TestSimulatedPeople/sqlite", "F3"},
	"replays": {"TestSimulatedReplays", "F13"}, "restores": {"TestSimulatedRestores", "F14"},
}

func main() {
	seed := flag.Uint64("seed", 1, "first seed")
	only := flag.String("only", "", "one simulation: refreshes, thefts, people, replays or restores; empty for all")
	short := flag.Bool("short", os.Getenv("CHAOS_SHORT") != "", "play less")
	dir := flag.String("dir", os.TempDir(), "where the databases are made; a file system in memory is quickest")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx, form{*short, *seed}, *only, *dir, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "identity:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// form is how much is played, from which seed on.
type form struct {
	short bool
	seed  uint64
}

func (f form) name() string {
	if f.short {
		return "brief"
	}
	return "whole"
}

func (f form) least(t target) float64 {
	if f.short && t.brief > 0 {
		return t.brief
	}
	return t.least
}

// run builds the tests once and plays every simulation that is asked for.
func run(ctx context.Context, f form, only, dir string, out io.Writer) (ok bool, err error) {
	if _, known := simulations[only]; only != "" && !known {
		return false, fmt.Errorf("-only %s: there is no such simulation", only)
	}
	work, err := os.MkdirTemp(dir, "landline-simulation-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	binary := filepath.Join(work, "identity.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./internal/identity") // #nosec G204 -- of this program alone
	if text, err := build.CombinedOutput(); err != nil {
		return false, fmt.Errorf("build the simulations in the root of the repository: %w\n%s", err, text)
	}
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "figure\twhat\tmeasured\ttarget\t")
	ok = true
	for _, name := range []string{"refreshes", "thefts", "people", "replays", "restores"} {
		if only != "" && only != name {
			continue
		}
		began := time.Now()
		figures, passed, err := play(ctx, binary, work, simulations[name].test, f)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, time.Since(began).Round(time.Second))
		ok = f.judge(table, simulations[name].figure, figures) && passed && ok
	}
	return ok, table.Flush()
}

// play runs one simulation. What it says of failures goes to standard error.
func play(ctx context.Context, binary, work, test string, of form) (map[string]figure, bool, error) {
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^"+strings.ReplaceAll(test, "/", "$/^")+"$", "-test.timeout", "2h", "-test.parallel", strconv.Itoa(2*runtime.NumCPU())) // #nosec G204 -- built above
	cmd.Dir = filepath.Join("internal", "identity")
	cmd.Env = append(os.Environ(), "LANDLINE_SIMULATION="+of.name(), "LANDLINE_SIMULATION_SEED="+strconv.FormatUint(of.seed, 10), "TMPDIR="+work)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, false, err
	}
	if err := cmd.Start(); err != nil {
		return nil, false, err
	}
	figures, bad := map[string]figure{}, error(nil)
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text, is := strings.CutPrefix(lines.Text(), "FIGURE ")
		if !is {
			fmt.Fprintln(os.Stderr, lines.Text())
			continue
		}
		var f figure
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		figures[f.ID] = f
	}
	var exit *exec.ExitError
	err = cmd.Wait()
	if errors.As(err, &exit) && ctx.Err() == nil {
		return figures, false, errors.Join(bad, lines.Err())
	}
	return figures, err == nil, errors.Join(err, bad, lines.Err())
}

// judge writes the rows of a figure; false when one misses its target or is not there.
func (of form) judge(table io.Writer, id string, figures map[string]figure) bool {
	f, there := figures[id]
	if !there {
		fmt.Fprintf(table, "%s\tnothing was measured\t\t\tMISSED\n", id)
		return false
	}
	ok := true
	for _, t := range targets {
		if t.figure != id {
			continue
		}
		t.least = of.least(t)
		got := t.of(f.Values)
		word := ""
		if !(got >= t.least && got <= t.most) { // and not for NaN
			word, ok = "MISSED", false
		}
		fmt.Fprintf(table, "%s\t%s\t%s%s\t%s\t%s\n", t.figure, t.what, number(got), t.unit, bounds(t), word)
	}
	return ok
}

func bounds(t target) string {
	switch {
	case t.least == t.most:
		return number(t.least) + t.unit
	case t.most >= 100 && t.least > 0:
		return "at least " + number(t.least) + t.unit
	}
	return number(t.least) + " to " + number(t.most) + t.unit
}

func number(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 2, 64), ".00")
}
