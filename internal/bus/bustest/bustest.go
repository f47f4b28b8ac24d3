// Package bustest is the contract of bus.Bus as tests, run on every bus.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/bus"
)

// patience bounds every wait; a sound bus needs a millisecond.
const patience = 15 * time.Second

// Run checks the contract on buses that open makes, each with nobody else on
// it and closed by open's cleanup.
func Run(t *testing.T, open func(t *testing.T) bus.Bus) {
	for name, test := range map[string]func(*testing.T, bus.Bus){
		"a message reaches every subscriber of its topic": fanOut,
		"the order of one publisher":                      order,
		"a publisher may change its payload afterwards":   payloadIsCopied,
		"cancel":                          cancelled,
		"subscribers come and go":         comeAndGo,
		"a slow subscriber holds up none": slowSubscriber,
		"typed topics":                    typedTopics,
		"a message that is no T is a gap": undecodable,
		"calls from within a subscriber":  reentrant,
		"bounds":                          bounds,
		"a publisher's context":           publishersContext,
		"Close":                           closeEnds,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func publish(t *testing.T, b bus.Bus, topic, payload string) {
	t.Helper()
	if err := b.Publish(t.Context(), topic, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

// Inbox subscribes to topic and returns what comes.
func Inbox(t *testing.T, b bus.Bus, topic string) <-chan string {
	t.Helper()
	got := make(chan string, 10_000)
	t.Cleanup(b.Subscribe(topic, func(p []byte) { got <- string(p) }))
	return got
}

// Want takes the next message and compares it.
func Want(t *testing.T, inbox <-chan string, want string) {
	t.Helper()
	select {
	case got := <-inbox:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("%q did not come within %v", want, patience)
	}
}

// Wait takes a signal.
func Wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// Gaps returns a channel that gets a signal for every gap told.
func Gaps(t *testing.T, b bus.Bus) <-chan struct{} {
	t.Helper()
	c := make(chan struct{}, 1000)
	t.Cleanup(b.OnGap(func() { c <- struct{}{} }))
	return c
}

func fanOut(t *testing.T, b bus.Bus) {
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "a", "before anybody listens")
	a1, a2, other := Inbox(t, b, "a"), Inbox(t, b, "a"), Inbox(t, b, "b")
	publish(t, b, "a", "one")
	publish(t, b, "b", "two")
	publish(t, b, "nobody", "three")
	publish(t, b, "a", "")
	for _, inbox := range []<-chan string{a1, a2} {
		Want(t, inbox, "one")
		Want(t, inbox, "")
	}
	Want(t, other, "two")
}

func order(t *testing.T, b bus.Bus) {
	const publishers, each = 4, 50
	got := Inbox(t, b, "a")
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := b.Publish(t.Context(), "a", fmt.Appendf(nil, "%d %d", p, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var next [publishers]int
	for range publishers * each {
		var p, i int
		select {
		case m := <-got:
			if _, err := fmt.Sscan(m, &p, &i); err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatalf("messages are missing; next of each publisher: %v", next)
		}
		if next[p] != i {
			t.Fatalf("message %d of publisher %d came, want its %d", i, p, next[p])
		}
		next[p]++
	}
}

func payloadIsCopied(t *testing.T, b bus.Bus) {
	release := make(chan struct{})
	got := make(chan string, 1)
	t.Cleanup(b.Subscribe("a", func(p []byte) { <-release; got <- string(p) }))
	payload := []byte("before")
	if err := b.Publish(t.Context(), "a", payload); err != nil {
		t.Fatal(err)
	}
	copy(payload, "XXXXXX")
	close(release)
	Want(t, got, "before")
}

func cancelled(t *testing.T, b bus.Bus) {
	stays := Inbox(t, b, "a")
	var calls atomic.Int64
	cancel := b.Subscribe("a", func([]byte) { calls.Add(1) })
	cancelOnly := b.Subscribe("only", func([]byte) { calls.Add(1) })
	cancel()
	cancel()
	cancelOnly()
	publish(t, b, "a", "one")
	publish(t, b, "only", "one")
	publish(t, b, "a", "two")
	Want(t, stays, "one")
	Want(t, stays, "two")
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls after cancel", n)
	}
	again := Inbox(t, b, "only")
	publish(t, b, "only", "three")
	Want(t, again, "three")
}

func comeAndGo(t *testing.T, b bus.Bus) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				got := make(chan struct{}, 100)
				cancel := b.Subscribe("a", func([]byte) { got <- struct{}{} })
				if err := b.Publish(t.Context(), "a", []byte("x")); err != nil {
					t.Error(err)
				}
				select {
				case <-got:
				case <-time.After(patience):
					t.Error("a message published after Subscribe returned did not come")
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func slowSubscriber(t *testing.T, b bus.Bus) {
	gaps := Gaps(t, b)
	entered, release := make(chan struct{}, 1000), make(chan struct{})
	t.Cleanup(b.Subscribe("a", func([]byte) { entered <- struct{}{}; <-release }))
	defer close(release)
	publish(t, b, "a", "stuck")
	Wait(t, "the slow subscriber is called", entered)
	fast := Inbox(t, b, "b")
	sum := 0
	for range 400 { // more than any buffer
		publish(t, b, "a", "x")
		publish(t, b, "b", "y")
		Want(t, fast, "y")
		sum++
	}
	Wait(t, "the overflow is told as a gap", gaps)
}

type news struct {
	ID string `json:"id"`
	N  int    `json:"n"`
}

func typedTopics(t *testing.T, b bus.Bus) {
	topic := bus.Topic[news]{Name: "news"}
	got := make(chan news, 1)
	t.Cleanup(topic.Subscribe(b, func(n news) { got <- n }))
	want := news{"ses_1", 7}
	if err := topic.Publish(t.Context(), b, want); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-got:
		if n != want {
			t.Errorf("got %+v, want %+v", n, want)
		}
	case <-time.After(patience):
		t.Fatal("the message did not come")
	}
	if err := (bus.Topic[func()]{Name: "x"}).Publish(t.Context(), b, nil); err == nil {
		t.Error("a value that is no JSON was published")
	}
}

func undecodable(t *testing.T, b bus.Bus) {
	gaps := Gaps(t, b)
	got := make(chan news, 2)
	t.Cleanup(bus.Topic[news]{Name: "news"}.Subscribe(b, func(n news) { got <- n }))
	publish(t, b, "news", `{"id": 7}`)
	Wait(t, "the gap is told", gaps)
	publish(t, b, "news", `{"id": "x", "added_later": true}`)
	select {
	case n := <-got:
		if n.ID != "x" {
			t.Errorf("got %+v, want the second message only", n)
		}
	case <-time.After(patience):
		t.Fatal("the message after it did not come")
	}
}

func reentrant(t *testing.T, b bus.Bus) {
	done := make(chan struct{})
	var cancel func()
	ready := make(chan struct{})
	cancel = b.Subscribe("a", func([]byte) {
		<-ready
		if err := b.Publish(t.Context(), "b", []byte("from within")); err != nil {
			t.Error(err)
		}
		b.Subscribe("c", func([]byte) {})()
		b.OnGap(func() {})()
		cancel()
		close(done)
	})
	close(ready)
	inbox := Inbox(t, b, "b")
	publish(t, b, "a", "go")
	Want(t, inbox, "from within")
	Wait(t, "the subscriber returns", done)
}

func bounds(t *testing.T, b bus.Bus) {
	inbox := Inbox(t, b, "a")
	big := strings.Repeat("x", bus.MaxPayload)
	publish(t, b, "a", big)
	Want(t, inbox, big)
	if err := b.Publish(t.Context(), "a", []byte(big+"x")); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("too large a payload: %v; want ErrTooLarge", err)
	}
	for _, topic := range []string{"", strings.Repeat("t", bus.MaxTopic+1)} {
		if err := b.Publish(t.Context(), topic, nil); !errors.Is(err, bus.ErrInvalid) {
			t.Errorf("a topic of %d bytes: %v; want ErrInvalid", len(topic), err)
		}
	}
}

func publishersContext(t *testing.T, b bus.Bus) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Publish(ctx, "a", nil); !errors.Is(err, context.Canceled) || errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("with a cancelled context: %v; want context.Canceled", err)
	}
}

func closeEnds(t *testing.T, b bus.Bus) {
	started, release := make(chan struct{}), make(chan struct{})
	var finished atomic.Bool
	cancel := b.Subscribe("a", func([]byte) {
		close(started)
		<-release
		finished.Store(true)
	})
	publish(t, b, "a", "x")
	Wait(t, "the subscriber is called", started)
	closed := make(chan error, 1)
	go func() { closed <- b.Close() }()
	close(release)
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Close does not return")
	}
	if !finished.Load() {
		t.Error("Close did not wait for the call under way")
	}
	cancel()
	if err := b.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := b.Publish(t.Context(), "a", nil); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Publish after Close: %v; want ErrUnavailable", err)
	}
	if err := b.Ping(t.Context()); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Ping after Close: %v; want ErrUnavailable", err)
	}
	b.Subscribe("a", func([]byte) { t.Error("called after Close") })()
}
