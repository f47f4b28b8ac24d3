package command

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"landline/internal/app"
)

func serve(version string) *cobra.Command {
	var files configFlags
	var public, admin string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run Landline",
		Long: "Run Landline. SIGHUP reads the configuration again; a bad one changes nothing.\n" +
			"SIGTERM drains: readyz turns 503, then requests in flight end, then the process.",
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := files.options(cmd, version)
			o.Public, o.Admin = public, admin
			a, err := app.New(cmd.Context(), o)
			if err != nil {
				return err
			}
			return runReloading(cmd.Context(), a)
		},
	}
	files.add(cmd)
	cmd.Flags().StringVar(&public, "public", "", "`address` of the public listener, instead of listen.public")
	cmd.Flags().StringVar(&admin, "admin", "", "`address` of the admin listener, instead of listen.admin")
	return cmd
}

// runReloading runs a, and reloads it on SIGHUP. What Reload has to say, it logs.
func runReloading(ctx context.Context, a *app.App) error {
	a.TakeStandardLog()
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for {
		select {
		case <-hangUp:
			a.ReloadOnSignal(ctx)
		case err := <-done:
			return err
		}
	}
}
