// Command monolith is a small airline app in one process: Landline with two
// features of its own, which keep their tables in Landline's database. It is
// the example of docs/guide/library.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"landline"
)

func main() {
	var o landline.Options
	flag.StringVar(&o.ConfigPath, "config", "landline.yaml", "configuration `file`")
	flag.StringVar(&o.Public, "public", "", "`address` of the public listener")
	flag.StringVar(&o.Admin, "admin", "", "`address` of the admin listener")
	flag.StringVar(&o.DataDir, "data", "", "data `directory`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(landline.ExitCode(err))
}

func run(ctx context.Context, o landline.Options) error {
	srv, err := landline.New(o, airports(), trips())
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}
