package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"landline/internal/kv"
)

// Bounds of the shared store.
const (
	MaxShared    = 256 << 10 // bytes of one encoded entry
	sharedWait   = 100 * time.Millisecond
	sharedPause  = 2 * time.Second // after a failure
	epochTTL     = 31 * 24 * time.Hour
	leastKept    = time.Second // what lives shorter is not worth a round trip
	mostKept     = 24 * time.Hour
	epochRefresh = time.Minute // an epoch is read again this often, in case news was lost
)

// Shared is the second level, in the key-value store of all nodes.
//
// Entries lie under a hash of the feature's epoch, the path's epoch, the rest
// of the key and the values of the fields in Vary. An epoch is a random text:
// to purge is to replace it, which leaves all entries under the old one
// unreachable until they expire. Whoever began with the old epoch writes where
// nobody looks any more.
type Shared struct {
	kv  kv.Store
	now func() time.Time

	down   atomic.Int64 // until then (Unix ns) the store is not asked
	failed func(error)

	mu      sync.Mutex
	epochs  map[string]epoch // by feature
	pending map[string]bool  // features whose purge the store does not know yet
}

type epoch struct {
	text string
	read time.Time
}

// record is what lies under a path: its epoch, and all fields that answers
// under it have varied by.
type record struct {
	Epoch string   `json:"e"`
	Vary  []string `json:"v,omitempty"`
}

// NewShared returns the second level on store. failed is told of its failures.
func NewShared(store kv.Store, now func() time.Time, failed func(error)) *Shared {
	return &Shared{kv: store, now: now, failed: failed, epochs: map[string]epoch{}, pending: map[string]bool{}}
}

// Place is where a Get looked, for the Put that may follow.
type Place struct {
	feature, epoch string
	record         record
	raw            []byte // of the record, nil when there was none
	known          bool
}

var errPaused = errors.New("cache: the shared store does not answer; it is left alone for a moment")

// do runs one operation within its time; after a failure none runs for a while.
func (s *Shared) do(ctx context.Context, fn func(context.Context) error) error {
	if s.now().UnixNano() < s.down.Load() {
		return errPaused
	}
	ctx, cancel := context.WithTimeout(ctx, sharedWait)
	defer cancel()
	err := fn(ctx)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		s.down.Store(s.now().Add(sharedPause).UnixNano())
		s.failed(err)
	}
	return err
}

// epochOf returns the feature's epoch, making one if there is none.
func (s *Shared) epochOf(ctx context.Context, feature string) (string, error) {
	s.mu.Lock()
	e, known := s.epochs[feature]
	pending := s.pending[feature]
	s.mu.Unlock()
	if pending {
		if err := s.rotate(ctx, feature); err != nil {
			return "", err
		}
		return s.epochOf(ctx, feature)
	}
	if known && s.now().Sub(e.read) < epochRefresh {
		return e.text, nil
	}
	key, fresh := epochKey(feature), newEpoch()
	err := s.do(ctx, func(ctx context.Context) error {
		made, err := s.kv.SetNX(ctx, key, []byte(fresh), epochTTL)
		if err != nil || made {
			return err
		}
		text, err := s.kv.Get(ctx, key)
		fresh = string(text)
		return err
	})
	if err != nil {
		return "", err
	}
	s.learn(feature, fresh)
	return fresh, nil
}

func (s *Shared) learn(feature, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epochs[feature] = epoch{text, s.now()}
}

// Forget makes this node read the epochs again: of one feature, or of all with "".
func (s *Shared) Forget(feature string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if feature == "" {
		clear(s.epochs)
		return
	}
	delete(s.epochs, feature)
}

// rotate gives a feature a new epoch.
func (s *Shared) rotate(ctx context.Context, feature string) error {
	fresh := newEpoch()
	err := s.do(ctx, func(ctx context.Context) error { return s.kv.Set(ctx, epochKey(feature), []byte(fresh), epochTTL) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.pending[feature] = true
		return err
	}
	delete(s.pending, feature)
	s.epochs[feature] = epoch{fresh, s.now()}
	return nil
}

// PurgeFeature makes all that is stored of a feature unreachable on every node.
// While the store does not answer, this node does not read the feature's
// entries, and purges as soon as it can.
func (s *Shared) PurgeFeature(ctx context.Context, feature string) error {
	return s.rotate(ctx, feature)
}

// PurgePath does the same for one path; feature is whose it is.
func (s *Shared) PurgePath(ctx context.Context, feature, path string) error {
	raw := encodeRecord(record{Epoch: newEpoch()})
	err := s.do(ctx, func(ctx context.Context) error { return s.kv.Set(ctx, pathKey(path), raw, mostKept) })
	if err != nil {
		s.mu.Lock()
		s.pending[feature] = true
		s.mu.Unlock()
	}
	return err
}

// Get looks for an entry. The Place is for Put, whether or not there was one.
func (s *Shared) Get(ctx context.Context, feature, policy string, k Key, header http.Header) (*Entry, Place, error) {
	p := Place{feature: feature}
	var err error
	if p.epoch, err = s.epochOf(ctx, feature); err != nil {
		return nil, p, err
	}
	err = s.do(ctx, func(ctx context.Context) error {
		var err error
		p.raw, err = s.kv.Get(ctx, pathKey(k.Path))
		return err
	})
	switch {
	case errors.Is(err, kv.ErrNotFound):
		p.known = true
		return nil, p, nil
	case err != nil:
		return nil, p, err
	}
	p.known = true
	if json.Unmarshal(p.raw, &p.record) != nil || len(p.record.Vary) > maxVary {
		return nil, Place{}, errors.New("cache: a record in the shared store is malformed")
	}
	var raw []byte
	err = s.do(ctx, func(ctx context.Context) error {
		var err error
		raw, err = s.kv.Get(ctx, p.entryKey(k, header))
		return err
	})
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return nil, p, nil
	case err != nil:
		return nil, p, err
	}
	e, err := decodeEntry(raw)
	if err != nil {
		return nil, p, err
	}
	if e.Key != k || e.Policy != policy || e.Feature != feature || !e.matchesVary(header) {
		return nil, p, nil
	}
	return e, p, nil
}

