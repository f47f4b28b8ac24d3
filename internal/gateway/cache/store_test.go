package cache

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func entry(path, part string, size int, lines ...string) *Entry {
	return NewEntry(&Policy{TTL: time.Hour}, Answer{
		Key: Key{path, part}, Feature: "f", Policy: "p", Status: 200, Header: header(lines...), Body: make([]byte, size),
		Request: http.Header{}, Asked: noon, Answered: noon, TagField: "Surrogate-Key",
	})
}

// check compares the store's own count with what is really in it.
func (s *Store) check() error {
	for i, sh := range s.shards {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		var bytes, entries int64
		for e := sh.lru.next; e != &sh.lru; e = e.next {
			bytes += e.size
			entries++
			found := false
			for _, other := range sh.paths[e.Key.Path][e.Key.Part] {
				found = found || other == e
			}
			if !found {
				return fmt.Errorf("shard %d: %v is in the use order alone", i, e.Key)
			}
		}
		listed := int64(0)
		for path, parts := range sh.paths {
			if len(parts) == 0 {
				return fmt.Errorf("shard %d: nothing under %s", i, path)
			}
			for _, list := range parts {
				listed += int64(len(list))
			}
		}
		tagged := 0
		for tag, set := range sh.tags {
			if len(set) == 0 {
				return fmt.Errorf("shard %d: nothing has %v", i, tag)
			}
			for e := range set {
				tagged++
				if e.gone {
					return fmt.Errorf("shard %d: %v is gone and still has %v", i, e.Key, tag)
				}
			}
		}
		if bytes != sh.bytes || entries != sh.entries || listed != entries || bytes > sh.budget {
			return fmt.Errorf("shard %d: counts %d bytes and %d entries, holds %d and %d (listed %d), budget %d", i, sh.bytes, sh.entries, bytes, entries, listed, sh.budget)
		}
	}
	return nil
}

func TestStoreKeepsItsBudgetExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewStore(rapid.SampledFrom([]int64{20_000, 60_000, 70 << 20}).Draw(t, "budget"))
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			path := fmt.Sprintf("/%d", rapid.IntRange(0, 9).Draw(t, "path"))
			part := fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "part"))
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0:
				s.Purge(Purge{Path: path})
			case 1:
				s.Purge(Purge{Feature: "f", Tag: fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "tag"))})
			case 2:
				if e := s.Get(Key{path, part}, http.Header{}, noon); e != nil {
					s.Remove(e)
					s.Remove(e) // twice does no harm
				}
			case 3:
				s.Get(Key{path, part}, http.Header{}, noon.Add(2*time.Hour)) // expired
			case 4:
				s.Put(NewMark(Key{path, part}, "f", "p", noon.Add(time.Minute)), s.Mark(path))
			default:
				e := entry(path, part, rapid.IntRange(0, 9000).Draw(t, "size"),
					"Vary: "+rapid.SampledFrom([]string{"", "Accept", "Accept-Language"}).Draw(t, "vary"), fmt.Sprintf("Surrogate-Key: %d %d", rapid.IntRange(0, 3).Draw(t, "a"), rapid.IntRange(0, 3).Draw(t, "b")))
				s.Put(e, s.Mark(path))
			}
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
		}
		s.Purge(Purge{})
		if st := s.Stats(); st.Bytes != 0 || st.Entries != 0 {
			t.Fatalf("after purging all: %+v", st)
		}
	})
}

func TestStoreForgetsTheLeastRecentlyUsed(t *testing.T) {
	s := NewStore(6 * entry("/0", "", 1000).Size())
	for i := range 6 {
		if !s.Put(entry(fmt.Sprintf("/%d", i), "", 1000), s.Mark("")) {
			t.Fatal("not stored")
		}
	}
	get := func(i int) *Entry { return s.Get(Key{fmt.Sprintf("/%d", i), ""}, http.Header{}, noon) }
	if get(0) == nil {
		t.Fatal("the first is not there")
	}
	s.Put(entry("/6", "", 1000), s.Mark(""))
	if get(0) == nil || get(1) != nil {
		t.Error("the one that was used is gone, or the one that was not is there")
	}
	if st := s.Stats(); st.EvictedForRoom != 1 || st.Entries != 6 {
		t.Errorf("%+v", st)
	}
	if s.Put(entry("/7", "", 100_000), s.Mark("")) {
		t.Error("an entry beyond the budget was stored")
	}
}

func TestVariants(t *testing.T) {
	s := NewStore(1 << 20)
	for _, language := range []string{"de", "en", "de"} {
		e := NewEntry(&Policy{TTL: time.Hour}, Answer{Key: Key{Path: "/a"}, Status: 200, Header: header("Vary: Accept-Language"), Body: []byte(language), Request: header("Accept-Language: " + language), Asked: noon, Answered: noon})
		s.Put(e, s.Mark("/a"))
	}
	for language, want := range map[string]string{"de": "de", "en": "en"} {
		if e := s.Get(Key{Path: "/a"}, header("Accept-Language: "+language), noon); e == nil || string(e.Body) != want {
			t.Errorf("%s: %v", language, e)
		}
	}
	if e := s.Get(Key{Path: "/a"}, header("Accept-Language: fr"), noon); e != nil {
		t.Errorf("fr got %s", e.Body)
	}
	if n := s.Stats().Entries; n != 2 {
		t.Errorf("%d entries: the second de must replace the first", n)
	}
	for i := range 100 {
		s.Put(NewEntry(&Policy{TTL: time.Hour}, Answer{Key: Key{Path: "/a"}, Status: 200, Header: header("Vary: User-Agent"), Request: header(fmt.Sprintf("User-Agent: %d", i)), Asked: noon, Answered: noon}), s.Mark("/a"))
	}
	if n := s.Stats().Entries; n > maxVariants {
		t.Errorf("%d variants of one key", n)
	}
}

