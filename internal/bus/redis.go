package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"landline/internal/kv/redisconn"
)

const (
	opTimeout  = 500 * time.Millisecond
	heartbeat  = 2 * time.Second // a silent connection is pinged, and given up after as long again
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	hello      = "_landline" // a channel of our own, so that there is always one to listen on
)

// NewRedis returns a Bus over the publish/subscribe of the Redis (6 or newer)
// or Valkey server at url; prefix comes before every channel name. It connects
// in the background, and again after every loss.
func NewRedis(url, prefix string, log *slog.Logger) (Bus, error) {
	client, err := redisconn.Open(url, log)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &redisBus{
		hub: newHub(), client: client, prefix: prefix, log: log,
		ctx: ctx, stop: stop, topics: map[string]*confirmation{}, up: make(chan struct{}),
	}
	b.wg.Go(b.listen)
	return b, nil
}

type redisBus struct {
	hub    *hub
	client *redis.Client
	prefix string
	log    *slog.Logger
	ctx    context.Context // ends at Close
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	topics map[string]*confirmation // what the server is, or shall be, asked for
	conn   *redis.PubSub            // nil while there is no connection
	up     chan struct{}            // closed while the server has confirmed every topic
}

// confirmation is the server's word that it delivers a topic.
type confirmation struct {
	done chan struct{} // closed when it came
	late bool          // Subscribe did not wait for it: what came before is a gap
}

func (b *redisBus) Publish(ctx context.Context, topic string, payload []byte) error {
	if err := check(topic, payload); err != nil {
		return err
	}
	return b.do(ctx, "publish", func(ctx context.Context) error {
		return b.client.Publish(ctx, b.prefix+topic, payload).Err()
	})
}

func (b *redisBus) do(ctx context.Context, op string, fn func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err := fn(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("bus: %s: %w", op, ctx.Err())
	}
	return &UnavailableError{Op: op, Cause: err}
}

func (b *redisBus) Subscribe(topic string, fn func(payload []byte)) (cancel func()) {
	end, confirmed := b.add(topic, fn)
	timeout := time.NewTimer(opTimeout)
	defer timeout.Stop()
	select {
	case <-confirmed.done:
	case <-b.ctx.Done():
	case <-timeout.C:
		b.mu.Lock()
		confirmed.late = true
		b.mu.Unlock()
		if isClosed(confirmed.done) { // it came between the timeout and the lock
			b.hub.missed()
		}
	}
	return func() { b.remove(topic, end) }
}

// add and remove ask the server under the lock, so that its view of a topic
// follows ours also when subscribers of one topic come and go at once.
func (b *redisBus) add(topic string, fn func([]byte)) (end func() bool, c *confirmation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first, end := b.hub.subscribe(topic, fn)
	if first {
		b.topics[topic] = &confirmation{done: make(chan struct{})}
		if b.conn != nil {
			b.ask(b.conn.Subscribe, topic)
		}
	}
	c = b.topics[topic]
	if c == nil { // closed
		c = &confirmation{done: make(chan struct{})}
	}
	return end, c
}

func (b *redisBus) remove(topic string, end func() bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !end() {
		return
	}
	delete(b.topics, topic)
	if b.conn != nil {
		b.ask(b.conn.Unsubscribe, topic)
	}
}

// ask drops a connection that does not take a command; listen makes a new one.
func (b *redisBus) ask(command func(context.Context, ...string) error, topic string) {
	ctx, cancel := context.WithTimeout(b.ctx, opTimeout)
	defer cancel()
	if err := command(ctx, b.prefix+topic); err != nil {
		b.log.Warn("bus: the server does not take a subscription; reconnecting", "topic", topic, "error", err)
		b.disconnect()
	}
}

// disconnect closes the connection, which ends its receive. The lock is held.
func (b *redisBus) disconnect() {
	if b.conn == nil {
		return
	}
	if err := b.conn.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		b.log.Debug("bus: close a connection", "error", err)
	}
	b.conn = nil
	if isClosed(b.up) {
		b.up = make(chan struct{})
	}
}

