package identity

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// simAction is one line of a script. What does not apply when its turn comes is
// passed over, so that any part of a script is a script.
type simAction struct {
	What  string // see simActs
	Phone int
	A, B  int // what the act makes of them
	Net   int // of the call: see simNet
}

func (a simAction) String() string {
	return fmt.Sprintf("%s(phone %d, %d, %d) %s", a.What, a.Phone, a.A, a.B, simNet[a.Net])
}

// simNet is what the network does to a call; what comes back to the app is lost but for the first.
var simNet = []string{"", "request lost", "answer lost", "twice", "again later"}

const (
	netFine = iota
	netRequestLost
	netAnswerLost
	netTwice
	netLater
)

var simActs = []struct {
	what   string
	weight int
}{
	{"write", 44}, {"sign in", 20}, {"sign out", 14}, {"refresh", 4}, {"switch", 6}, {"offline", 10}, {"online", 8}, {"flush", 4},
	{"delete", 1}, {"reinstall", 2}, {"wait", 4}, {"stranger", 2},
}

// simScript makes the script of a seed.
func simScript(seed uint64) []simAction {
	rng := simRand(seed)
	sum := 0
	for _, a := range simActs {
		sum += a.weight
	}
	var script []simAction
	for range 16 + rng.IntN(32) {
		a := simAction{Phone: rng.IntN(3), A: rng.IntN(1 << 16), B: rng.IntN(1 << 16)}
		if rng.IntN(3) == 0 {
			a.Net = rng.IntN(len(simNet))
		}
		pick := rng.IntN(sum)
		for _, act := range simActs {
			if pick -= act.weight; pick < 0 {
				a.What = act.what
				break
			}
		}
		script = append(script, a)
	}
	return script
}

// simFault is what a simulation found; the class says which figure it belongs to.
type simFault struct{ class, text string }

func (f *simFault) Error() string { return f.class + ": " + f.text }

// The classes of F3.
const (
	faultLost    = "lost"
	faultDoubled = "doubled"
	faultWrong   = "shown to the wrong user"
	faultLaw     = "conservation"
	faultAnswer  = "unexpected answer"
)

// runPeople plays a script with fresh phones against the server and the model.
func runPeople(s *simServer, name string, script []simAction, counts map[string]int) (fault *simFault) {
	w := &simPeople{s: s, name: name, model: newModel(), counts: counts}
	defer func() {
		switch found := recover().(type) {
		case nil:
		case *simFault:
			fault = found
		default:
			panic(found)
		}
	}()
	for _, a := range script {
		w.act(a)
	}
	w.heal()
	w.compare()
	return nil
}

// shrink makes the script as short as it can be and still fail in the same class.
func shrinkScript(s *simServer, name string, script []simAction, class string) []simAction {
	tries := 0
	fails := func(some []simAction) bool {
		tries++
		f := runPeople(s, fmt.Sprintf("%s-shrink-%d", name, tries), some, map[string]int{})
		return f != nil && f.class == class
	}
	for size := len(script) / 2; size >= 1; size /= 2 {
		for at := 0; at+size <= len(script); {
			shorter := slices.Concat(script[:at], script[at+size:])
			if fails(shorter) {
				script = shorter
			} else {
				at += size
			}
		}
	}
	for i := range script { // and the network as kind as it can be
		kind := slices.Clone(script)
		if kind[i].Net = netFine; script[i].Net != netFine && fails(kind) {
			script = kind
		}
	}
	return script
}

// keptSeeds are seeds that have failed once; they are run for ever.
func keptSeeds(t *testing.T) (all []uint64) {
	t.Helper()
	f, err := os.Open("testdata/simulation/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("testdata/simulation/seeds: %v", err)
		}
		all = append(all, seed)
	}
	return all
}

// TestSimulatedPeople is figure F3: scripts of sign-ins, merges, offline writes,
// sign-outs and deletions, with a network that loses and repeats, against a model.
func TestSimulatedPeople(t *testing.T) {
	t.Parallel()
	testkit.Engines(t, func(t *testing.T, _ func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		t.Parallel()
		postgres := strings.HasSuffix(t.Name(), "/postgres")
		scripts := simCount(60, 10_000)
		if postgres {
			scripts = 10
		}
		seeds := keptSeeds(t)
		for i := range scripts {
			seeds = append(seeds, simFirstSeed(t)+uint64(i))
		}
		r := &peopleRun{total: map[string]float64{faultLost: 0, faultDoubled: 0, faultWrong: 0, faultLaw: 0, faultAnswer: 0}}
		t.Run("scripts", func(t *testing.T) {
			const batch = 500 // of one server, so that its database stays small
			for at := 0; at < len(seeds); at += batch {
				t.Run(fmt.Sprintf("from %d", at), func(t *testing.T) {
					t.Parallel()
					r.play(t, postgres, at, seeds[at:min(at+batch, len(seeds))])
				})
			}
		})
		total := r.total
		for _, needed := range []string{"merges", "conflicts", "deduped", "renamed", "promotions", "late writes", "repeats answered", "deletions", "refused for another user"} {
			if total[needed] == 0 && !postgres {
				t.Errorf("%s never happened: the simulation proves nothing about it", needed)
			}
		}
		if !postgres {
			simFigure(t, "F3", total)
		}
	})
}

// peopleRun adds up what the servers of a run have found.
type peopleRun struct {
	mu     sync.Mutex
	total  map[string]float64
	faults int
}

func (r *peopleRun) add(name string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total[name] += float64(n)
}

// play runs the scripts of seeds against one server. The first faults are shrunk,
// the rest are counted.
func (r *peopleRun) play(t *testing.T, postgres bool, at int, seeds []uint64) {
	s, counts := newSimServer(t, postgres), map[string]int{}
	for i, seed := range seeds {
		script, name := simScript(seed), fmt.Sprintf("run-%d-seed-%d", at+i, seed) // a seed may come twice
		f := runPeople(s, name, script, counts)
		r.add("scripts", 1)
		if f == nil {
			continue
		}
		r.add(f.class, 1)
		r.mu.Lock()
		r.faults++
		few := r.faults <= 4
		r.mu.Unlock()
		if !few {
			t.Errorf("seed %d: %s", seed, f.class)
			continue
		}
		short := shrinkScript(s, name, script, f.class)
		if again := runPeople(s, name+"-short", short, map[string]int{}); again != nil {
			f = again
		}
		t.Errorf("seed %d: %v", seed, f)
		for _, a := range short {
			t.Logf("  %s", a)
		}
	}
	for name, n := range counts {
		r.add(name, n)
	}
}

// rowsOf counts what the database holds for users, whoever they are.
func (s *simServer) rowsOf(user string) []simRecord {
	s.t.Helper()
	all, err := (&simRecords{s.db}).of(context.Background(), user)
	s.must(err)
	return all
}
