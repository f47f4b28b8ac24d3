package cache

import (
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the store.
const (
	shardCount  = 8
	leastShard  = 8 << 20 // smaller shards would hold too few large answers
	maxVariants = 32      // entries of one Key that differ by Vary
	purgeMemory = 1024    // purges that a shard remembers for fills under way
)

// Store holds entries within a budget of bytes. It is safe for concurrent use
// and runs no goroutine; an empty one takes next to no memory.
type Store struct {
	seed   maphash.Seed
	shards []*shard
	counts counts
}

type counts struct{ budget, expired, purged, replaced, refused atomic.Int64 }

// Stats are the store's figures; the last five only grow.
type Stats struct {
	Bytes, Entries, Budget int64
	EvictedForRoom         int64 // the least recently used, when a new one needed its bytes
	Expired                int64 // found to be of no more use
	Purged                 int64 // by a purge, an unsafe method or a changed policy
	Replaced               int64 // by a newer answer
	Refused                int64 // not stored: too large, or purged while it came
}

// shard is a part of the store with a lock, a budget and a use order of its own.
type shard struct {
	mu      sync.Mutex
	budget  int64
	bytes   int64
	entries int64
	paths   map[string]map[string][]*Entry // Key.Path → Key.Part → by Vary
	tags    map[tag]map[*Entry]struct{}
	lru     Entry // ring: next is the most recently used

	purges [purgeMemory]*Purge // of sequence numbers purged-purgeMemory+1 … purged
	purged uint64
}

type tag struct{ feature, name string }

// Purge says what is to be forgotten: all of a feature, what has one of its
// surrogate keys, or everything under a path. The zero Purge is everything.
type Purge struct {
	Feature string // with Tag "": all of it
	Tag     string
	Path    string // of every feature, unless Feature is given
}

func (p *Purge) matches(e *Entry) bool {
	if p.Path != "" && p.Path != e.Key.Path || p.Feature != "" && p.Feature != e.Feature {
		return false
	}
	if p.Tag == "" {
		return true
	}
	for _, t := range e.Tags {
		if t == p.Tag {
			return true
		}
	}
	return false
}

func shardsFor(budget int64) int {
	return int(min(max(budget/leastShard, 1), shardCount))
}

// LargestFor is the size up to which a Store with the budget takes an entry: a
// few of them must fit, or each would push out all others.
func LargestFor(budget int64) int64 { return budget / int64(shardsFor(budget)) / 2 }

// NewStore returns a Store for at most budget bytes.
func NewStore(budget int64) *Store {
	n := shardsFor(budget)
	s := &Store{seed: maphash.MakeSeed(), shards: make([]*shard, n)}
	for i := range s.shards {
		s.shards[i] = &shard{budget: budget / int64(n)}
		s.shards[i].lru.prev, s.shards[i].lru.next = &s.shards[i].lru, &s.shards[i].lru
	}
	return s
}

func (s *Store) shard(path string) *shard {
	if len(s.shards) == 1 {
		return s.shards[0]
	}
	return s.shards[maphash.String(s.seed, path)%uint64(len(s.shards))]
}

// Get returns the entry of k that a request with the header selects, newest
// first, or nil. It counts as a use.
func (s *Store) Get(k Key, header http.Header, now time.Time) *Entry {
	sh := s.shard(k.Path)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.paths[k.Path][k.Part]
	for i := len(list) - 1; i >= 0; i-- {
		e := list[i]
		if !e.matchesVary(header) {
			continue
		}
		if e.Useless(now) {
			sh.remove(e)
			s.counts.expired.Add(1)
			return nil
		}
		sh.unlink(e)
		sh.link(e)
		return e
	}
	return nil
}

// Fields returns the request fields that answers stored for k vary by, so that
// requests that will get different answers need not wait for one another.
func (s *Store) Fields(k Key) []string {
	sh := s.shard(k.Path)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.paths[k.Path][k.Part]
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1].vary
}

// A Mark is a moment in the history of purges.
type Mark struct{ purged uint64 }

// Mark is taken before the upstream is asked; Put then refuses the answer if
// it was purged since.
func (s *Store) Mark(path string) Mark {
	sh := s.shard(path)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return Mark{sh.purged}
}

// Purged reports whether e would have been purged since m.
func (s *Store) Purged(e *Entry, m Mark) bool {
	sh := s.shard(e.Key.Path)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.purgedSince(e, m)
}

func (sh *shard) purgedSince(e *Entry, m Mark) bool {
	if sh.purged-m.purged > purgeMemory {
		return true // nobody remembers
	}
	for n := m.purged; n < sh.purged; n++ {
		if sh.purges[n%purgeMemory].matches(e) {
			return true
		}
	}
	return false
}

