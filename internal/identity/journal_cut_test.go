package identity

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"landline/internal/id"
)

// torn is what a file may hold after the power went during an append to it: what
// was durable, and of the rest any of its 512-byte sectors, zeros for those
// between that did not come, up to any length.
func torn(rng *rand.Rand, durable, appended []byte) []byte {
	end := rng.IntN(len(appended) + 1)
	data := append(slices.Clone(durable), appended[:end]...)
	for at := len(durable); at < len(data); {
		next := min(len(data), at+512-at%512)
		if rng.IntN(3) == 0 {
			clear(data[at:next])
		}
		at = next
	}
	return data
}

// The power goes during an append to the journal of erasures, again and again.
// Whoever was acknowledged is always read, what is half there never keeps the
// journal from being read, and the next line is not spoilt by it.
func TestAPowerCutDuringAnErasure(t *testing.T) {
	sum := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		dir := t.TempDir()
		j := newErasureJournal(dir)
		path := filepath.Join(dir, journalFile)
		var acknowledged []string
		known := map[string]bool{}
		for range 12 {
			users := make([]string, 1+rng.IntN(40))
			for i := range users {
				users[i] = id.New(id.User)
				known[users[i]] = true
			}
			before, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if err := j.append(time.Now(), users...); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				acknowledged = append(acknowledged, users...)
			} else { // the power went before it was told
				after, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, torn(rng, before, after[len(before):]), 0o600); err != nil {
					t.Fatal(err)
				}
				j = newErasureJournal(dir) // it starts again
			}
			got, err := j.users()
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			there := map[string]bool{}
			for _, user := range got {
				there[user] = true
				if !known[user] {
					t.Fatalf("seed %d: %s was never erased", seed, user)
				}
			}
			for i, user := range acknowledged {
				if !there[user] {
					t.Fatalf("seed %d: erasure %d of %d is lost", seed, i, len(acknowledged))
				}
			}
		}
		sum += len(acknowledged)
	}
	if sum == 0 {
		t.Error("nobody was acknowledged")
	}
}
