// Command landline is the mobile app gateway and backend. `landline help`
// lists what it does; docs/reference/command-line.md is the same as a page.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"landline/internal/app"
	"landline/internal/command"
)

// version is set at build time: -ldflags "-X main.version=1.2.3".
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := command.Root(version).ExecuteContext(ctx)
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, "landline: "+err.Error())
	}
	os.Exit(app.ExitCode(err))
}
