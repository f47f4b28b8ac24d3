package sqldb

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// CopyOptions say what Copy leaves to others.
type CopyOptions struct {
	// Skip are beginnings of names of tables that Also copies or that nobody needs.
	Skip []string

	// Seeded are tables into which their migration puts rows; their rows are replaced.
	Seeded []string

	// Also runs in the same transactions, for tables that the engines define differently.
	Also func(ctx context.Context, from, to *sql.Tx) (rows int64, err error)

	// Patience is how long Copy asks whether a commit has arrived whose answer was
	// lost on the way; 0 = 30s.
	Patience time.Duration
}

// Copied is what Copy has moved.
type Copied struct{ Tables, Rows int64 }

// ErrNotEmpty says that the database that is to be copied to holds rows.
var ErrNotEmpty = errors.New("the database to copy to is not empty")

// Copy moves the rows of every table of a SQLite database, which nobody may
// write meanwhile, to a PostgreSQL database that has been migrated by the same
// modules and holds no rows (ErrNotEmpty). It is one transaction there: after an
// error nothing has changed, unless that is ErrUncertain. Every row is read back
// and compared before it commits.
func Copy(ctx context.Context, from, to *DB, o CopyOptions) (done Copied, err error) {
	if from.name != SQLite || to.name != Postgres {
		return done, errors.New("sqldb: only SQLite is copied, and only to PostgreSQL")
	}
	src, err := from.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return done, from.translate(err)
	}
	defer from.rollback(src)
	conn, err := to.writer.Conn(ctx)
	if err != nil {
		return done, to.translate(err)
	}
	defer conn.Close()
	dst, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return done, to.translate(err)
	}
	defer to.rollback(dst)
	c := &copying{src: src, dst: dst, conn: conn, o: o}
	if done, err = c.run(ctx); err != nil {
		if from.faults.classify(err) != nil {
			to = from // whose fault it is
		}
		return Copied{}, to.translate(err)
	}
	var number string // of the transaction
	if err := dst.QueryRowContext(ctx, `SELECT CAST(pg_current_xact_id() AS TEXT)`).Scan(&number); err != nil {
		return Copied{}, to.translate(err)
	}
	if err := dst.Commit(); err != nil && uncertainPostgres(err) {
		if err := to.arrived(ctx, number, cmp.Or(o.Patience, 30*time.Second), err); err != nil {
			return Copied{}, err
		}
	} else if err != nil {
		return Copied{}, to.translate(err)
	}
	return done, nil
}

// arrived asks PostgreSQL what became of a transaction whose commit was lost with
// the connection: nil when it is there, and lost otherwise.
func (db *DB) arrived(ctx context.Context, number string, patience time.Duration, lost error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		var status sql.NullString // NULL of one that is forgotten
		err := db.writer.QueryRowContext(ctx, `SELECT pg_xact_status(CAST(CAST($1 AS TEXT) AS xid8))`, number).Scan(&status)
		switch {
		case status.String == "committed":
			return nil
		case status.String == "aborted":
			return db.translate(fmt.Errorf("%w: %w", ErrUnavailable, lost))
		}
		select {
		case <-again.C: // not to be reached yet, or "in progress": it has not noticed that we are gone
		case <-ctx.Done():
			return db.translate(errors.Join(fmt.Errorf("%w: the copy is there in full or not at all; repeat it into the same database: "+
				"that this is refused as not empty says that it is there: %w", ErrUncertain, lost), err))
		}
	}
}

// copying is one Copy.
type copying struct {
	src, dst *sql.Tx
	conn     *sql.Conn // of dst
	o        CopyOptions
}

func (c *copying) run(ctx context.Context) (done Copied, err error) {
	tables, err := c.tables(ctx)
	if err != nil {
		return done, err
	}
	plans := make([]*tableCopy, 0, len(tables))
	for _, name := range tables {
		t, err := c.plan(ctx, name)
		if err != nil {
			return done, err
		}
		plans = append(plans, t)
	}
	for _, t := range plans {
		n, err := c.table(ctx, t)
		if err != nil {
			return done, fmt.Errorf("copy table %s: %w", t.name, err)
		}
		done.Rows += n
	}
	done.Tables = int64(len(plans))
	if c.o.Also != nil {
		n, err := c.o.Also(ctx, c.src, c.dst)
		if err != nil {
			return done, err
		}
		done.Rows += n
	}
	return done, nil
}

