package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesLookLikeTheLoggersOwn(t *testing.T) {
	var b bytes.Buffer
	log := NewLogger(&b, slog.LevelInfo, false)
	at := time.Now()
	texts := []string{"plain", "", `q"uo\te`, "new\nline", "zażółć", "\xff\xfe", "<html>&", "\x00\x1f\x7f", "Bearer abcdefghijklmnopqrstuvwxyz0123", strings.Repeat("x", 20000)}
	for _, text := range texts {
		b.Reset()
		attrs := []slog.Attr{slog.Int("status", 200), slog.Float64("ms", 1.25), slog.Bool("replayed", true)}
		if text != "" {
			attrs = append(attrs, slog.String("device", text))
		}
		log.LogAttrs(WithTrace(context.Background(), "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"), slog.LevelWarn, "request", attrs...)
		want := decodeLine(t, b.String())
		b.Reset()
		line := LinesOf(log).Begin(at, slog.LevelWarn, "request")
		line.Int("status", 200)
		line.Float("ms", 1.25)
		line.Bool("replayed", true)
		line.Text("device", text)
		line.Fixed(Fixed("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736", "owner", ""))
		line.End()
		got := decodeLine(t, b.String())
		if when, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil || !when.Equal(at.Round(0)) {
			t.Errorf("time %v %v", got["time"], err)
		}
		delete(want, "time")
		delete(got, "time")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%.50q: %.300v, want %.300v", text, got, want)
		}
	}
}

func decodeLine(t *testing.T, s string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil || !strings.HasSuffix(s, "}\n") || strings.Count(s, "\n") != 1 {
		t.Fatalf("%.300q: %v", s, err)
	}
	return m
}

func TestLinesAreWrittenSoonAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{}
		log := NewLogger(w, slog.LevelInfo, false)
		say := func(level slog.Level, message string) { LinesOf(log).Begin(time.Now(), level, message).End() }
		say(slog.LevelInfo, "one")
		say(slog.LevelInfo, "two")
		if w.count() != 0 {
			t.Fatal("a line is not kept back")
		}
		time.Sleep(lineDelay)
		synctest.Wait()
		if w.count() != 1 || strings.Count(w.text(), "\n") != 2 {
			t.Fatalf("after %s: %d writes, %q", lineDelay, w.count(), w.text())
		}
		say(slog.LevelInfo, "three")
		log.Info("four")
		if w.count() != 2 || !inOrder(w.text(), "one", "two", "three", "four") {
			t.Fatalf("%d writes, %q", w.count(), w.text())
		}
		say(slog.LevelInfo, "five")
		say(slog.LevelWarn, "six")
		if w.count() != 3 || !inOrder(w.text(), "four", "five", "six") {
			t.Fatalf("%d writes, %q", w.count(), w.text())
		}
		for range lineBuffer / 50 {
			say(slog.LevelInfo, "many")
		}
		if w.count() < 4 {
			t.Fatal("more is kept back than the buffer should hold")
		}
		time.Sleep(lineDelay)
		synctest.Wait()
		if n := strings.Count(w.text(), "many"); n != lineBuffer/50 {
			t.Fatalf("%d lines of %d", n, lineBuffer/50)
		}
	})
}

func inOrder(s string, words ...string) bool {
	at := 0
	for _, w := range words {
		i := strings.Index(s[at:], `"`+w+`"`)
		if i < 0 {
			return false
		}
		at += i
	}
	return true
}

// writes counts calls of Write.
type writes struct {
	mu  sync.Mutex
	n   int
	all []byte
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	w.all = append(w.all, p...)
	return len(p), nil
}

func (w *writes) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

func (w *writes) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.all)
}

func TestLinesOnlyWhereTheyLookAlike(t *testing.T) {
	log := NewLogger(io.Discard, slog.LevelInfo, false)
	for name, other := range map[string]*slog.Logger{"pretty": NewLogger(io.Discard, slog.LevelInfo, true), "with": log.With("a", 1), "group": log.WithGroup("g"), "foreign": slog.New(slog.DiscardHandler)} {
		if LinesOf(other) != nil {
			t.Errorf("%s has lines", name)
		}
	}
	if LinesOf(log) == nil {
		t.Error("the plain logger has none")
	}
}

func TestLineAllocatesNothing(t *testing.T) {
	lines := LinesOf(NewLogger(io.Discard, slog.LevelInfo, false))
	now := time.Now()
	if n := testing.AllocsPerRun(500, func() {
		l := lines.Begin(now, slog.LevelInfo, "request")
		l.Text("device", "iPhone17,1 with a longer name")
		l.Int("status", 200)
		l.Float("ms", 1.25)
		l.End()
	}); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}
