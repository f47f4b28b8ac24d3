package landline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"landline/internal/app"
)

// Options say where the configuration is. The zero value reads landline.yaml
// in the working directory.
type Options struct {
	ConfigPath  string // "" = landline.yaml
	Config      []byte // read instead of ConfigPath when not nil; such a configuration cannot be reloaded
	Environment string // whose overlay is read on top: production for landline.production.yaml; "" = the variable LANDLINE_ENV

	Public, Admin, DataDir string // override listen.public, listen.admin and data_dir when not empty

	Lookup  func(name string) (string, bool) // variables of ${NAME}; nil = the environment of the process
	Stdout  io.Writer                        // gets the line "ready public=… admin=…"; nil = os.Stdout
	Stderr  io.Writer                        // gets the log; nil = os.Stderr
	Version string                           // of the program, for logs and status
}

func (o Options) app() app.Options {
	a := app.Options{
		ConfigPath: o.ConfigPath, ConfigData: o.Config, Environment: o.Environment, Env: app.SystemEnv(),
		Public: o.Public, Admin: o.Admin, Data: o.DataDir, Stdout: o.Stdout, Stderr: o.Stderr, Version: o.Version,
	}
	if a.ConfigPath == "" {
		a.ConfigPath = "landline.yaml"
	}
	if o.Lookup != nil {
		a.Env.Lookup = o.Lookup
	}
	if a.Stdout == nil {
		a.Stdout = os.Stdout
	}
	if a.Stderr == nil {
		a.Stderr = os.Stderr
	}
	return a
}

// Server is a Landline with features of the program.
type Server struct{ app *app.App }

// New reads the configuration, opens and migrates the database, and binds both
// listeners. Nothing is served before Run. The error lists every fault of the
// configuration and of the features at once.
func New(o Options, features ...Feature) (*Server, error) {
	program := make([]app.ProgramFeature, len(features))
	for i, f := range features {
		program[i] = f.program()
	}
	extra, err := app.Program(program)
	if err != nil {
		return nil, fmt.Errorf("landline: %w", err)
	}
	opts := o.app()
	opts.Extra = extra
	a, err := app.New(context.Background(), opts)
	if err != nil {
		return nil, fmt.Errorf("landline: %w", err)
	}
	return &Server{a}, nil
}

// Run serves until ctx ends, then drains: readyz turns 503, requests and jobs
// in flight get shutdown.grace. It returns nil after a clean drain.
func (s *Server) Run(ctx context.Context) error { return s.app.Run(ctx) }

// Reload reads the configuration again, as SIGHUP makes the command do. With
// any fault nothing changes.
func (s *Server) Reload(ctx context.Context) error {
	_, err := s.app.Reload(ctx)
	return err
}

// Close gives up a Server that was never Run.
func (s *Server) Close() error { return s.app.Close(context.Background()) }

// PublicAddr is where the public listener is bound.
func (s *Server) PublicAddr() net.Addr { return s.app.PublicAddr() }

// AdminAddr is where the admin listener is bound.
func (s *Server) AdminAddr() net.Addr { return s.app.AdminAddr() }

// Database is the database that Landline itself uses.
func (s *Server) Database() *Database { return &Database{s.app.House()} }

// ExitCode is what the process should end with after an error of New or Run:
// 0 for nil, 65 for a damaged database, 69 for what may pass, 75 when something was cut off, 78 for a wrong
// configuration, 70 for everything else.
func ExitCode(err error) int { return app.ExitCode(err) }

var errOutside = errors.New("landline: the context is not that of a handler or job of this program")