// tables lists the tables of the source, those that others refer to first.
func (c *copying) tables(ctx context.Context) (ordered []string, err error) {
	all, err := column(ctx, c.src, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(name string) bool {
		return strings.HasPrefix(name, "migration_") ||
			slices.ContainsFunc(c.o.Skip, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	})
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		if seen[name] || !slices.Contains(all, name) {
			return nil
		}
		seen[name] = true
		parents, err := column(ctx, c.src, `SELECT DISTINCT "table" FROM pragma_foreign_key_list($1)`, name)
		for _, p := range parents {
			err = errors.Join(err, visit(p))
		}
		ordered = append(ordered, name)
		return err
	}
	for _, name := range all {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// tableCopy is a table with the columns that both engines have.
type tableCopy struct {
	name    string
	columns []string
	types   []string // of PostgreSQL
}

func (c *copying) plan(ctx context.Context, name string) (*tableCopy, error) {
	t := &tableCopy{name: name}
	have, err := column(ctx, c.src, `SELECT name FROM pragma_table_info($1) ORDER BY name`, name)
	if err != nil {
		return nil, err
	}
	rows, err := c.dst.QueryContext(ctx, `SELECT column_name, data_type FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = $1 ORDER BY column_name COLLATE "C"`, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var column, kind string
		if err := rows.Scan(&column, &kind); err != nil {
			return nil, err
		}
		t.columns, t.types = append(t.columns, column), append(t.types, kind)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	if len(t.columns) == 0 {
		return nil, fmt.Errorf("table %s belongs to a module that this binary does not have: copy with the program that made it", name)
	}
	if !slices.Equal(have, t.columns) {
		return nil, fmt.Errorf("table %s has the columns %v here and %v there: bring both to the same version first", name, have, t.columns)
	}
	var n int64
	if err := c.dst.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM `+quoted(name)+` LIMIT 1) AS one`).Scan(&n); err != nil { // #nosec G202 -- quoted
		return nil, err
	}
	if n > 0 && !slices.Contains(c.o.Seeded, name) {
		return nil, fmt.Errorf("%w: table %s has rows; name a new database", ErrNotEmpty, name)
	}
	return t, nil
}

// table copies one table and compares it. Triggers are for changes by Landline;
// what they guard has been guarded when the rows were first written.
func (c *copying) table(ctx context.Context, t *tableCopy) (int64, error) {
	name := quoted(t.name)
	for _, statement := range []string{`ALTER TABLE ` + name + ` DISABLE TRIGGER USER`, `DELETE FROM ` + name} {
		if _, err := c.dst.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	sent, count, err := c.stream(ctx, t)
	if err != nil {
		return 0, err
	}
	rows, err := c.dst.QueryContext(ctx, t.selection())
	if err != nil {
		return 0, err
	}
	var got digest
	there, err := t.each(rows, func(row []any) error { got.add(row); return nil })
	if err != nil {
		return 0, err
	}
	if there != count || got != sent {
		return 0, fmt.Errorf("%d rows arrived and %d were sent, or they differ", there, count)
	}
	if err := c.sequences(ctx, t); err != nil {
		return 0, err
	}
	for _, statement := range []string{`SET CONSTRAINTS ALL IMMEDIATE`, `ALTER TABLE ` + name + ` ENABLE TRIGGER USER`} {
		if _, err := c.dst.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// stream sends the rows with COPY.
func (c *copying) stream(ctx context.Context, t *tableCopy) (sent digest, count int64, err error) {
	rows, err := c.src.QueryContext(ctx, t.selection())
	if err != nil {
		return sent, 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var unread error // why the source gave no more rows; PostgreSQL only repeats its text
	next := pgx.CopyFromFunc(func() (row []any, err error) {
		defer func() { unread = err }()
		if !rows.Next() {
			return nil, rows.Err()
		}
		if row, err = t.scan(rows); err == nil {
			sent.add(row)
		}
		return row, err
	})
	err = c.conn.Raw(func(raw any) error {
		count, err = raw.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, next)
		return err
	})
	if unread != nil {
		err = unread
	}
	return sent, count, err
}

// sequences makes numbers that the database gives out go on where they stopped.
func (c *copying) sequences(ctx context.Context, t *tableCopy) error {
	columns, err := column(ctx, c.dst, `SELECT column_name FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = $1 AND is_identity = 'YES'`, t.name)
	if err != nil {
		return err
	}
	for _, name := range columns {
		last, err := c.lastNumber(ctx, t, name)
		if err != nil {
			return err
		}
		_, err = c.dst.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence($1, $2), GREATEST($3, 1), $3 > 0)`, quoted(t.name), name, last)
		if err != nil {
			return err
		}
	}
	return nil
}

