// Package bus carries news between the parts and the nodes of one Landline:
// "this session was revoked", "flags changed".
//
// It guarantees: a subscriber of this process gets the messages that one
// publisher publishes on one topic one after the other in that order, at most
// once each; a slow subscriber never holds up a publisher or another
// subscriber; whenever messages may have been missed (the connection was lost,
// a subscriber's buffer overflowed, a message could not be decoded) every
// OnGap function is called after the loss, so that it can re-read its state.
//
// It does not guarantee that a message arrives, nor any order between
// publishers or topics, nor that a subscriber is done when Publish returns.
// What must not be lost belongs in sqldb and queue; the bus only says "look".
package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"landline/internal/problem"
)

// Bounds that both buses keep.
const (
	MaxPayload = 64 << 10 // bytes of one message
	MaxTopic   = 256      // bytes of a topic's name
	buffer     = 256      // messages waiting for one subscriber
)

var (
	// ErrTooLarge says that a payload exceeds MaxPayload.
	ErrTooLarge = errors.New("bus: the message is too large")

	// ErrInvalid says that a topic is empty or exceeds MaxTopic.
	ErrInvalid = errors.New("bus: invalid topic")

	// ErrUnavailable says that the server behind the bus does not answer; the
	// message may or may not have been sent. Errors that match it are
	// *UnavailableError.
	ErrUnavailable = errors.New("bus: the server does not answer; check redis.url and that the server runs")
)

// Bus is safe for concurrent use.
type Bus interface {
	// Publish sends payload to the present subscribers of topic, on all nodes.
	Publish(ctx context.Context, topic string, payload []byte) error

	// Subscribe calls fn for every message of topic, one at a time, until
	// cancel is called; a call under way may then still finish. fn must not
	// change payload nor call Close. When Subscribe returns, later messages of
	// this process are delivered; if the server does not answer at the time,
	// OnGap functions are called once it does.
	Subscribe(topic string, fn func(payload []byte)) (cancel func())

	// OnGap calls fn whenever messages may have been missed. Losses close
	// together may be told once. fn must not call Close.
	OnGap(fn func()) (cancel func())

	// Ping returns nil if messages can be sent and received.
	Ping(ctx context.Context) error

	// Close ends all subscriptions and waits for calls under way.
	Close() error
}

// UnavailableError is an ErrUnavailable with the operation and its cause.
type UnavailableError struct {
	Op    string
	Cause error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%v (%s: %v)", ErrUnavailable, e.Op, e.Cause)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, ErrUnavailable) true.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// Problem makes the error a problem.Coder: storage_unavailable, retry in a second.
func (e *UnavailableError) Problem() *problem.Error {
	return problem.New(problem.StorageUnavailable, "").After(time.Second)
}

// Topic is a topic whose messages are values of T, sent as JSON.
type Topic[T any] struct{ Name string }

// Publish sends v to the subscribers of the topic.
func (t Topic[T]) Publish(ctx context.Context, b Bus, v T) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("bus: encode a message of %s: %w", t.Name, err)
	}
	return b.Publish(ctx, t.Name, payload)
}

// Subscribe calls fn for every message of the topic. A message that is no T,
// such as one of a newer node, counts as missed: OnGap functions are called.
func (t Topic[T]) Subscribe(b Bus, fn func(T)) (cancel func()) {
	return b.Subscribe(t.Name, func(payload []byte) {
		var v T
		if err := json.Unmarshal(payload, &v); err != nil {
			if m, ok := b.(interface{ missed() }); ok {
				m.missed()
			}
			return
		}
		fn(v)
	})
}

func check(topic string, payload []byte) error {
	switch {
	case topic == "":
		return fmt.Errorf("%w: it is empty", ErrInvalid)
	case len(topic) > MaxTopic:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrInvalid, len(topic), MaxTopic)
	case len(payload) > MaxPayload:
		return fmt.Errorf("%w: %d bytes on %s, at most %d are allowed; publish an id and let subscribers read the rest", ErrTooLarge, len(payload), topic, MaxPayload)
	}
	return nil
}
