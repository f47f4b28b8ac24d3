package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"landline/internal/problem"
)

func TestClassifyPostgres(t *testing.T) {
	for code, want := range map[string]error{
		"23505": ErrConflict, "23503": ErrConflict, "23514": ErrConflict, "23502": ErrConflict, "P0001": ErrConflict,
		"40001": ErrBusy, "40P01": ErrBusy, "55P03": ErrBusy,
		"53100": ErrUnavailable, "53200": ErrUnavailable, "53300": ErrUnavailable,
		"57014": ErrUnavailable, "57P01": ErrUnavailable, "57P02": ErrUnavailable, "57P03": ErrUnavailable,
		"08006": ErrUnavailable, "28P01": ErrUnavailable, "3D000": ErrUnavailable, "58030": ErrUnavailable,
		"25006": ErrUnavailable, "XX001": ErrCorrupt, "XX002": ErrCorrupt,
		"22021": ErrText,
		"42601": nil, "42P01": nil, "22P02": nil, "XX000": nil, "": nil,
	} {
		if got := classifyPostgres(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
	for err, want := range map[error]error{
		&pgconn.ConnectError{}: ErrUnavailable, &net.OpError{Op: "read", Err: errors.New("reset")}: ErrUnavailable,
		io.ErrUnexpectedEOF: ErrUnavailable, sql.ErrTxDone: ErrUnavailable, context.Canceled: nil, errors.New("other"): nil,
	} {
		if got := classifyPostgres(err); got != want {
			t.Errorf("%T: %v, want %v", err, got, want)
		}
	}
}

func TestUncertainPostgres(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{io.ErrUnexpectedEOF, true},
		{context.DeadlineExceeded, true},
		{pgconn.ErrConnClosed, true},
		{&pgconn.PgError{Code: "57P01", SeverityUnlocalized: "FATAL"}, true},
		{&pgconn.PgError{Code: "40001", SeverityUnlocalized: "ERROR"}, false},
		{&pgconn.PgError{Code: "23503", SeverityUnlocalized: "ERROR"}, false},
		{pgx.ErrTxCommitRollback, false},
		{sql.ErrTxDone, false},
	} {
		if got := uncertainPostgres(fmt.Errorf("commit: %w", c.err)); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestLost(t *testing.T) {
	for _, c := range []struct {
		err  pgconn.PgError
		want bool
	}{
		{pgconn.PgError{Code: "40001"}, true},
		{pgconn.PgError{Code: "40P01"}, true},
		{pgconn.PgError{Code: "0A000", Routine: "RevalidateCachedQuery"}, true},
		{pgconn.PgError{Code: "0A000"}, false},
		{pgconn.PgError{Code: "23505"}, false},
	} {
		if got := lost(fmt.Errorf("wrapped: %w", &c.err)); got != c.want {
			t.Errorf("%s %s: %v", c.err.Code, c.err.Routine, got)
		}
	}
}

// What clients are told: never the engine's words, always when to come back.
func TestErrorsKnowTheirProblem(t *testing.T) {
	for err, want := range map[error]time.Duration{ErrBusy: time.Second, ErrUnavailable: 5 * time.Second, ErrUncertain: 5 * time.Second} {
		p := problem.From(fmt.Errorf("store: %w", fmt.Errorf("%w: %w", err, errors.New("secret cause"))))
		if p.Code != problem.StorageUnavailable || p.RetryAfter != want || p.Detail == "" {
			t.Errorf("%v: %+v", err, p)
		}
		if p.Detail == p.Cause.Error() {
			t.Error("the client sees the cause")
		}
	}
	if !errors.Is(ErrUncertain, ErrUnavailable) || errors.Is(ErrUnavailable, ErrUncertain) {
		t.Error("an uncertain outcome is a case of unavailable, not the other way round")
	}
}
