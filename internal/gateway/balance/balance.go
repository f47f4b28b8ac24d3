// Package balance chooses one of several targets: at random by weight, or by a
// key, so that the same key finds the same target on every node.
//
// Keyed choice is weighted rendezvous hashing (Thaler & Ravishankar 1998,
// weights by the logarithmic method of Schindelhauer & Schomaker 2005): each
// target draws a score from the key and its own name, and the highest wins.
// A target that is added or removed, or whose weight changes, moves only the
// keys that it gains or loses: with n equal targets 1/n of them. Nothing is
// shared between nodes, since the scores are the same everywhere.
//
// It does not know health or load: give a target that must not be chosen
// weight 0, and the key goes to the next in its own order.
package balance

import (
	"math"
	"math/rand/v2"
)

// None is the choice among targets without any weight.
const None = -1

// Random chooses an index with a probability proportional to its weight.
func Random(weights []int) int {
	total := 0
	for _, w := range weights {
		total += w
	}
	if total <= 0 {
		return None
	}
	n := rand.IntN(total) // #nosec -- spreading load is no secret
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return None
}

// Hash turns a key, or a target's name, into what Rendezvous takes. It is the
// same on every node and in every version: 64-bit FNV-1a, mixed.
func Hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64: every bit of h changes half of the result's.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Rendezvous chooses the index whose target has the highest score for key.
// names holds Hash of each target's name; a target of weight 0 is never chosen.
func Rendezvous(key uint64, names []uint64, weights []int) int {
	best, choice := math.Inf(-1), None
	for i, w := range weights {
		if w <= 0 {
			continue
		}
		// A uniform number in (0,1): 53 bits, and never 0 or 1.
		u := (float64(mix(key^names[i])>>11) + 0.5) / (1 << 53)
		if score := -float64(w) / math.Log(u); score > best {
			best, choice = score, i
		}
	}
	return choice
}