// listen keeps one connection to the server until Close.
func (b *redisBus) listen() {
	lost, backoff := false, minBackoff
	for b.ctx.Err() == nil {
		started := time.Now()
		err := b.session(lost)
		b.mu.Lock()
		b.disconnect()
		b.mu.Unlock()
		if b.ctx.Err() != nil {
			return
		}
		lost = true
		if time.Since(started) > 2*maxBackoff {
			backoff = minBackoff
		}
		pause := backoff/2 + rand.N(backoff) // #nosec G404 -- jitter: nodes shall not come back all at once
		b.log.Warn("bus: connection lost; reconnecting", "error", err, "in_ms", pause.Milliseconds())
		wait := time.NewTimer(pause)
		select {
		case <-b.ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
		backoff = min(2*backoff, maxBackoff)
	}
}

// session is the life of one connection. After a loss it tells the gap as soon
// as the server delivers every topic again, so that what a subscriber then
// reads is not older than the first message it gets.
func (b *redisBus) session(lost bool) error {
	conn, waiting, err := b.connect()
	if err != nil {
		return err
	}
	for pinged := false; ; {
		m, err := conn.ReceiveTimeout(b.ctx, heartbeat)
		var timeout net.Error
		switch {
		case err == nil:
			pinged = false
		case errors.As(err, &timeout) && timeout.Timeout() && !pinged:
			if err := conn.Ping(b.ctx); err != nil {
				return err
			}
			pinged = true
			continue
		default:
			return err
		}
		switch m := m.(type) {
		case *redis.Message:
			b.hub.deliver(strings.TrimPrefix(m.Channel, b.prefix), []byte(m.Payload))
		case *redis.Subscription:
			if m.Kind != "subscribe" {
				break
			}
			b.confirm(strings.TrimPrefix(m.Channel, b.prefix))
			delete(waiting, m.Channel)
			if waiting != nil && len(waiting) == 0 {
				waiting = nil
				b.mu.Lock()
				if b.conn == conn {
					close(b.up)
				}
				b.mu.Unlock()
				if lost {
					b.log.Info("bus: connected again")
					b.hub.missed()
				}
			}
		}
	}
}

// connect opens a connection and asks for every topic; waiting holds the
// channels whose confirmation is to come.
func (b *redisBus) connect() (conn *redis.PubSub, waiting map[string]bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		return nil, nil, b.ctx.Err()
	}
	waiting = map[string]bool{b.prefix + hello: true}
	for topic := range b.topics {
		waiting[b.prefix+topic] = true
	}
	channels := make([]string, 0, len(waiting))
	for channel := range waiting {
		channels = append(channels, channel)
	}
	ctx, cancel := context.WithTimeout(b.ctx, 2*opTimeout)
	defer cancel()
	b.conn = b.client.Subscribe(ctx)
	return b.conn, waiting, b.conn.Subscribe(ctx, channels...)
}

func (b *redisBus) confirm(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.topics[topic]
	if c == nil || isClosed(c.done) {
		return
	}
	close(c.done)
	if c.late {
		b.hub.missed()
	}
}

func (b *redisBus) OnGap(fn func()) (cancel func()) { return b.hub.onGap(fn) }

func (b *redisBus) Ping(ctx context.Context) error {
	return b.do(ctx, "ping", func(ctx context.Context) error {
		b.mu.Lock()
		up := b.up
		b.mu.Unlock()
		select {
		case <-up:
		case <-b.ctx.Done():
			return errClosed
		case <-ctx.Done():
			return errors.New("no subscription yet")
		}
		return b.client.Ping(ctx).Err()
	})
}

func (b *redisBus) Close() error {
	b.stop()
	b.mu.Lock()
	b.disconnect()
	b.mu.Unlock()
	b.wg.Wait()
	b.hub.close()
	if err := b.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("bus: close: %w", err)
	}
	return nil
}

func (b *redisBus) missed() { b.hub.missed() }
