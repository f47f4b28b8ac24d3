package contract

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"landline/internal/module"
)

// MaxEntries bounds a Journal.
const MaxEntries = 1000

// Where is the route on which a violation was met.
type Where struct {
	Feature    string
	APIVersion string
	Direction  string // request or response
	Match      string
	Operation  string // method and path of the document
	Status     int    // of the answer, 0 for a request
}

// Journal counts violations by feature, API version, direction and place, and
// keeps the first of each kind as an example. It is one node's, in memory.
type Journal struct {
	mu      sync.Mutex
	entries map[entryKey]*module.ContractViolation
}

type entryKey struct{ feature, version, direction, in, field string }

// NewJournal returns an empty Journal.
func NewJournal() *Journal { return &Journal{entries: map[entryKey]*module.ContractViolation{}} }

// Add counts v, unless it is at a place beyond the first MaxEntries.
func (j *Journal) Add(w Where, v Violation, at time.Time) {
	key := entryKey{w.Feature, w.APIVersion, w.Direction, v.In, clip(v.Field, 200)}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[key]
	if e == nil {
		if len(j.entries) >= MaxEntries {

			return
		}
		e = &module.ContractViolation{
			Feature: w.Feature, APIVersion: w.APIVersion, Direction: w.Direction, In: v.In, Field: key.field,
			FirstAt: at, Match: w.Match, Operation: w.Operation, Status: w.Status, Message: clip(v.Message, 300), Shape: clip(v.Shape, 300),
		}
		j.entries[key] = e
	}
	e.Count++
	e.LastAt = at
}

// List gives what is known of a feature, of all for "", the most frequent first.
func (j *Journal) List(feature string) []module.ContractViolation {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := make([]module.ContractViolation, 0, len(j.entries))
	for _, e := range j.entries {
		if feature == "" || e.Feature == feature {
			list = append(list, *e)
		}
	}
	slices.SortFunc(list, func(a, b module.ContractViolation) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Feature, b.Feature), cmp.Compare(a.APIVersion, b.APIVersion),
			cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.In, b.In), cmp.Compare(a.Field, b.Field))
	})
	return list
}

// Keep forgets the features that keep says no to.
func (j *Journal) Keep(keep func(feature string) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key := range j.entries {
		if !keep(key.feature) {
			delete(j.entries, key)
		}
	}
}
