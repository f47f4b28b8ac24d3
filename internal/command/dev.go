package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"landline/examples/flights"
	"landline/internal/app"
	"landline/internal/egress"
)

func dev(version string) *cobra.Command {
	var files configFlags
	var public, admin, upstream string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run Landline with the demo behind it and print what to try",
		Long:  "Run Landline on the embedded database with the demo's upstream behind it, or with a\nconfiguration of your own, with logs for people.",
		Args:  none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := files.options(cmd, version)
			o.Public, o.Admin = public, admin
			o.PrettyLog = true
			if cmd.Flags().Changed("config") {
				return runOwn(cmd.Context(), o)
			}
			return runDemo(cmd.Context(), o, upstream)
		},
	}
	files.add(cmd)
	cmd.Flags().StringVar(&public, "public", "", "`address` of the public listener, instead of 127.0.0.1:8080")
	cmd.Flags().StringVar(&admin, "admin", "", "`address` of the admin listener, instead of 127.0.0.1:8081")
	cmd.Flags().StringVar(&upstream, "upstream", "127.0.0.1:9000", "`address` of the demo's upstream")
	return cmd
}

func runOwn(ctx context.Context, o app.Options) error {
	a, err := app.New(ctx, o)
	if err != nil {
		return err
	}
	return runReloading(ctx, a)
}

// runDemo starts the demo's upstream, and Landline in front of it.
func runDemo(ctx context.Context, o app.Options, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return app.Unavailable(fmt.Errorf("the demo's upstream: %w; name another address with --upstream", err))
	}
	lookup := o.Env.Lookup
	o.Env.Lookup = func(name string) (string, bool) {
		if name == "FLIGHTS_URL" {
			return "http://" + listener.Addr().String(), true
		}
		return lookup(name)
	}
	o.ConfigData = flights.Config
	a, err := app.New(ctx, o)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	base := "http://" + a.PublicAddr().String()
	upstream := &http.Server{
		Handler: flights.New(&flights.Verifier{
			JWKS: base + "/.well-known/jwks.json", Issuer: base, Audience: "flights",
			Client: egress.New(egress.Options{Timeout: 2 * time.Second}),
		}, nil),
		ReadHeaderTimeout: 5 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- upstream.Serve(listener) }()
	token, err := a.DevelopmentOperator(ctx)
	if err != nil {
		return errors.Join(err, upstream.Close())
	}
	if err := whatToTry(o.Stdout, base, "http://"+a.AdminAddr().String(), listener.Addr().String(), token); err != nil {
		return errors.Join(err, upstream.Close())
	}
	err = runReloading(ctx, a)
	err = errors.Join(err, upstream.Close())
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("the demo's upstream: %w", served))
	}
	return err
}

// whatToTry prints commands that can be pasted into another terminal.
func whatToTry(w io.Writer, base, admin, upstream, token string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "demo"
	}
	return say(w, `Landline is starting with the demo: a small airline app.

Paste this into another terminal:

  # 1. Look at an airport: a public route, straight through to the upstream.
  curl -s %[1]s/v1/airports/WAW

  # 2. Install the app: an installation, an anonymous user and a session.
  curl -s -X POST %[1]s/v1/installations -H 'Idempotency-Key: first-launch-of-%[5]s' \
    -H 'Content-Type: application/json' -d '{}' | tee install.json
  TOKEN=$(sed 's/.*"access_token":"\([^"]*\)".*/\1/' install.json)

  # 3. Call with the installation's identity.
  curl -s -H "Authorization: Bearer $TOKEN" %[1]s/v1/airports/WAW/departures

  # 4. The same POST twice with one key: one trip, the second answer is a replay.
  for i in 1 2; do curl -si -X POST %[1]s/v1/trips -H "Authorization: Bearer $TOKEN" \
    -H 'Idempotency-Key: trip-42' -H 'Content-Type: application/json' -d '{"flight":"WA100","seats":2}'; done
  curl -s http://%[3]s/ledger

  # 5. Break the upstream and watch the stock answer, then the breaker.
  curl -s -X PUT http://%[3]s/internal/weather -d '{"storm":true}'
  for i in 1 2 3 4 5 6; do curl -si -H "Authorization: Bearer $TOKEN" %[1]s/v1/flights/WA100/status | grep -iE '^HTTP|degraded|status'; done
  curl -s -X PUT http://%[3]s/internal/weather -d '{"storm":false}'

  # 6. What the operator sees.
  curl -s %[2]s/metrics | grep landline_gateway_
  curl -s -H 'Authorization: Bearer %[4]s' %[2]s/admin/v1/features

Put your own service behind it: landline init, then name the service in three lines.

`, base, admin, upstream, token, host)
}
