package balance

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func TestRandomFollowsTheWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 1000), 1, 8).Draw(t, "weights")
		total := 0
		for _, w := range weights {
			total += w
		}
		if total == 0 {
			if got := Random(weights); got != None {
				t.Fatalf("chose %d of nothing", got)
			}
			return
		}
		const draws = 4000
		counts := make([]int, len(weights))
		for range draws {
			counts[Random(weights)]++
		}
		for i, w := range weights {
			p := float64(w) / float64(total)
			if w == 0 && counts[i] > 0 {
				t.Fatalf("weight 0 was chosen %d times", counts[i])
			}
			if off := math.Abs(float64(counts[i]) - p*draws); off > 7*math.Sqrt(draws*p*(1-p))+1 {
				t.Fatalf("target %d: %d of %d, want about %.0f", i, counts[i], draws, p*draws)
			}
		}
	})
}

func names(n, from int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = Hash("http://10.0.0." + strconv.Itoa(from+i) + ":9000")
	}
	return list
}

const keys = 20_000

func choices(names []uint64, weights []int) []int {
	list := make([]int, keys)
	for k := range list {
		list[k] = Rendezvous(Hash("ins_"+strconv.Itoa(k)), names, weights)
	}
	return list
}

func TestRendezvousFollowsTheWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 100), 2, 8).Draw(t, "weights")
		weights[0]++
		total := 0
		for _, w := range weights {
			total += w
		}
		counts := make([]int, len(weights))
		for _, i := range choices(names(len(weights), rapid.IntRange(0, 200).Draw(t, "from")), weights) {
			counts[i]++
		}
		for i, w := range weights {
			p := float64(w) / float64(total)
			if off := math.Abs(float64(counts[i]) - p*keys); off > 7*math.Sqrt(keys*p*(1-p))+1 {
				t.Fatalf("target %d with %d of %d: %d of %d keys", i, w, total, counts[i], keys)
			}
		}
	})
}

// A change of one target moves keys to or from it alone, and only as many as
// its share of the weight is.
func TestRendezvousMovesOnlyWhatAChangedTargetGainsOrLoses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.SliceOfN(rapid.IntRange(0, 100), 2, 8).Draw(t, "weights")
		before[0] += 1
		i := rapid.IntRange(0, len(before)-1).Draw(t, "changed")
		after := append([]int(nil), before...)
		after[i] = rapid.IntRange(0, 100).Draw(t, "to")
		if i == 0 && after[0] == 0 {
			after[0] = 1
		}
		n := names(len(before), 1)
		was, is := choices(n, before), choices(n, after)
		moved := 0
		for k := range was {
			if was[k] == is[k] {
				continue
			}
			moved++
			if gains := after[i] > before[i]; gains && is[k] != i || !gains && was[k] != i {
				t.Fatalf("target %d went from %d to %d, and a key from %d to %d", i, before[i], after[i], was[k], is[k])
			}
		}
		share := func(w []int) float64 {
			total := 0
			for _, v := range w {
				total += v
			}
			return float64(w[i]) / float64(total)
		}
		p := math.Abs(share(after) - share(before))
		if float64(moved) > p*keys+7*math.Sqrt(keys*p*(1-p))+1 {
			t.Fatalf("moved %d of %d, want about %.0f", moved, keys, p*keys)
		}
	})
}

func TestHashIsTheSameForEver(t *testing.T) {
	// Another value would move every installation to another target on update.
	n := []uint64{Hash("a"), Hash("b"), Hash("c")}
	var got string
	for k := range 12 {
		got += strconv.Itoa(Rendezvous(Hash(strconv.Itoa(k)), n, []int{1, 1, 1}))
	}
	if got != "000002021110" {
		t.Errorf("choices %s", got)
	}
}

func BenchmarkRendezvous(b *testing.B) {
	n, w := names(8, 1), []int{1, 1, 1, 1, 1, 1, 1, 1}
	for b.Loop() {
		Rendezvous(Hash("ins_0190f0a0-0000-7000-8000-000000000001"), n, w)
	}
}
