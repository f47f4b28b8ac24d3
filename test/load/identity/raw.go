package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // the driver

	"landline/internal/id"
)

func onEngine(name string) bool { return slices.Contains(strings.Split(*engines, ","), name) }

// The rows of a new installation: what each has beside its id, in bytes, which
// includes the ids of the others.
var rawRows = []struct{ table, prefix, data string }{
	{"installation", id.Installation, strings.Repeat("i", 130)},
	{"person", id.User, strings.Repeat("p", 60)},
	{"session", id.Session, strings.Repeat("s", 190)},
}

const maxShared = 64 // callers of one commit, as many as share one in Landline

// rawSQLite is what one would write by hand for many writers: one connection,
// whose transactions take up everybody who waits. The tables have no index but
// their key.
type rawSQLite struct {
	db      *sql.DB
	waiting chan chan error
	ended   chan struct{}
}

func openRawSQLite(dir string) (*rawSQLite, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "raw.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	r := &rawSQLite{db: db, waiting: make(chan chan error, 1024), ended: make(chan struct{})}
	inserts := make([]*sql.Stmt, len(rawRows))
	for i, row := range rawRows {
		if _, err = db.Exec("CREATE TABLE " + row.table + " (id TEXT NOT NULL PRIMARY KEY, data TEXT NOT NULL)"); err != nil {
			return nil, errors.Join(err, db.Close())
		}
		if inserts[i], err = db.Prepare("INSERT INTO " + row.table + " VALUES (?, ?)"); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	go r.write(inserts)
	return r, nil
}

func (r *rawSQLite) write(inserts []*sql.Stmt) {
	defer close(r.ended)
	for first := range r.waiting {
		group := []chan error{first}
		for more := true; more && len(group) < maxShared; {
			select {
			case one, open := <-r.waiting:
				if more = open; open {
					group = append(group, one)
				}
			default:
				more = false
			}
		}
		err := r.commit(inserts, len(group))
		for _, one := range group {
			one <- err
		}
	}
}

func (r *rawSQLite) commit(inserts []*sql.Stmt, n int) error {
	tx, err := r.db.Begin()
	if err != nil {
		return err
	}
	for range n {
		for i, row := range rawRows {
			if _, err := tx.Stmt(inserts[i]).Exec(id.New(row.prefix), row.data); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
	}
	return tx.Commit()
}

func (r *rawSQLite) insert(int, int) error {
	done := make(chan error, 1)
	r.waiting <- done
	return <-done
}

func (r *rawSQLite) close() error {
	close(r.waiting)
	<-r.ended
	return r.db.Close()
}

const patience = time.Minute

// rawPostgres has a connection for each caller, as pgbench has for each client.
type rawPostgres struct{ conns []*pgx.Conn }

func openRawPostgres(address string, connections int) (*rawPostgres, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := &rawPostgres{}
	for range connections {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.conns = append(r.conns, conn)
	}
	_, err := r.conns[0].Exec(ctx, "CREATE TABLE raw (id TEXT NOT NULL PRIMARY KEY, data TEXT NOT NULL)")
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

var rawData = rawRows[0].data + rawRows[1].data + rawRows[2].data

func (r *rawPostgres) insert(connection, _ int) error {
	_, err := r.conns[connection].Exec(context.Background(), "INSERT INTO raw VALUES ($1, $2)", id.New(id.Installation), rawData)
	return err
}

func (r *rawPostgres) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	for _, c := range r.conns {
		err = errors.Join(err, c.Close(ctx))
	}
	return err
}
