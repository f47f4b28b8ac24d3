package gateway

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"landline/internal/module"
	"landline/internal/problem"
)

const fullClient = `app="com.example.flights", version="4.2.0", build=1042, platform=ios, os="18.1", device="iPhone15,3", locale="pl-PL"`

func TestParseClient(t *testing.T) {
	full := &module.Client{App: "com.example.flights", Version: "4.2.0", Build: 1042, Platform: "ios", OS: "18.1", Device: "iPhone15,3", Locale: "pl-PL"}
	for name, c := range map[string]struct {
		lines []string
		want  *module.Client
	}{
		"everything":              {[]string{fullClient}, full},
		"over two lines":          {[]string{`app="com.example.flights", version="4.2.0", build=1042`, `platform=ios, os="18.1", device="iPhone15,3", locale="pl-PL"`}, full},
		"text as a token":         {[]string{`app=com.example.flights`}, &module.Client{App: "com.example.flights"}},
		"unknown members":         {[]string{`version="1";beta, colour=?1, sizes=(1 2), x=:aGk=:`}, &module.Client{Version: "1"}},
		"the last of two members": {[]string{`version="1", version="2"`}, &module.Client{Version: "2"}},
	} {
		got, err := parseClient(c.lines)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for header, mention := range map[string]string{
		`app="com.example`:  "RFC 9651",
		`App="x"`:           "RFC 9651",
		`app="x",`:          "RFC 9651",
		`version=4`:         "version",
		`version=4.2`:       "version",
		`version=("1" "2")`: "version",
		`device`:            "device",
		`build="1042"`:      "build",
		`build=-1`:          "build",
		`build=1.5`:         "build",
		`os=""`:             "os",
		`platform="` + strings.Repeat("x", 21) + `"`: "platform",
		`x="` + strings.Repeat("x", 1024) + `"`:      "1024 bytes",
	} {
		_, err := parseClient([]string{header})
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != problem.ClientHeaderInvalid || !strings.Contains(p.Detail, mention) {
			t.Errorf("%.40s: got %v, want a mention of %s", header, err, mention)
		}
	}
}

// FuzzParseClient: whatever is accepted is bounded, and nothing panics.
func FuzzParseClient(f *testing.F) {
	for _, s := range []string{fullClient, "", `a="\"`, "build=999999999999999", "app=*", `app="a";b=1`, "\x00", `device="` + strings.Repeat("x", 80) + `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseClient([]string{s})
		if err != nil {
			if !problem.HasCode(err, problem.ClientHeaderInvalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if len(s) > maxClientHeader || c.Build < 0 {
			t.Fatalf("%q was accepted as %+v", s, c)
		}
		for _, field := range clientText {
			text := *field.field(c)
			if len(text) > field.most {
				t.Fatalf("%s has %d bytes", field.key, len(text))
			}
			for i := range len(text) {
				if text[i] < ' ' || text[i] > '~' {
					t.Fatalf("%s has byte %#x", field.key, text[i])
				}
			}
		}
	})
}

func TestClientCacheIsBoundedAndShared(t *testing.T) {
	const most = 64
	c := newClientCache(most)
	hot := []string{fullClient}
	first, err := c.parse(hot)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				if _, err := c.parse([]string{fmt.Sprintf("version=v%d-%d", g, i)}); err != nil {
					t.Error(err)
				}
				if again, err := c.parse(hot); err != nil || again.Version != "4.2.0" {
					t.Errorf("got %v, %v", again, err)
				}
			}
		})
	}
	wg.Wait()
	held := 0
	count := func(_, _ any) bool { held++; return true }
	c.recent.Load().Range(count)
	c.older.Load().Range(count)
	if held > most {
		t.Errorf("%d headers held, at most %d may be", held, most)
	}
	if again, err := c.parse(hot); err != nil || again != first {
		t.Errorf("a header in constant use was parsed again (%v)", err)
	}
	if _, err := c.parse([]string{"version=4"}); err == nil {
		t.Error("a fault was remembered as valid")
	}
}

func BenchmarkClientHeaderHit(b *testing.B) {
	c := newClientCache(maxParsedClients)
	lines := []string{fullClient}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.parse(lines); err != nil {
			b.Fatal(err)
		}
	}
}
