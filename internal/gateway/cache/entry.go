package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Key is where an answer belongs. Two requests with the same Key and the same
// values of the fields in Vary get the same answer.
type Key struct {
	Path string // escaped path of the request; what an unsafe method invalidates
	Part string // everything else that tells answers apart: policy, host, query, user…
}

// Entry is a stored answer. It does not change once it is in a store.
type Entry struct {
	Key     Key
	Feature string
	Policy  string // identity of the policy that it was stored under
	Status  int
	Header  http.Header
	Body    []byte
	Tags    []string      // surrogate keys
	Took    time.Duration // what the upstream needed: what a hit saves

	answered   time.Time     // when it came
	initial    time.Duration // how old it was then
	life       lifetime
	vary       []string
	values     []string  // of the request's fields named by vary
	uncollapse time.Time // set: no answer, but a note that those of the key are not for sharing

	size       int64
	prev, next *Entry // use order, of the shard
	gone       bool   // no longer in the shard
}

// Answer is what an entry is made from. Header and Body become the entry's.
type Answer struct {
	Key             Key
	Feature, Policy string
	Status          int
	Header          http.Header
	Body            []byte
	Request         http.Header // as it was sent
	Asked, Answered time.Time
	Took            time.Duration
	TagField        string // name of the field with surrogate keys, canonical
}

// maxTags bounds the surrogate keys of one answer.
const maxTags = 64

// NewEntry makes an entry of an answer that is Storable. It is nil when the
// answer cannot be told from others: too many fields in Vary or too many tags.
func NewEntry(p *Policy, a Answer) *Entry {
	vary, ok := varyFields(a.Header)
	if !ok {
		return nil
	}
	e := &Entry{
		Key: a.Key, Feature: a.Feature, Policy: a.Policy, Status: a.Status, Header: a.Header, Body: a.Body, Took: a.Took,
		answered: a.Answered, vary: vary,
	}
	if len(e.Header["Date"]) == 0 {
		e.Header["Date"] = []string{a.Answered.UTC().Format(http.TimeFormat)}
	}
	for _, field := range vary {
		e.values = append(e.values, VaryValue(a.Request, field))
	}
	for _, line := range e.Header[a.TagField] {
		e.Tags = append(e.Tags, strings.Fields(strings.ReplaceAll(line, ",", " "))...)
	}
	if len(e.Tags) > maxTags {
		return nil // a purge of one that was left out would miss it
	}
	delete(e.Header, a.TagField)
	e.initial = initialAge(e.Header, a.Asked, a.Answered)
	d := ParseDirectives(e.Header["Cache-Control"])
	e.life = lifetimeOf(p, e.Status, e.Header, &d)
	delete(e.Header, "Age")
	for name, values := range e.Header {
		e.Header[name] = slices.Clip(values) // whoever adds a value to an answer must not write into ours
	}
	if bodyAllowed(e.Status) {
		e.Header["Content-Length"] = []string{strconv.Itoa(len(e.Body))}
	}
	e.measure()
	return e
}

// NewMark notes until when requests for k need not wait for one another: what
// they would wait for is not for sharing.
func NewMark(k Key, feature, policy string, until time.Time) *Entry {
	e := &Entry{Key: k, Feature: feature, Policy: policy, uncollapse: until}
	e.measure()
	return e
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// Freshen is e after a 304 with the header (RFC 9111 §3.2, §4.3.4): its
// fields replace e's, but for those that describe the body that e keeps.
// tagField is where the surrogate keys are put back, unless the 304 has its own.
func (e *Entry) Freshen(h http.Header, tagField string) http.Header {
	merged := make(http.Header, len(e.Header)+len(h))
	for name, values := range e.Header {
		merged[name] = values
	}
	if len(e.Tags) > 0 {
		merged[tagField] = []string{strings.Join(e.Tags, " ")}
	}
	for name, values := range h {
		switch name {
		case "Content-Length", "Content-Encoding", "Content-Type", "Content-Range":
			continue
		}
		merged[name] = values
	}
	if len(h["Date"]) == 0 {
		delete(merged, "Date") // the time of the 304 is when it came
	}
	return merged
}

// Age is how old the answer is at now (RFC 9111 §4.2.3). A clock that was set
// back makes nothing younger than it came.
func (e *Entry) Age(now time.Time) time.Duration {
	return e.initial + max(now.Sub(e.answered), 0)
}

// Left is for how long the entry is fresh at now; negative when it is stale.
func (e *Entry) Left(now time.Time) time.Duration { return e.life.fresh - e.Age(now) }

// Kept is for how long from now the entry can still be of use without asking
// the upstream, at least zero.
func (e *Entry) Kept(now time.Time) time.Duration {
	keep := e.Left(now)
	if !e.life.neverStale {
		keep += max(e.life.staleIfError, e.life.staleWhile)
	}
	return max(keep, 0)
}

// Useless reports whether the entry has nothing more to give: too stale to be
// given under any condition, and nothing to ask the upstream about.
func (e *Entry) Useless(now time.Time) bool {
	if !e.uncollapse.IsZero() {
		return now.After(e.uncollapse)
	}
	return e.Kept(now) == 0 && !e.Validated()
}

// Mark reports whether the entry is a note of NewMark.
func (e *Entry) Mark() bool { return !e.uncollapse.IsZero() }

// overhead is what an entry costs besides its texts and body: its struct, the
// header's map, the slices' headers and its places in the store's maps, rounded up.
const (
	overhead      = 640
	fieldOverhead = 64
)

func (e *Entry) measure() {
	n := int64(overhead + 2*len(e.Key.Path) + len(e.Key.Part) + len(e.Feature) + len(e.Policy) + cap(e.Body))
	for name, values := range e.Header {
		n += int64(fieldOverhead + len(name))
		for _, v := range values {
			n += int64(16 + len(v))
		}
	}
	for i := range e.vary {
		n += int64(32 + len(e.vary[i]) + len(e.values[i]))
	}
	for _, tag := range e.Tags {
		n += int64(fieldOverhead + 2*len(tag))
	}
	e.size = n
}

// Size is the bytes that the entry takes of a store's budget.
func (e *Entry) Size() int64 { return e.size }