// Put stores e in place of what the same requests selected before, and reports
// whether it did: not if it is too large, or was purged since m.
func (s *Store) Put(e *Entry, m Mark) bool {
	sh := s.shard(e.Key.Path)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e.size > sh.budget/2 || sh.purgedSince(e, m) {
		s.counts.refused.Add(1)
		return false
	}
	s.makeWay(sh, e)
	for sh.bytes+e.size > sh.budget {
		sh.remove(sh.lru.prev)
		s.counts.budget.Add(1)
	}
	if sh.paths == nil {
		sh.paths, sh.tags = map[string]map[string][]*Entry{}, map[tag]map[*Entry]struct{}{}
	}
	parts := sh.paths[e.Key.Path]
	if parts == nil {
		parts = map[string][]*Entry{}
		sh.paths[e.Key.Path] = parts
	}
	parts[e.Key.Part] = append(parts[e.Key.Part], e)
	for _, name := range e.Tags {
		t := tag{e.Feature, name}
		if sh.tags[t] == nil {
			sh.tags[t] = map[*Entry]struct{}{}
		}
		sh.tags[t][e] = struct{}{}
	}
	sh.link(e)
	sh.bytes += e.size
	sh.entries++
	return true
}

// makeWay removes what e replaces: the entry for the same requests, notes, and
// the oldest variant when there are too many.
func (s *Store) makeWay(sh *shard, e *Entry) {
	list := sh.paths[e.Key.Path][e.Key.Part]
	for i := len(list) - 1; i >= 0; i-- { // remove shortens the same list behind i
		if old := list[i]; old.Mark() || sameVariant(old, e) {
			sh.remove(old)
			s.counts.replaced.Add(1)
		}
		list = sh.paths[e.Key.Path][e.Key.Part]
	}
	if len(list) >= maxVariants {
		sh.remove(list[0])
		s.counts.budget.Add(1)
	}
}

// sameVariant reports whether the requests that selected old select e now. An
// entry that varies by other fields than before makes the old ones
// unreachable in doubt: the newest matching one counts.
func sameVariant(old, e *Entry) bool {
	if len(old.vary) != len(e.vary) {
		return false
	}
	for i := range old.vary {
		if old.vary[i] != e.vary[i] || old.values[i] != e.values[i] {
			return false
		}
	}
	return true
}

// Remove forgets e, if it is still there.
func (s *Store) Remove(e *Entry) {
	sh := s.shard(e.Key.Path)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e.next != nil && !e.gone {
		sh.remove(e)
		s.counts.purged.Add(1)
	}
}

// Purge forgets what p names, and sees to it that fills under way bring
// nothing of it back. It returns how many entries it removed.
func (s *Store) Purge(p Purge) int {
	if p.Path != "" {
		return s.purge(s.shard(p.Path), &p)
	}
	n := 0
	for _, sh := range s.shards {
		n += s.purge(sh, &p)
	}
	return n
}

func (s *Store) purge(sh *shard, p *Purge) int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.purges[sh.purged%purgeMemory] = p
	sh.purged++
	var found []*Entry
	take := func(e *Entry) {
		if p.matches(e) {
			found = append(found, e)
		}
	}
	switch {
	case p.Path != "":
		for _, list := range sh.paths[p.Path] {
			for _, e := range list {
				take(e)
			}
		}
	case p.Tag != "" && p.Feature != "":
		for e := range sh.tags[tag{p.Feature, p.Tag}] {
			take(e)
		}
	default:
		for e := sh.lru.next; e != &sh.lru; e = e.next {
			take(e)
		}
	}
	for _, e := range found {
		sh.remove(e)
	}
	s.counts.purged.Add(int64(len(found)))
	return len(found)
}

// Keep forgets every entry that keep does not want.
func (s *Store) Keep(keep func(*Entry) bool) {
	for _, sh := range s.shards {
		sh.mu.Lock()
		for e := sh.lru.next; e != &sh.lru; {
			next := e.next
			if !keep(e) {
				sh.remove(e)
				s.counts.purged.Add(1)
			}
			e = next
		}
		sh.mu.Unlock()
	}
}

// Stats returns the present figures.
func (s *Store) Stats() Stats {
	st := Stats{
		EvictedForRoom: s.counts.budget.Load(), Expired: s.counts.expired.Load(), Purged: s.counts.purged.Load(),
		Replaced: s.counts.replaced.Load(), Refused: s.counts.refused.Load(),
	}
	for _, sh := range s.shards {
		sh.mu.Lock()
		st.Bytes += sh.bytes
		st.Entries += sh.entries
		st.Budget += sh.budget
		sh.mu.Unlock()
	}
	return st
}

// link makes e the most recently used.
func (sh *shard) link(e *Entry) {
	e.prev, e.next = &sh.lru, sh.lru.next
	e.prev.next, e.next.prev = e, e
}

func (sh *shard) unlink(e *Entry) { e.prev.next, e.next.prev = e.next, e.prev }

func (sh *shard) remove(e *Entry) {
	sh.unlink(e)
	e.gone = true
	sh.bytes -= e.size
	sh.entries--
	parts := sh.paths[e.Key.Path]
	list := parts[e.Key.Part]
	kept := make([]*Entry, 0, len(list))
	for _, other := range list {
		if other != e {
			kept = append(kept, other)
		}
	}
	switch {
	case len(kept) > 0:
		parts[e.Key.Part] = kept
	case len(parts) > 1:
		delete(parts, e.Key.Part)
	default:
		delete(sh.paths, e.Key.Path)
	}
	for _, name := range e.Tags {
		t := tag{e.Feature, name}
		if delete(sh.tags[t], e); len(sh.tags[t]) == 0 {
			delete(sh.tags, t)
		}
	}
}
