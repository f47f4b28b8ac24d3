package gateway

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// underway runs do as a module's handler with a timeout of a second, for a client that leaves with the parent's end.
func underway(t *testing.T, parent context.Context, do func(ctx context.Context)) context.Context {
	t.Helper()
	var after context.Context
	handler := handlerTimeoutStage(time.Second)(func(_ *Exchange, _ http.ResponseWriter, r *http.Request) error {
		after = r.Context()
		do(after)
		return nil
	})
	r, err := http.NewRequestWithContext(parent, http.MethodPost, "/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := handler(&Exchange{}, nil, r); err != nil {
		t.Fatal(err)
	}
	return after
}

func TestHandlerTimeoutEndsTheContextAsTheStandardLibraryDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		after := underway(t, t.Context(), func(ctx context.Context) {
			if until, ok := ctx.Deadline(); !ok || until.Sub(began) != time.Second {
				t.Errorf("deadline %v, %v", until, ok)
			}
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-ctx.Done()
			<-child.Done()
			if ctx.Err() != context.DeadlineExceeded || child.Err() != context.DeadlineExceeded || time.Since(began) != time.Second { //nolint:errorlint // exactly
				t.Errorf("%v, its child %v, after %s", ctx.Err(), child.Err(), time.Since(began))
			}
		})
		if after.Err() != context.DeadlineExceeded { //nolint:errorlint // exactly
			t.Errorf("afterwards %v", after.Err())
		}
	})
}

func TestHandlersContextEndsWithTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := underway(t, t.Context(), func(ctx context.Context) {
			if ctx.Err() != nil {
				t.Error(ctx.Err())
			}
		})
		<-after.Done()
		if !errors.Is(after.Err(), context.Canceled) {
			t.Error(after.Err())
		}
	})
}

// Who waits hears of a client that has left after a moment, or at once where it
// left before; an earlier deadline of the parent's is the handler's.
func TestHandlerHearsOfItsClientsLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, leave := context.WithCancel(t.Context())
		began := time.Now()
		underway(t, parent, func(ctx context.Context) {
			done := ctx.Done()
			leave()
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("err %v", ctx.Err())
			}
			<-done
			if took := time.Since(began); took > watchAfter || !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("%v after %s", ctx.Err(), took)
			}
		})
		began = time.Now()
		underway(t, parent, func(ctx context.Context) {
			<-ctx.Done()
			if took := time.Since(began); took > 0 {
				t.Errorf("of a client that had left it is told after %s", took)
			}
		})
		soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		underway(t, soon, func(ctx context.Context) {
			until, _ := ctx.Deadline()
			<-ctx.Done()
			if took := time.Since(began); until.Sub(began) != 100*time.Millisecond || took != 100*time.Millisecond || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("deadline in %s, %v after %s", until.Sub(began), ctx.Err(), took)
			}
		})
	})
}
