package queue

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"
)

const (
	// wakeAtMostEvery bounds how often one lane is looked through on account of
	// commits; it is River's fetch cooldown too.
	wakeAtMostEvery = 5 * time.Millisecond
	// notifyAtMostEvery bounds the NOTIFYs of one lane: PostgreSQL takes a
	// database-wide lock to commit each. They only wake other nodes.
	notifyAtMostEvery = 50 * time.Millisecond
)

// wake tells this node's workers what its own transactions did, right after
// the commit. River v0.31 itself learns of a transactional insert by polling on
// SQLite, and on PostgreSQL by a NOTIFY that it drops when another was sent
// within its cooldown, committed or not.
type wake struct {
	lanes   chan string // each lane at most once
	cancels chan cancelled

	mu    sync.Mutex
	state map[string]*laneWake
}

type laneWake struct {
	pending bool // in lanes, or a timer will put it there
	last    time.Time
}

type cancelled struct {
	lane string
	id   int64
}

const cancelBuffer = 256

func newWake(lanes int) *wake {
	return &wake{lanes: make(chan string, lanes), cancels: make(chan cancelled, cancelBuffer), state: map[string]*laneWake{}}
}

// lane has the lane looked through soon. Calls before that happens are one.
func (w *wake) lane(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.state[name]
	if l == nil {
		l = &laneWake{}
		w.state[name] = l
	}
	if l.pending {
		return
	}
	l.pending = true
	if wait := wakeAtMostEvery - time.Since(l.last); wait > 0 {
		time.AfterFunc(wait, func() { w.lanes <- name }) // has room: once a lane
		return
	}
	w.lanes <- name
}

// cancel tells the worker of a running job to stop. Without room nobody
// listens; the job then ends as cancelled when it fails, or at the rescue.
func (w *wake) cancel(lane string, id int64) {
	select {
	case w.cancels <- cancelled{lane, id}:
	default:
	}
}

// insertNote is what River's notifier hears of jobs in a lane.
func (w *wake) insertNote(lane string) *riverdriver.Notification {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state[lane].pending, w.state[lane].last = false, time.Now()
	return notification("river_insert", map[string]any{"queue": lane})
}

func cancelNote(c cancelled) *riverdriver.Notification {
	return notification("river_control", map[string]any{"action": "cancel", "job_id": c.id, "queue": c.lane})
}

func notification(topic string, payload map[string]any) *riverdriver.Notification {
	text, err := json.Marshal(payload)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return &riverdriver.Notification{Topic: topic, Payload: string(text)}
}

// sqliteDriver is River's SQLite driver with ears: notes of this process, which
// is the only one that works the file.
type sqliteDriver struct {
	*riversqlite.Driver
	wake *wake
}

func (d *sqliteDriver) SupportsListener() bool { return true }

func (d *sqliteDriver) GetListener(*riverdriver.GetListenenerParams) riverdriver.Listener {
	return &localListener{wake: d.wake}
}

func (d *sqliteDriver) GetExecutor() riverdriver.Executor {
	return &sqliteExecutor{d.Driver.GetExecutor()}
}

// sqliteExecutor stores times as UTC. River's snooze hands its driver a local
// time, which SQLite keeps as text and compares as text: on a machine that is
// not on UTC the job would be due hours early or late.
type sqliteExecutor struct{ riverdriver.Executor }

func (e *sqliteExecutor) JobSetStateIfRunningMany(ctx context.Context, p *riverdriver.JobSetStateIfRunningManyParams) ([]*rivertype.JobRow, error) {
	for _, times := range [][]*time.Time{p.ScheduledAt, p.FinalizedAt} {
		for i, t := range times {
			if t != nil {
				utc := t.UTC().Round(time.Millisecond)
				times[i] = &utc
			}
		}
	}
	return e.Executor.JobSetStateIfRunningMany(ctx, p)
}

type localListener struct{ wake *wake }

func (*localListener) Close(context.Context) error            { return nil }
func (*localListener) Connect(context.Context) error          { return nil }
func (*localListener) Listen(context.Context, string) error   { return nil }
func (*localListener) Ping(context.Context) error             { return nil }
func (*localListener) Schema() string                         { return "" }
func (*localListener) SetAfterConnectExec(string)             {}
func (*localListener) Unlisten(context.Context, string) error { return nil }

func (l *localListener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	select {
	case lane := <-l.wake.lanes:
		return l.wake.insertNote(lane), nil
	case c := <-l.wake.cancels:
		return cancelNote(c), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// postgresDriver is River's pgx driver that hears this process besides LISTEN.
type postgresDriver struct {
	*riverpgxv5.Driver
	wake *wake
}

func (d *postgresDriver) GetListener(p *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &bothListener{Listener: d.Driver.GetListener(p), wake: d.wake}
}

// bothListener waits for a local note and for the database at once. The
// connection is not used by two at a time: the wait for it has ended when
// WaitForNotification returns.
type bothListener struct {
	riverdriver.Listener
	wake *wake
	held *riverdriver.Notification // came from the database while a local note did
}

type heard struct {
	note *riverdriver.Notification
	err  error
}

func (l *bothListener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	if n := l.held; n != nil {
		l.held = nil
		return n, nil
	}
	select {
	case lane := <-l.wake.lanes:
		return l.wake.insertNote(lane), nil
	case c := <-l.wake.cancels:
		return cancelNote(c), nil
	default:
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	remote := make(chan heard, 1)
	go func() {
		n, err := l.Listener.WaitForNotification(inner)
		remote <- heard{n, err}
	}()
	var local *riverdriver.Notification
	select {
	case h := <-remote:
		return h.note, h.err
	case lane := <-l.wake.lanes:
		local = l.wake.insertNote(lane)
	case c := <-l.wake.cancels:
		local = cancelNote(c)
	}
	cancel()
	if h := <-remote; h.err == nil {
		l.held = h.note
	} // a lost connection fails the next wait as well, which River answers by reconnecting
	return local, nil
}

var _ riverdriver.Driver[pgx.Tx] = (*postgresDriver)(nil)
