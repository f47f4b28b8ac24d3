package module

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"landline/internal/sqldb"
)

// MergePolicy says what becomes of two records that cannot both stay when one
// user is merged into another.
type MergePolicy string

// The policies. Whatever loses is kept as a merge conflict, never dropped.
const (
	AccountWins MergePolicy = "account_wins" // the account's record stays
	Newest      MergePolicy = "newest"       // the one that was written last stays
	Union       MergePolicy = "union"        // both stay, where the collection is a set
	SumOps      MergePolicy = "sum_ops"      // operations of both are applied, each once
	Rename      MergePolicy = "rename"       // both stay; the newcomer gets another key
)

// Merge is one user becoming part of another.
type Merge struct {
	ID     string // mrg_…: what a participant writes down so that a repeat changes nothing
	From   string // the user who goes: anonymous, or an account where accounts are merged
	Into   string // the account that stays
	Policy MergePolicy
	Limit  int // rows that this call may move, so that its transaction stays short
	At     time.Time

	// Conflict keeps the record that lost, readable by the user and part of an export.
	Conflict func(key string, losing json.RawMessage) error
}

// MergeRefused is a collection's objection to a merge: the caller gets 409
// merge_policy, and nothing has happened.
type MergeRefused struct {
	Reason string // stable, snake_case, for apps: age_flags_differ
	Detail string // for people who develop apps; it must say nothing of the account that the caller may not know
}

func (e *MergeRefused) Error() string { return e.Reason + ": " + e.Detail }

// Moved counts what one call has done. Records + Conflicts + Deduped over all
// calls is what From had: nothing is lost, nothing doubled.
type Moved struct {
	Records   int64 // now Into's
	Conflicts int64 // kept as conflicts
	Deduped   int64 // Into had them already, by operation id
	More      bool  // the limit was reached; call again
}

// Participant is what a capability does for the people whose rows it keeps.
// Every function may be called again after it succeeded and must then change nothing.
type Participant struct {
	Name     string        // of the collection, as clients and operators read it: "sync"
	Policies []MergePolicy // that Merge can follow; the first is the default

	// Count returns how many rows the user has; nil: the collection never makes a merge necessary.
	Count func(ctx context.Context, q sqldb.Querier, user string) (int64, error)

	// MayMerge may refuse a merge with a *MergeRefused before anything has moved:
	// it is asked within the transaction in which the merge begins. nil: no objection, ever.
	MayMerge func(ctx context.Context, q sqldb.Querier, from, into string) error

	// Merge moves rows of m.From to m.Into within tx; nil: there is nothing that moves.
	Merge func(ctx context.Context, tx *sqldb.Tx, m Merge) (Moved, error)

	// Export calls emit with each record that is about the user; nil: nothing is kept that is theirs.
	Export func(ctx context.Context, user string, emit func(record any) error) error

	// Erase removes up to limit rows of the user and returns how many; fewer than limit: none is left. nil: nothing to erase.
	Erase func(ctx context.Context, tx *sqldb.Tx, user string, limit int) (int64, error)
}

// People are the participants of all capabilities, in the order they were added.
type People struct {
	mu  sync.RWMutex
	all []Participant
}

// Register adds p while modules are built. It panics when the name is taken or
// a merge has no policy: both are faults of the program.
func (p *People) Register(one Participant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.Name == "" || slices.ContainsFunc(p.all, func(o Participant) bool { return o.Name == one.Name }) {
		panic(fmt.Sprintf("module: participant %q has no name of its own", one.Name))
	}
	if one.Merge != nil && len(one.Policies) == 0 {
		panic(fmt.Sprintf("module: participant %q merges without a policy", one.Name))
	}
	p.all = append(p.all, one)
}

// All returns the participants.
func (p *People) All() []Participant {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Clone(p.all)
}
