package bus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFollowerReadsOnNewsAndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewMemory()
		var reads atomic.Int64
		var broken atomic.Bool
		var log strings.Builder
		f := &Follower{What: "switches", Topic: "switches", Every: time.Minute, Bus: b, Log: slog.New(slog.NewTextHandler(&log, nil)), Read: func(context.Context) error {
			reads.Add(1)
			if broken.Load() {
				return errors.New("the database is away")
			}
			return nil
		}}
		if err := f.Start(t.Context()); err != nil || reads.Load() != 1 {
			t.Fatalf("start: %v, %d reads", err, reads.Load())
		}
		if err := b.Publish(t.Context(), "switches", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if reads.Load() != 2 {
			t.Errorf("after news: %d reads", reads.Load())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if reads.Load() != 3 {
			t.Errorf("after a minute: %d reads", reads.Load())
		}
		broken.Store(true)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "cannot be read"); n != 1 || reads.Load() != 6 {
			t.Errorf("an outage was logged %d times, %d reads", n, reads.Load())
		}
		if err := errors.Join(f.Stop(t.Context()), b.Close()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if reads.Load() != 6 {
			t.Errorf("read after Stop")
		}
	})
}

func TestFollowerThatCannotReadDoesNotStart(t *testing.T) {
	f := &Follower{What: "keys", Read: func(context.Context) error { return errors.New("no such table") }}
	if err := f.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "read the keys: no such table") {
		t.Errorf("%v", err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
