package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"landline/internal/sqldb"
)

// lifeStore keeps erasures, exports and profiles. Its writes are statements of
// other changes' transactions, so they take a transaction.
type lifeStore struct{ db *sqldb.DB }

func exec(ctx context.Context, tx *sqldb.Tx, query string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, Queries.Get(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func scanErasure(r row) (e Erasure, err error) {
	var requested, at int64
	var finished sql.NullInt64
	var report string
	if err = r.Scan(&e.UserID, &e.State, &e.RequestedBy, &requested, &at, &finished, &report); err != nil {
		return e, err
	}
	e.RequestedAt, e.EraseAt = sqldb.Time(requested), sqldb.Time(at)
	if finished.Valid {
		e.FinishedAt = sqldb.Time(finished.Int64)
	}
	return e, json.Unmarshal([]byte(report), &e.Report)
}

func (l lifeStore) erasure(ctx context.Context, user string) (Erasure, error) {
	return one(ctx, l.db, "Erasure", scanErasure, user)
}

// finished lists erasures that are done, oldest first, after the given one.
func (l lifeStore) finished(ctx context.Context, after time.Time, user string, limit int) ([]Erasure, error) {
	return list(ctx, l.db, "ErasuresFinished", scanErasure, sqldb.Millis(after), user, limit)
}

// request records that e begins; false: one is under way or done.
func (lifeStore) request(ctx context.Context, tx *sqldb.Tx, e Erasure) (bool, error) {
	report, err := json.Marshal(e.Report)
	if err != nil {
		return false, err
	}
	n, err := exec(ctx, tx, "ErasureInsert", e.UserID, string(e.State), e.RequestedBy, sqldb.Millis(e.RequestedAt), sqldb.Millis(e.EraseAt), string(report))
	return n == 1, err
}

func (lifeStore) undo(ctx context.Context, tx *sqldb.Tx, user string) (bool, error) {
	n, err := exec(ctx, tx, "ErasureUndo", user)
	return n == 1, err
}

func (lifeStore) run(ctx context.Context, tx *sqldb.Tx, user string, r ErasureReport) (bool, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	n, err := exec(ctx, tx, "ErasureRun", string(text), user)
	return n == 1, err
}

// finish records that the erasure is done; errUnmet: somebody else has.
func (lifeStore) finish(ctx context.Context, tx *sqldb.Tx, user string, at time.Time, r ErasureReport) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	n, err := exec(ctx, tx, "ErasureFinish", sqldb.Millis(at), string(text), user)
	if err == nil && n != 1 {
		err = errUnmet
	}
	return err
}

// profile is what a user says of themselves, sealed; sqldb.ErrNotFound when nothing.
func (l lifeStore) profile(ctx context.Context, user string) (sealed []byte, at time.Time, err error) {
	err = l.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		var ms int64
		err := q.QueryRowContext(ctx, Queries.Get("Profile"), user).Scan(&sealed, &ms)
		at = sqldb.Time(ms)
		return err
	})
	return sealed, at, err
}

func scanExport(r row) (e Export, err error) {
	var requested, expires int64
	var finished sql.NullInt64
	err = r.Scan(&e.ID, &e.UserID, &e.State, &requested, &finished, &expires, &e.Size, &e.SHA256, &e.Fault)
	e.RequestedAt, e.ExpiresAt = sqldb.Time(requested), sqldb.Time(expires)
	if finished.Valid {
		e.FinishedAt = sqldb.Time(finished.Int64)
	}
	return e, err
}

func (l lifeStore) export(ctx context.Context, id string) (Export, error) {
	return one(ctx, l.db, "Export", scanExport, id)
}

func (l lifeStore) exports(ctx context.Context, user string, limit int) ([]Export, error) {
	return list(ctx, l.db, "ExportsOfUser", scanExport, user, limit)
}

func (l lifeStore) exportPart(ctx context.Context, id string, part int) ([]byte, error) {
	return one(ctx, l.db, "ExportPart", func(r row) (b []byte, err error) {
		err = r.Scan(&b)
		return b, err
	}, id, part)
}
