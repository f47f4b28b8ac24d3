package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/kv"
)

// deaf is a bus whose next messages cannot be sent, while what is subscribed stays connected.
type deaf struct {
	bus.Bus
	failures atomic.Int64
}

func (d *deaf) Publish(ctx context.Context, topic string, payload []byte) error {
	if d.failures.Add(-1) >= 0 {
		return errors.New("no answer in time")
	}
	return d.Bus.Publish(ctx, topic, payload)
}

// A node that could not tell others of a write tells them later: they notice
// nothing by themselves, and would give the old answer until it is no longer fresh.
func TestAWriteThatCouldNotBeToldIsToldLater(t *testing.T) {
	l := newLibrary(t)
	news := &deaf{Bus: bus.NewMemory()}
	t.Cleanup(func() {
		if err := news.Close(); err != nil {
			t.Error(err)
		}
	})
	open := func() *house {
		return openWith(t, func(o *Options) { o.Shared, o.Bus, o.KV = true, news, kv.NewMemory(clock.System, 10) }, l.settings)
	}
	a, b := open(), open()
	for _, h := range []*house{a, b} {
		h.want("/v1/books/1", "one")
		h.want("/v1/books/2", "one")
	}
	l.set("two")
	news.failures.Store(1)
	a.do(a.request(http.MethodDelete, "/v1/books/1", nil))
	a.do(a.request(http.MethodDelete, "/v1/books/2", nil)) // at once after a failure none is attempted
	a.want("/v1/books/1", "two")
	a.want("/v1/books/2", "two")
	until(t, "the other node has been told of both", func() bool {
		_, one := b.get("/v1/books/1")
		_, two := b.get("/v1/books/2")
		return one == "two" && two == "two"
	})
}
