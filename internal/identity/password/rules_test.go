package password

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWhichPasswordsMayBeSet(t *testing.T) {
	r := NewRules(DefaultConfig(), nil)
	for password, want := range map[string]Weakness{
		"correct horse battery staple": "", "tr0ub4dor&3": "", "        x y": "", "ąęśćżźół": "", "emoji 😀😀😀": "", "Xq7#vL2p": "",
		strings.Repeat("long ", 200): "",
		"short":                      TooShort, "1234567": TooShort, "ąęśćżźó": TooShort,
		strings.Repeat("x", 1025): TooLong, "valid\xffnot": NotText,
		"password": Common, "Password1!": Common, "PASSWORD123": Common, "12345678": Common, "87654321": Common, "aaaaaaaaaaaa": Common,
		"qwertyuiop": Common, "abcabcabcabc": Common, "Sunshine2024": Common, "1qaz2wsx": Common, "ｐａｓｓｗｏｒｄ": Common, "zaq12wsx": Common,
		"ann.kowalska": Personal, "Ann.Kowalska1": Personal, "ann.kowalska@example.net": Personal, "flights2026": Personal, "99example": Personal,
	} {
		err := r.Check(t.Context(), password, "ann.kowalska@example.net", "Flights")
		var weak *WeakError
		errors.As(err, &weak)
		if want == "" && err != nil || want != "" && (weak == nil || weak.Weakness != want) {
			t.Errorf("%.40q: %v, want %q", password, err, want)
		}
		if err != nil && password != "password" && strings.Contains(err.Error(), password) {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func writeList(t testing.TB, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string, minCount int) *HashList {
	t.Helper()
	l, err := OpenList(path, minCount)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func hashOf(s string) string { return fmt.Sprintf("%X", sha1.Sum([]byte(s))) }

func TestBreachedPasswordsAreRefused(t *testing.T) {
	lines := []string{hashOf("tr0ub4dor&3") + ":7\r\n", hashOf("seldom seen") + ":2\r\n", hashOf("other") + ":99\r\n"}
	slices.Sort(lines)
	list := open(t, writeList(t, lines...), 3)
	r := NewRules(DefaultConfig(), list)
	var weak *WeakError
	if err := r.Check(t.Context(), "tr0ub4dor&3"); !errors.As(err, &weak) || weak.Weakness != Breached {
		t.Errorf("%v", err)
	}
	for _, p := range []string{"seldom seen", "never seen at all"} {
		if err := r.Check(t.Context(), p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Check(ctx, "never seen at all"); !errors.Is(err, context.Canceled) {
		t.Errorf("an error of the list is lost: %v", err)
	}
	if err := r.Check(t.Context(), "\uff54r0ub4dor&3"); !errors.As(err, &weak) || weak.Weakness != Breached {
		t.Errorf("spelled wide: %v", err)
	}
}

// Every kind of list against a map, with entries at every offset.
func TestListFindsExactlyWhatItHas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		prefix := rapid.SampledFrom([]int{10, 16, 39, 40}).Draw(rt, "digits")
		counted := rapid.Bool().Draw(rt, "counted")
		ending := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(rt, "ending")
		lower := rapid.Bool().Draw(rt, "lower")
		words := rapid.SliceOfNDistinct(rapid.StringN(1, 6, -1), 1, 60, rapid.ID[string]).Draw(rt, "words")
		known := words[:rapid.IntRange(1, len(words)).Draw(rt, "known")]
		counts := map[string]int{}
		var lines []string
		for _, w := range known {
			line := hashOf(w)[:prefix]
			if lower {
				line = strings.ToLower(line)
			}
			counts[w] = 1 << 30
			if counted {
				counts[w] = rapid.IntRange(0, 2_000_000_000).Draw(rt, "count")
				line += fmt.Sprint(":", counts[w])
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		text := strings.Join(lines, ending)
		if rapid.Bool().Draw(rt, "last line ended") {
			text += ending
		}
		list := open(t, writeList(t, text), 1000)
		for _, w := range words {
			got, err := list.Contains(t.Context(), sha1.Sum([]byte(w)))
			if want := counts[w] >= 1000; err != nil || got != want {
				rt.Fatalf("%q: %v %v, want %v in\n%s", w, got, err, want, text)
			}
		}
	})
}

func TestFilesThatAreNoListAreRefused(t *testing.T) {
	a, b := hashOf("a"), hashOf("b") // 86F7…, E9D7…
	for name, lines := range map[string][]string{
		"empty":       {""},
		"unsorted":    {b + ":1\n", a + ":1\n"},
		"repeated":    {a + ":1\n", a + ":1\n"},
		"passwords":   {"hunter2\n"},
		"short":       {"ABCDEF012\n"},
		"long":        {a + "00\n"},
		"count":       {a + ":many\n"},
		"long line":   {a + ":" + strings.Repeat("1", 200) + "\n"},
		"binary":      {strings.Repeat("\x00", 500)},
		"blank lines": {"\n\n"},
	} {
		if l, err := OpenList(writeList(t, lines...), 1); err == nil {
			l.Close()
			t.Errorf("%s was opened", name)
		}
	}
	if _, err := OpenList(t.TempDir(), 1); err == nil {
		t.Error("a folder was opened")
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestDiskFaultsAreTold(t *testing.T) {
	l := &HashList{file: broken{}, size: 1000, minCount: 1}
	if _, err := l.Contains(t.Context(), sha1.Sum(nil)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(hashOf("a")+":1\r\n"+hashOf("b")+":2\r\n"), "a")
	f.Add([]byte("86F7E437FA\nE9D71F5EE7"), "b")
	f.Fuzz(func(t *testing.T, text []byte, password string) {
		l := &HashList{file: strings.NewReader(string(text)), size: int64(len(text)), minCount: 1}
		ok, err := l.Contains(t.Context(), sha1.Sum([]byte(password)))
		if ok && (err != nil || !strings.Contains(strings.ToUpper(string(text)), hashOf(password)[:minPrefix])) {
			t.Errorf("found what is not there: %v", err)
		}
		if l.sample() != nil && ok && err != nil {
			t.Error("both found and failed")
		}
	})
}

func BenchmarkList(b *testing.B) {
	const n = 1_000_000
	lines := make([]string, n)
	for i := range lines {
		lines[i] = hashOf(fmt.Sprint(i)) + ":3\r\n"
	}
	slices.Sort(lines)
	l := open(b, writeList(b, lines...), 1)
	for i := 0; b.Loop(); i++ {
		if ok, err := l.Contains(b.Context(), sha1.Sum([]byte(fmt.Sprint(i%n)))); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}
