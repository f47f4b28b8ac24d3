package testkit

import (
	"log/slog"
	"sync"
	"testing"
)

// Logger writes everything, debug included, into the test's own output, which
// is shown when the test fails. What is logged after the test has ended is dropped.
func Logger(t *testing.T) *slog.Logger {
	t.Helper()
	w := &testOutput{t: t}
	t.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testOutput struct {
	mu    sync.Mutex
	t     *testing.T
	ended bool
}

func (w *testOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended { // writing to a finished test panics
		return len(p), nil
	}
	return w.t.Output().Write(p)
}

func (w *testOutput) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}
