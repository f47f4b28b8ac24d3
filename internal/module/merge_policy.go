package module

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"landline/internal/sqldb"
)

// Decision is what a user has decided about one purpose: a consent.
type Decision struct {
	Purpose  string
	Granted  bool
	Explicit bool // the user was asked; false: a default that nobody chose
	At       time.Time
}

// LatestDecision says which of two decisions about one purpose holds when their
// users become one (L27): an explicit one beats a default, the later beats the
// earlier, and at the same time a withdrawal beats a grant. So merging never
// allows what the person has refused last.
func LatestDecision(a, b Decision) Decision {
	wins := func(first bool) Decision {
		if first {
			return a
		}
		return b
	}
	switch {
	case a.Explicit != b.Explicit:
		return wins(a.Explicit)
	case !a.At.Equal(b.At):
		return wins(a.At.After(b.At))
	}
	return wins(!a.Granted)
}

// LatestDecisions is LatestDecision for every purpose that either user has
// decided about, ordered by purpose. Each list may have a purpose several times,
// as a history has.
func LatestDecisions(from, into []Decision) []Decision {
	latest := map[string]Decision{}
	for _, all := range [][]Decision{into, from} {
		for _, d := range all {
			if have, ok := latest[d.Purpose]; ok {
				d = LatestDecision(have, d)
			}
			latest[d.Purpose] = d
		}
	}
	out := make([]Decision, 0, len(latest))
	for _, d := range latest {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Decision) int { return cmp.Compare(a.Purpose, b.Purpose) })
	return out
}

// LedgerEntry is one line of an append-only ledger.
type LedgerEntry struct {
	User   string
	Unit   string // what is counted: credits, premium_days
	Amount int64  // positive: the user has more
	Ref    string // unique together with User: the ledger refuses a second entry of the same
	At     time.Time
}

// Ledger is what a capability keeps of purchases, quotas or entitlements.
type Ledger interface {
	// Balances returns what the user has of each unit; units of which there is nothing may be left out.
	Balances(ctx context.Context, tx *sqldb.Tx, user string) (map[string]int64, error)

	// Moves returns how many entries of the user have a Ref that begins with prefix.
	Moves(ctx context.Context, tx *sqldb.Tx, user, prefix string) (int64, error)

	// Append adds an entry. One with the same User and Ref as another is an error.
	Append(ctx context.Context, tx *sqldb.Tx, e LedgerEntry) error
}

// MoveLedger moves what m.From has to m.Into, as a pair of entries for each unit
// whose Ref begins with the merge's id (L28). It is the Merge of a participant,
// and may be called again: what has moved is gone from From, so that nothing is
// credited twice, and what came to From later moves with entries of its own. The
// history stays with whom it was made as.
func MoveLedger(ctx context.Context, tx *sqldb.Tx, l Ledger, m Merge) (out Moved, err error) {
	balances, err := l.Balances(ctx, tx, m.From)
	if err != nil {
		return out, fmt.Errorf("balances of %s: %w", m.From, err)
	}
	moves, err := l.Moves(ctx, tx, m.From, m.ID+"/")
	if err != nil {
		return out, fmt.Errorf("moves of %s: %w", m.From, err)
	}
	units := make([]string, 0, len(balances))
	for unit, amount := range balances {
		if amount != 0 {
			units = append(units, unit)
		}
	}
	slices.Sort(units)
	if m.Limit > 0 && len(units) > m.Limit {
		units, out.More = units[:m.Limit], true
	}
	for _, unit := range units {
		moves++
		ref := m.ID + "/" + strconv.FormatInt(moves, 10)
		for _, e := range []LedgerEntry{
			{User: m.From, Unit: unit, Amount: -balances[unit], Ref: ref, At: m.At},
			{User: m.Into, Unit: unit, Amount: balances[unit], Ref: ref, At: m.At},
		} {
			if err := l.Append(ctx, tx, e); err != nil {
				return out, fmt.Errorf("append %s to the ledger of %s: %w", ref, e.User, err)
			}
		}
		out.Records++
	}
	return out, nil
}

// SameFlags refuses a merge of users whose flags differ, such as those that say
// that somebody is a child or must be served in one region (L29). A flag that
// only one of them has differs from nothing.
func SameFlags(from, into map[string]string) error {
	names := make([]string, 0, len(from))
	for name := range from {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if other, ok := into[name]; ok && other != from[name] {
			return &MergeRefused{Reason: name + "_differs", Detail: "the flag " + name + " of the two users differs"}
		}
	}
	return nil
}
