package sqldb_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// proxy stands between the pool and the server and can cut the line.
type proxy struct {
	listener net.Listener
	server   string
	cut      atomic.Value // "", "before commit", "after commit"
	mark     atomic.Value // bytes of the message that is taken for the commit; "" = a message that is nothing but one
	mu       sync.Mutex
	conns    []net.Conn
}

func newProxy(t *testing.T, databaseURL string) (p *proxy, proxied string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p = &proxy{listener: l, server: u.Host}
	p.cutAt("", "")
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", p.server)
			if err != nil {
				t.Error(err)
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, s)
			p.mu.Unlock()
			all.Go(func() { p.forward(c, s) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.drop()
		all.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

// cutAt has the line cut before or after the message with these bytes.
func (p *proxy) cutAt(mark, cut string) {
	p.mark.Store(mark)
	p.cut.Store(cut)
}

// drop cuts every connection there is.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) forward(client, server net.Conn) {
	var answers sync.WaitGroup
	var deaf atomic.Bool
	answers.Go(func() {
		defer client.Close()
		defer server.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || deaf.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	defer answers.Wait()
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		mark := p.mark.Load().(string)
		if mark == "" {
			mark = "Q\x00\x00\x00\x0bcommit\x00"
		}
		if bytes.Contains(buf[:n], []byte(mark)) {
			switch p.cut.Load() {
			case "before commit":
				return
			case "after commit":
				deaf.Store(true) // its answer comes, and is thrown away
				if _, err := server.Write(buf[:n]); err == nil {
					answers.Wait()
				}
				return
			}
		}
		if _, err := io.Copy(server, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

func TestALineCutAtTheCommit(t *testing.T) {
	p, proxied := newProxy(t, testkit.PostgresURL(t))
	db := testkit.Open(t, sqldb.Options{URL: proxied, MaxConns: 2}, things)
	for _, when := range []string{"before commit", "after commit"} {
		p.cut.Store(when)
		hook := false
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			tx.OnCommit(func() { hook = true })
			return insert(when)(ctx, tx)
		})
		wantErr(t, err, sqldb.ErrUncertain)
		wantErr(t, err, sqldb.ErrUnavailable)
		if hook {
			t.Errorf("%s: the hook ran", when)
		}
		p.cut.Store("")
	}
	if err := db.Write(t.Context(), insert("back")); err != nil {
		t.Errorf("with the line back: %v", err)
	}
	wantIDs(t, db, "after commit", "back")
}

func TestALineCutInATransaction(t *testing.T) {
	p, proxied := newProxy(t, testkit.PostgresURL(t))
	db := testkit.Open(t, sqldb.Options{URL: proxied, MaxConns: 4}, things)
	for name, cut := range map[string]func(ctx context.Context, tx *sqldb.Tx) error{
		"by the network": func(context.Context, *sqldb.Tx) error { p.drop(); return nil },
		"by the operator": func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return err
		},
	} {
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if err := insert(name)(ctx, tx); err != nil {
				return err
			}
			return errors.Join(cut(ctx, tx), insert(name+" 2")(ctx, tx))
		})
		wantErr(t, err, sqldb.ErrUnavailable)
		if errors.Is(err, sqldb.ErrUncertain) {
			t.Errorf("%s: nothing was committed, so nothing is uncertain", name)
		}
	}
	wantIDs(t, db)
}

// After a restart of the server every connection of the pool is dead; no caller may notice.
func TestConnectionsThatDiedUnnoticed(t *testing.T) {
	p, proxied := newProxy(t, testkit.PostgresURL(t))
	db := testkit.Open(t, sqldb.Options{URL: proxied, MaxConns: 4}, things)
	var wg sync.WaitGroup
	var together sync.WaitGroup
	together.Add(4)
	for range 4 {
		wg.Go(func() {
			err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
				rows, err := q.QueryContext(ctx, `SELECT id FROM thing`)
				together.Done()
				together.Wait() // each holds a connection of its own
				if err != nil {
					return err
				}
				return rows.Close()
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p.drop()
	if err := db.Write(t.Context(), insert("a")); err != nil {
		t.Error(err)
	}
	wantIDs(t, db, "a")
}

func TestAServerThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = sqldb.Open(t.Context(), sqldb.Options{URL: "postgres://u:hunter2@" + addr + "/db?sslmode=disable", Log: testkit.Logger(t)})
	wantErr(t, err, sqldb.ErrUnavailable)
	if err != nil && (!strings.Contains(err.Error(), addr) || strings.Contains(err.Error(), "hunter2")) {
		t.Errorf("the error must name the address and not the password: %v", err)
	}
	for _, bad := range []string{"mysql://u:hunter2@h/db", "postgres://u:hunter2@h:port/db"} {
		_, err := sqldb.Open(t.Context(), sqldb.Options{URL: bad, Log: testkit.Logger(t)})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestAStandbyIsUnavailable(t *testing.T) {
	databaseURL := testkit.PostgresURL(t)
	db := testkit.Open(t, sqldb.Options{URL: databaseURL}, things)
	readOnly := testkit.Open(t, sqldb.Options{URL: databaseURL + "&default_transaction_read_only=on"})
	err := readOnly.Write(t.Context(), insert("a"))
	wantErr(t, err, sqldb.ErrUnavailable)
	if errors.Is(err, sqldb.ErrUncertain) {
		t.Error("a refused statement is no uncertain outcome")
	}
	wantIDs(t, db)
}

// A migration by another node changes what a prepared statement returns.
func TestAPreparedStatementWhoseTableChanged(t *testing.T) {
	db := testkit.Open(t, sqldb.Options{URL: testkit.PostgresURL(t), MaxConns: 1}, things)
	columns := func() (n int) {
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			rows, err := tx.QueryContext(ctx, `SELECT * FROM thing WHERE id = $1`, "a")
			if err != nil {
				return err
			}
			names, err := rows.Columns()
			n = len(names)
			return errors.Join(err, rows.Close(), rows.Err())
		})
		if err != nil {
			t.Error(err)
		}
		return n
	}
	before := columns()
	if _, err := db.Writer().ExecContext(t.Context(), `ALTER TABLE thing ADD COLUMN more BIGINT`); err != nil {
		t.Fatal(err)
	}
	if after := columns(); after != before+1 {
		t.Errorf("%d columns, then %d", before, after)
	}
}

func TestADatabaseOfAnotherEncoding(t *testing.T) {
	server := testkit.PostgresURL(t)
	admin := testkit.Open(t, sqldb.Options{URL: server, MaxConns: 1})
	name := "landline_test_ascii_" + time.Now().Format("150405000000")
	if _, err := admin.Writer().ExecContext(t.Context(), `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Writer().ExecContext(context.WithoutCancel(t.Context()), `DROP DATABASE `+name); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	_, err = sqldb.Open(t.Context(), sqldb.Options{URL: u.String(), Log: testkit.Logger(t)})
	if err == nil || !strings.Contains(err.Error(), "SQL_ASCII") || !strings.Contains(err.Error(), "UTF8") {
		t.Errorf("got %v", err)
	}
}
