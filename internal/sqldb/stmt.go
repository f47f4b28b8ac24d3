package sqldb

import (
	"container/list"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// maxPrepared bounds the prepared statements that one SQLite connection keeps.
// PostgreSQL needs none of this: pgx prepares and keeps statements by itself.
const maxPrepared = 256

// preparing is a driver.Connector whose connections keep the statements they
// have run, so that a hot statement is compiled once per connection. It sits
// below database/sql because a transaction of the pool's one connection cannot
// wait for that connection to prepare a statement.
type preparing struct {
	driver driver.Driver
	dsn    string
	begin  string // what begins a transaction that writes, as the DSN has it; "" = by the driver
}

func (p preparing) Connect(context.Context) (driver.Conn, error) {
	c, err := p.driver.Open(p.dsn)
	if err != nil {
		return nil, err
	}
	raw, ok := c.(sqliteConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("sqldb: the SQLite driver's connection %T lacks a method", c), c.Close())
	}
	return &preparedConn{sqliteConn: raw, begin: p.begin, byText: map[string]*list.Element{}}, nil
}

func (p preparing) Driver() driver.Driver { return p.driver }

// sqliteConn is what the SQLite driver's connections can do.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// preparedConn is used by one goroutine at a time, as every driver.Conn.
type preparedConn struct {
	sqliteConn
	begin  string
	byText map[string]*list.Element // of *prepared
	recent list.List                // most recently used first
}

type prepared struct {
	text string
	stmt driver.Stmt
	busy bool // its rows are being read
}

// BeginTx begins with a kept statement: the driver compiles BEGIN and COMMIT
// anew for each transaction, which costs as much as a row.
func (c *preparedConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if c.begin == "" || o != (driver.TxOptions{}) {
		return c.sqliteConn.BeginTx(ctx, o)
	}
	if _, err := c.ExecContext(ctx, c.begin, nil); err != nil {
		return nil, err
	}
	return preparedTx{c}, nil
}

type preparedTx struct{ c *preparedConn }

// Commit ends the transaction in any case, as database/sql expects: one whose
// COMMIT has failed may be open still.
func (t preparedTx) Commit() error {
	_, err := t.c.ExecContext(context.Background(), "COMMIT", nil)
	if err != nil {
		_ = t.Rollback() // fails where the transaction is over already
	}
	return err
}

func (t preparedTx) Rollback() error {
	_, err := t.c.ExecContext(context.Background(), "ROLLBACK", nil)
	return err
}

func (c *preparedConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	p, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return c.sqliteConn.ExecContext(ctx, text, args)
	}
	if b, ok := ctx.(brief); ok {
		if err := b.Err(); err != nil {
			return nil, err
		}
		ctx = context.WithoutCancel(b)
	}
	return p.stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (c *preparedConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	p, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return c.sqliteConn.QueryContext(ctx, text, args)
	}
	rows, err := p.stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	p.busy = true
	return &preparedRows{Rows: rows, of: p}, nil
}

// prepare returns the kept statement of text, or nil when text is to be run
// without: it is none worth keeping, or an earlier run of it is still being read.
func (c *preparedConn) prepare(ctx context.Context, text string) (*prepared, error) {
	if e, ok := c.byText[text]; ok {
		c.recent.MoveToFront(e)
		p := e.Value.(*prepared)
		if p.busy {
			return nil, nil
		}
		return p, nil
	}
	if !worthKeeping(text) {
		return nil, nil
	}
	if err := c.makeRoom(); err != nil {
		return nil, err
	}
	stmt, err := c.sqliteConn.PrepareContext(ctx, positional(text))
	if err != nil {
		return nil, err
	}
	p := &prepared{text: text, stmt: stmt}
	c.byText[text] = c.recent.PushFront(p)
	return p, nil
}

func (c *preparedConn) makeRoom() error {
	for e := c.recent.Back(); e != nil && c.recent.Len() >= maxPrepared; {
		p, before := e.Value.(*prepared), e.Prev()
		if !p.busy {
			c.recent.Remove(e)
			delete(c.byText, p.text)
			if err := p.stmt.Close(); err != nil {
				return err
			}
		}
		e = before
	}
	return nil
}

// Close closes the kept statements, then the connection.
func (c *preparedConn) Close() error {
	var errs []error
	for e := c.recent.Front(); e != nil; e = e.Next() {
		errs = append(errs, e.Value.(*prepared).stmt.Close())
	}
	c.recent.Init()
	clear(c.byText)
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}

// worthKeeping tells statements that read and change rows, and those around transactions, from
// schema changes, pragmas and scripts.
func worthKeeping(text string) bool {
	text = strings.TrimSpace(text)
	for strings.HasPrefix(text, "--") { // generated statements begin with their name
		_, rest, _ := strings.Cut(text, "\n")
		text = strings.TrimSpace(rest)
	}
	if strings.Contains(text, ";") { // a script, or text that holds one: not worth telling apart
		return false
	}
	verb, _, _ := strings.Cut(text, " ")
	verb, _, _ = strings.Cut(verb, "\n")
	switch strings.ToUpper(verb) {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE":
		return true
	}
	return false
}

// preparedRows gives the statement back when the rows have been read.
type preparedRows struct {
	driver.Rows
	of *prepared
}

func (r *preparedRows) Close() error {
	r.of.busy = false
	return r.Rows.Close()
}

// ColumnTypeDatabaseTypeName keeps sql.Rows.ColumnTypes working.
func (r *preparedRows) ColumnTypeDatabaseTypeName(i int) string {
	if t, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}
