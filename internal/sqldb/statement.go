package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Statement is one of WriteAll.
type Statement struct {
	Text string
	Args []any
	Any  bool  // it is no condition: it may touch any number of rows
	Into []any // *string, *int64, *int and sql.Scanners for the columns of RETURNING; nil = nothing is returned
}

// pipeline runs statements in their order and returns how many rows each has
// touched. PostgreSQL gets them all in one message (libpq's manual, "Pipeline
// Mode"), so that none waits for another's answer. After an error nothing of the
// transaction stays.
func (t *Tx) pipeline(ctx context.Context, all []Statement) ([]int64, error) {
	batch := &pgx.Batch{}
	for _, s := range all {
		var err error
		if ctx, err = t.handle.enter(ctx, s.Args); err != nil {
			return nil, err
		}
		batch.Queue(s.Text, s.Args...)
	}
	touched := make([]int64, len(all))
	return touched, t.handle.leave(t.conn.Raw(func(driverConn any) error {
		own, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("sqldb: %T is no connection to PostgreSQL", driverConn)
		}
		if own.Conn().PgConn().TxStatus() != 'T' { // rolled back when its time was over: what ran now would stay
			return sql.ErrTxDone
		}
		results := own.Conn().SendBatch(ctx, batch)
		for i := range all {
			var err error
			if touched[i], err = touchedBy(results, all[i].Into); err != nil {
				return errors.Join(err, results.Close())
			}
		}
		return results.Close()
	}))
}
