package queue

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"landline/internal/sqldb"
)

//go:embed copy.sql
var copySQL string

// copyQueries read SQLite's jobs and write them on PostgreSQL; each runs on one engine alone.
var copyQueries = sqldb.MustParse(copySQL)

// TablePrefix begins the names of River's tables, which CopyJobs copies.
const TablePrefix = "river_"

// CopyJobs copies every job from the tables of SQLite to those of PostgreSQL,
// whose job table must be empty: those to come with their schedule and attempts,
// and the finished ones, because uniqueness is kept by rows. Jobs that were
// running are available again: nobody runs while the database is copied. It
// returns the number of jobs, each of which was read back and compared.
func CopyJobs(ctx context.Context, from, to *sql.Tx) (n int64, err error) {
	var there int64
	if err := to.QueryRowContext(ctx, copyQueries.Get("JobsThere")).Scan(&there); err != nil {
		return 0, fmt.Errorf("queue: %w", err)
	}
	if there > 0 {
		return 0, fmt.Errorf("queue: %w: it holds %d jobs", sqldb.ErrNotEmpty, there)
	}
	rows, err := from.QueryContext(ctx, copyQueries.Get("JobsFrom"))
	if err != nil {
		return 0, fmt.Errorf("queue: read the jobs: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for ; rows.Next(); n++ {
		if err := copyJob(ctx, rows, to); err != nil {
			return n, err
		}
	}
	if err := rows.Err(); err != nil {
		return n, err
	}
	_, err = to.ExecContext(ctx, copyQueries.Get("JobsSequence"))
	return n, err
}

// storedJob is a job as SQLite has it: JSON and times as text.
type storedJob struct {
	id, attempt, maxAttempts, priority             int64
	kind, lane, state                              string
	args, attemptedBy, failures, metadata, tags    string
	attemptedAt, createdAt, finalizedAt, scheduled sql.NullString
	uniqueKey                                      []byte
	uniqueStates                                   sql.NullInt64
}

func copyJob(ctx context.Context, rows *sql.Rows, to *sql.Tx) error {
	var j storedJob
	if err := rows.Scan(&j.id, &j.kind, &j.lane, &j.state, &j.priority, &j.attempt, &j.maxAttempts, &j.args, &j.attemptedBy, &j.failures,
		&j.metadata, &j.tags, &j.attemptedAt, &j.createdAt, &j.finalizedAt, &j.scheduled, &j.uniqueKey, &j.uniqueStates); err != nil {
		return err
	}
	times := make([]sql.NullTime, 4)
	for i, text := range []sql.NullString{j.attemptedAt, j.createdAt, j.finalizedAt, j.scheduled} {
		var err error
		if times[i], err = parseTime(text); err != nil {
			return fmt.Errorf("queue: job %d: %w", j.id, err)
		}
	}
	var args, state, kind string
	var scheduled time.Time
	var attempt int64
	err := to.QueryRowContext(ctx, copyQueries.Get("JobTo"), j.id, j.kind, j.lane, j.state, j.priority, j.attempt, j.maxAttempts, j.args, j.attemptedBy,
		j.failures, j.metadata, j.tags, times[0], times[1], times[2], times[3], j.uniqueKey, j.uniqueStates).Scan(&kind, &state, &attempt, &args, &scheduled)
	if err != nil {
		return fmt.Errorf("queue: copy job %d: %w", j.id, err)
	}
	if kind != j.kind || state != j.state || attempt != j.attempt || !sameJSON(args, j.args) || !scheduled.Equal(times[3].Time) {
		return fmt.Errorf("queue: job %d arrived as another one", j.id)
	}
	return nil
}

// timeForms are how River's SQLite driver writes times, in UTC: in its
// statements, and where it leaves a time.Time to the driver.
var timeForms = []string{"2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999 -0700 MST", time.RFC3339Nano}

// parseTime reads one of them.
func parseTime(text sql.NullString) (sql.NullTime, error) {
	if !text.Valid {
		return sql.NullTime{}, nil
	}
	for _, layout := range timeForms {
		if t, err := time.Parse(layout, text.String); err == nil {
			return sql.NullTime{Time: t.UTC(), Valid: true}, nil
		}
	}
	return sql.NullTime{}, fmt.Errorf("%q is no time", text.String)
}

func sameJSON(a, b string) bool {
	canonical := func(s string) []byte {
		d := json.NewDecoder(bytes.NewReader([]byte(s)))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return []byte(s)
		}
		out, err := json.Marshal(v)
		if err != nil {
			return []byte(s)
		}
		return out
	}
	return bytes.Equal(canonical(a), canonical(b))
}
