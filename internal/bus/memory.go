package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

var errClosed = errors.New("the bus is closed")

// NewMemory returns a Bus of this process alone.
func NewMemory() Bus { return &memory{hub: newHub()} }

type memory struct{ hub *hub }

func (m *memory) Publish(ctx context.Context, topic string, payload []byte) error {
	if err := check(topic, payload); err != nil {
		return err
	}
	if err := m.Ping(ctx); err != nil {
		return err
	}
	m.hub.deliver(topic, bytes.Clone(payload))
	return nil
}

func (m *memory) Subscribe(topic string, fn func(payload []byte)) (cancel func()) {
	_, end := m.hub.subscribe(topic, fn)
	return func() { end() }
}

func (m *memory) OnGap(fn func()) (cancel func()) { return m.hub.onGap(fn) }

func (m *memory) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	if m.hub.isClosed() {
		return &UnavailableError{Op: "publish", Cause: errClosed}
	}
	return nil
}

func (m *memory) Close() error {
	m.hub.close()
	return nil
}

func (m *memory) missed() { m.hub.missed() }