// Put stores e where the Get of p looked, unless that place was purged since.
// header is the request's. It reports whether it stored it.
func (s *Shared) Put(ctx context.Context, p Place, e *Entry, header http.Header) (bool, error) {
	keep := min(e.Kept(s.now()), mostKept)
	if !p.known || keep < leastKept || int64(len(e.Body)) > MaxShared {
		return false, nil
	}
	if !isText(e) {
		return false, nil
	}
	raw := encodeEntry(e)
	if len(raw) > MaxShared {
		return false, nil
	}
	claimed := false
	err := s.do(ctx, func(ctx context.Context) error {
		var err error
		claimed, err = s.claim(ctx, &p, e)
		return err
	})
	if err != nil || !claimed {
		return false, err
	}
	err = s.do(ctx, func(ctx context.Context) error { return s.kv.Set(ctx, p.entryKey(e.Key, header), raw, keep) })
	return err == nil, err
}

// claim makes sure that the path's record is still what Get saw, that it names
// every field that e varies by, and that it outlives e.
func (s *Shared) claim(ctx context.Context, p *Place, e *Entry) (bool, error) {
	next := p.record
	if p.raw == nil {
		next.Epoch = newEpoch()
	}
	next.Vary = slices.Compact(slices.Sorted(slices.Values(slices.Concat(next.Vary, e.vary))))
	if len(next.Vary) > maxVary {
		return false, nil
	}
	raw := encodeRecord(next)
	var ok bool
	var err error
	if p.raw == nil {
		ok, err = s.kv.SetNX(ctx, pathKey(e.Key.Path), raw, mostKept)
	} else {
		ok, err = s.kv.CompareAndSwap(ctx, pathKey(e.Key.Path), p.raw, raw, mostKept)
	}
	p.record, p.raw = next, raw
	return ok, err
}

func newEpoch() string {
	b := make([]byte, 12)
	rand.Read(b) //nolint:errcheck // never fails
	return hex.EncodeToString(b)
}

func epochKey(feature string) string { return "cache:feature:" + feature }

func pathKey(path string) string { return "cache:path:" + digest(path) }

// entryKey hashes everything that tells answers apart.
func (p *Place) entryKey(k Key, header http.Header) string {
	parts := []string{p.feature, p.epoch, p.record.Epoch, k.Path, k.Part}
	for _, field := range p.record.Vary {
		parts = append(parts, field, VaryValue(header, field))
	}
	return "cache:entry:" + digest(parts...)
}

// digest is SHA-256 over length-prefixed parts.
func digest(parts ...string) string {
	h := sha256.New()
	var size [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		io.WriteString(h, part) //nolint:errcheck // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

func encodeRecord(r record) []byte {
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err) // two texts cannot fail
	}
	return raw
}

// form is an entry on its way; the body follows it.
type form struct {
	Path, Part, Feature, Policy string
	Status                      int
	Header                      http.Header
	Tags, Vary, Values          []string
	Took, Initial               time.Duration
	Answered                    time.Time
	Fresh, Whilst, IfError      time.Duration
	NoCache, NeverStale         bool
}

// formVersion changes when form does: an entry of another version is none.
const formVersion = 1

func encodeEntry(e *Entry) []byte {
	head, err := json.Marshal(form{
		e.Key.Path, e.Key.Part, e.Feature, e.Policy, e.Status, e.Header, e.Tags, e.vary, e.values, e.Took, e.initial, e.answered,
		e.life.fresh, e.life.staleWhile, e.life.staleIfError, e.life.noCache, e.life.neverStale,
	})
	if err != nil {
		panic(err) // texts and numbers cannot fail
	}
	b := make([]byte, 0, 5+len(head)+len(e.Body))
	b = append(b, formVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(head))) // #nosec -- headers are bounded by the listener
	return append(append(b, head...), e.Body...)
}

// isText reports whether JSON keeps e's header as it is.
func isText(e *Entry) bool {
	for name, values := range e.Header {
		for _, v := range append(slices.Clip(values), name) {
			if !utf8.ValidString(v) {
				return false
			}
		}
	}
	return true
}

var errForm = errors.New("cache: an entry in the shared store is malformed")

func decodeEntry(b []byte) (*Entry, error) {
	if len(b) < 5 || b[0] != formVersion {
		return nil, errForm
	}
	n := int64(binary.BigEndian.Uint32(b[1:5]))
	if n > int64(len(b)-5) {
		return nil, errForm
	}
	var f form
	if json.Unmarshal(b[5:5+n], &f) != nil || len(f.Vary) != len(f.Values) || f.Header == nil || f.Status < 200 || f.Status > 599 {
		return nil, errForm
	}
	for name, values := range f.Header {
		for _, v := range append(slices.Clip(values), name) {
			if strings.ContainsAny(v, "\r\n\x00") {
				return nil, errForm
			}
		}
	}
	e := &Entry{
		Key: Key{f.Path, f.Part}, Feature: f.Feature, Policy: f.Policy, Status: f.Status, Header: f.Header, Body: bytes.Clone(b[5+n:]),
		Tags: f.Tags, Took: f.Took, answered: f.Answered, initial: f.Initial, vary: f.Vary, values: f.Values,
		life: lifetime{f.Fresh, f.Whilst, f.IfError, f.NoCache, f.NeverStale},
	}
	e.measure()
	return e, nil
}