// lastNumber is the highest number that a column has ever had; SQLite remembers
// those whose rows are gone where the column is AUTOINCREMENT.
func (c *copying) lastNumber(ctx context.Context, t *tableCopy, name string) (last int64, err error) {
	err = c.src.QueryRowContext(ctx, `SELECT COALESCE(MAX(`+quoted(name)+`), 0) FROM `+quoted(t.name)).Scan(&last) // #nosec G202 -- quoted
	if err != nil {
		return 0, err
	}
	var there int
	if err := c.src.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'`).Scan(&there); err != nil || there == 0 {
		return last, err
	}
	var given int64
	err = c.src.QueryRowContext(ctx, `SELECT seq FROM sqlite_sequence WHERE name = $1`, t.name).Scan(&given)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return max(last, given), err
}

func (t *tableCopy) selection() string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = quoted(c)
	}
	return `SELECT ` + strings.Join(names, ", ") + ` FROM ` + quoted(t.name)
}

func (t *tableCopy) each(rows *sql.Rows, fn func(row []any) error) (n int64, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for ; rows.Next(); n++ {
		row, err := t.scan(rows)
		if err != nil {
			return n, err
		}
		if err := fn(row); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

// scan reads a row of either engine as the values of PostgreSQL's types.
func (t *tableCopy) scan(rows *sql.Rows) ([]any, error) {
	row, into := make([]any, len(t.columns)), make([]any, len(t.columns))
	for i := range row {
		into[i] = &row[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	for i, v := range row {
		var err error
		if row[i], err = valueOf(v, t.types[i]); err != nil {
			return nil, fmt.Errorf("column %s: %w", t.columns[i], err)
		}
	}
	return row, nil
}

func valueOf(v any, kind string) (any, error) {
	if v == nil {
		return nil, nil
	}
	switch kind {
	case "bigint":
		if n, ok := v.(int64); ok {
			return n, nil
		}
	case "boolean":
		switch b := v.(type) {
		case bool:
			return b, nil
		case int64:
			return b != 0, nil
		}
	case "text":
		switch s := v.(type) {
		case string:
			return s, nil
		case []byte:
			return string(s), nil
		}
	case "bytea":
		switch b := v.(type) {
		case []byte:
			return b, nil
		case string:
			return []byte(b), nil
		}
	}
	return nil, fmt.Errorf("a %T does not fit into %s", v, kind)
}

// digest is a sum over rows that does not depend on their order.
type digest [4]uint64

func (d *digest) add(row []any) {
	h := sha256.New()
	for _, v := range row {
		text := fmt.Appendf(nil, "%T", v)
		switch v := v.(type) {
		case []byte:
			text = append(text, v...)
		default:
			text = fmt.Append(text, v)
		}
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write(text)
	}
	sum := h.Sum(nil)
	for i := range d {
		d[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

func column(ctx context.Context, tx *sql.Tx, query string, args ...any) (all []string, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
