// Command service is the landline that the chaos programs torment: the same
// server as cmd/landline, with one feature of its own that writes a row and a
// job in one transaction, with a clock that a file can move (CHAOS_CLOCK), and
// with names that a server of the test's knows (CHAOS_DNS).
//
// With the build tag chaos_next it is the next version: one more migration, and
// orders that use the new column.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"landline"
	"landline/internal/clock"
)

func main() {
	var o landline.Options
	flags := flag.NewFlagSet("service", flag.ExitOnError)
	flags.StringVar(&o.ConfigPath, "config", "landline.yaml", "configuration `file`")
	flags.StringVar(&o.Public, "public", "", "`address` of the public listener")
	flags.StringVar(&o.Admin, "admin", "", "`address` of the admin listener")
	flags.StringVar(&o.DataDir, "data", "", "data `directory`")
	if err := flags.Parse(os.Args[min(2, len(os.Args)):]); err != nil { // after "serve"
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	o.Version = version
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := moveClock(ctx, os.Getenv("CHAOS_CLOCK")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	askNames(os.Getenv("CHAOS_DNS"))
	err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(landline.ExitCode(err))
}

func run(ctx context.Context, o landline.Options) error {
	srv, err := landline.New(o, orders(os.Getenv("CHAOS_UPSTREAM")))
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}

// skewed is the machine's clock moved by an offset.
type skewed struct{ offset atomic.Int64 }

func (s *skewed) Now() time.Time { return time.Now().UTC().Add(time.Duration(s.offset.Load())) }

// moveClock makes Landline's clock follow the offset that file holds, such as
// 1h or -1h. It looks again every few milliseconds until ctx ends.
func moveClock(ctx context.Context, file string) error {
	if file == "" {
		return nil
	}
	s := &skewed{}
	read := func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		s.offset.Store(int64(d))
		return nil
	}
	if err := read(); err != nil {
		return err
	}
	clock.System = s
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := read(); err != nil {
				fmt.Fprintln(os.Stderr, "clock:", err)
			}
		}
	}()
	return nil
}

// askNames has all names looked up at a server of the test's.
func askNames(server string) {
	if server == "" {
		return
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server)
	}}
}

// orders keeps what it is told; each order has a job that tells the ledger of it.
func orders(ledger string) landline.Feature {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the directory is embedded
	}
	return landline.Feature{
		Name: "orders", Owner: "chaos", Auth: landline.Anonymous, Timeout: 5 * time.Second,
		Idempotency: &landline.Idempotency{Required: true},
		Migrations:  migrations,
		Routes: []landline.Route{
			landline.Write("PUT /v1/orders/{id}", placeOrder),
			landline.Read("GET /v1/orders/{id}", readOrder),
		},
		Jobs: []landline.Worker{landline.Work(10*time.Second, func(ctx context.Context, job landline.Job[tellLedger]) error {
			return tell(ctx, ledger, job.Args.Order)
		})},
	}
}

type tellLedger struct {
	Order string `json:"order"`
}

func (tellLedger) Kind() string { return "orders.tell" }

func placeOrder(ctx context.Context, tx *landline.Tx, r *landline.Request) (*landline.Response, error) {
	id := r.PathValue("id")
	if _, err := tx.ExecContext(ctx, insertOrder, id, r.Principal().UserID); err != nil {
		return nil, err
	}
	if _, err := landline.Enqueue(ctx, tx, tellLedger{id}); err != nil {
		return nil, err
	}
	return landline.JSON(http.StatusCreated, map[string]string{"id": id})
}

func readOrder(ctx context.Context, db landline.Querier, r *landline.Request) (*landline.Response, error) {
	var user string
	err := db.QueryRowContext(ctx, `SELECT user_id FROM orders_order WHERE id = $1`, r.PathValue("id")).Scan(&user)
	if err != nil {
		return nil, err
	}
	return landline.JSON(http.StatusOK, map[string]string{"id": r.PathValue("id"), "user_id": user})
}

var client = &http.Client{Timeout: 5 * time.Second}

func tell(ctx context.Context, ledger, order string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, ledger+"/job/"+order, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusNoContent {
		err = errors.Join(err, fmt.Errorf("the ledger answered %s", res.Status))
	}
	return errors.Join(err, res.Body.Close())
}
