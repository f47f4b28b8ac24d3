package queue

import (
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// KindOption changes how one kind of job is worked.
type KindOption func(*kind)

// Timeout bounds one attempt; then its context ends. Without it: DefaultTimeout.
func Timeout(d time.Duration) KindOption { return func(k *kind) { k.timeout = d } }

// Attempts is how often jobs of the kind are tried when Enqueue says nothing. Without it: 12.
func Attempts(n int) KindOption { return func(k *kind) { k.attempts = n } }

// InLane is the lane of the kind's jobs when Enqueue says nothing. Without it: DefaultLane.
func InLane(name string) KindOption { return func(k *kind) { k.lane = name } }

// InsertOption changes one enqueued job.
type InsertOption func(*insertOptions)

type insertOptions struct {
	at       time.Time
	lane     string
	attempts int
	priority int
	unique   bool
	window   time.Duration
	byArgs   bool
}

// At delays the job until t, to within a second.
func At(t time.Time) InsertOption { return func(o *insertOptions) { o.at = t } }

// Lane puts the job in the named lane, which must be one of Options.Lanes.
func Lane(name string) InsertOption { return func(o *insertOptions) { o.lane = name } }

// MaxAttempts bounds how often the job is tried.
func MaxAttempts(n int) InsertOption { return func(o *insertOptions) { o.attempts = n } }

// Priority is 1 (first, the default) to 4 (last) within a lane.
func Priority(n int) InsertOption { return func(o *insertOptions) { o.priority = n } }

// Unique drops the job when there is another of its kind (with byArgs: and the
// same arguments). With a window, another one enqueued in the same window
// counts, windows being aligned to the Unix epoch, at most MaxUniqueWindow;
// with window 0, another one that has not finished. Dead and cancelled ones
// never count.
func Unique(window time.Duration, byArgs bool) InsertOption {
	return func(o *insertOptions) { o.unique, o.window, o.byArgs = true, window, byArgs }
}

func (o *insertOptions) river(kind string, lanes map[string]int) (*river.InsertOpts, error) {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("queue: enqueue %s: %s", kind, fmt.Sprintf(format, args...))
	}
	if lanes[o.lane] == 0 {
		return nil, fault("no worker of this node serves lane %q: add it to Options.Lanes", o.lane)
	}
	if o.attempts < 1 || o.attempts > 100 {
		return nil, fault("MaxAttempts is %d, want 1 to 100", o.attempts)
	}
	if o.priority < 0 || o.priority > 4 {
		return nil, fault("Priority is %d, want 1 to 4", o.priority)
	}
	ro := &river.InsertOpts{Queue: o.lane, MaxAttempts: o.attempts, Priority: o.priority, ScheduledAt: o.at}
	if o.unique {
		if o.window < 0 || o.window > MaxUniqueWindow || o.window%time.Second != 0 {
			return nil, fault("the window of Unique is %v, want whole seconds up to %v", o.window, MaxUniqueWindow)
		}
		ro.UniqueOpts = river.UniqueOpts{ByArgs: o.byArgs, ByPeriod: o.window, ByState: []rivertype.JobState{rivertype.JobStateAvailable,
			rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled}}
		if o.window > 0 {
			ro.UniqueOpts.ByState = append(ro.UniqueOpts.ByState, rivertype.JobStateCompleted)
		}
	}
	return ro, nil
}