func TestEncodedAnswersVaryEvenIfTheServiceForgets(t *testing.T) {
	e := NewEntry(&Policy{TTL: time.Hour}, Answer{Status: 200, Header: header("Content-Encoding: gzip"), Request: header("Accept-Encoding: gzip, br"), Asked: noon, Answered: noon})
	if !e.Selects(header("Accept-Encoding: br,gzip")) || e.Selects(header("Accept-Encoding: br")) || e.Selects(http.Header{}) {
		t.Error("a client that cannot decode it would get it")
	}
}

func TestPurgeBeatsAFillUnderWay(t *testing.T) {
	for name, p := range map[string]Purge{
		"all": {}, "feature": {Feature: "f"}, "tag": {Feature: "f", Tag: "b"}, "path": {Path: "/a"}, "path of the feature": {Feature: "f", Path: "/a"},
	} {
		s := NewStore(1 << 20)
		m := s.Mark("/a")
		if n := s.Purge(p); n != 0 {
			t.Errorf("%s: removed %d of nothing", name, n)
		}
		if s.Put(entry("/a", "", 1, "Surrogate-Key: a b"), m) {
			t.Errorf("%s: an answer from before the purge was stored", name)
		}
		if !s.Put(entry("/a", "", 1, "Surrogate-Key: a b"), s.Mark("/a")) {
			t.Errorf("%s: an answer from after the purge was not stored", name)
		}
		if n := s.Purge(p); n != 1 || s.Get(Key{Path: "/a"}, http.Header{}, noon) != nil {
			t.Errorf("%s: removed %d", name, n)
		}
	}
	s := NewStore(1 << 20)
	m := s.Mark("/a")
	for name, p := range map[string]Purge{"other feature": {Feature: "g"}, "other tag": {Feature: "f", Tag: "c"}, "other path": {Path: "/b"}, "tag of another feature": {Feature: "g", Tag: "b"}} {
		s.Purge(p)
		if !s.Put(entry("/a", "", 1, "Surrogate-Key: a b"), m) {
			t.Errorf("%s: purged what it does not name", name)
		}
	}
	for range purgeMemory + 1 {
		s.Purge(Purge{Feature: "g"})
	}
	if s.Put(entry("/a", "", 1), m) {
		t.Error("stored although nobody remembers the purges since")
	}
}

func TestTagsAreBounded(t *testing.T) {
	h := http.Header{}
	for i := range maxTags + 1 {
		h.Add("Surrogate-Key", fmt.Sprint(i))
	}
	if NewEntry(&Policy{TTL: time.Hour}, Answer{Status: 200, Header: h, TagField: "Surrogate-Key"}) != nil {
		t.Error("an answer with too many tags would outlive a purge of one of them")
	}
}

func TestStoreUnderParallelUse(t *testing.T) {
	s := NewStore(16 << 20)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				path := fmt.Sprintf("/%d", (i*7+g)%50)
				switch i % 5 {
				case 0:
					s.Put(entry(path, fmt.Sprint(i%3), 2000+i%5000, "Surrogate-Key: x"), s.Mark(path))
				case 4:
					if i%97 == 0 {
						s.Purge(Purge{Feature: "f", Tag: "x"})
					}
				default:
					if e := s.Get(Key{path, fmt.Sprint(i % 3)}, http.Header{}, noon); e != nil && e.Key.Path != path {
						t.Errorf("asked for %s, got %s", path, e.Key.Path)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

func TestFlights(t *testing.T) {
	var f Flights
	first, leader := f.Join("a")
	if !leader {
		t.Fatal("the first must lead")
	}
	second, leader := f.Join("a")
	if leader || second != first {
		t.Fatal("the second must wait for the first")
	}
	if f.Lead("a") != nil {
		t.Error("two lead")
	}
	if _, leader := f.Join("b"); !leader {
		t.Error("another key must not wait")
	}
	if n := first.End(Result{Err: http.ErrAbortHandler}); n != 1 {
		t.Errorf("%d were waiting", n)
	}
	<-second.Done()
	if second.Result().Err != http.ErrAbortHandler {
		t.Error("the result is lost")
	}
	if first.End(Result{}) != 0 || second.Result().Err == nil {
		t.Error("the first End counts")
	}
	if _, leader := f.Join("a"); !leader {
		t.Error("a failed flight must not fail the next")
	}
}

func BenchmarkGet(b *testing.B) {
	s := NewStore(64 << 20)
	for i := range 1000 {
		path := fmt.Sprintf("/v1/flights/%d", i)
		s.Put(entry(path, "part", 1000), s.Mark(path))
	}
	h := http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		if s.Get(Key{"/v1/flights/7", "part"}, h, noon) == nil {
			b.Fatal("miss")
		}
	}
}
