package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"landline/internal/app"
	"landline/internal/config"
)

// Root is the whole command tree.
func Root(version string) *cobra.Command {
	root := &cobra.Command{
		Use:           "landline",
		Short:         "The mobile app gateway and backend in one binary",
		Long:          "Landline stands between your apps and your services: identity for every install,\nwrites that are safe to retry, and features that fail alone.",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          none,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return app.Usage(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		serve(version), dev(version), initialize(), configuration(), database(version), operators(), keys(), webhooks(),
		jobs(), reload(), status(), contracts(), documents(),
		&cobra.Command{Use: "version", Short: "Print the version", Args: none, RunE: func(cmd *cobra.Command, _ []string) error {
			return say(cmd.OutOrStdout(), "landline %s\n", version)
		}},
	)
	return root
}

// none is cobra.NoArgs as a fault of the command line.
func none(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return app.Usage(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
	}
	return nil
}

// exactly is cobra.ExactArgs as a fault of the command line.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return app.Usage(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
		}
		return nil
	}
}

// atMost is cobra.MaximumNArgs as a fault of the command line.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.MaximumNArgs(n)(cmd, args); err != nil {
			return app.Usage(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
		}
		return nil
	}
}

// configFlags are the flags of every command that reads landline.yaml.
type configFlags struct{ path, data, environment string }

func (f *configFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "config", "landline.yaml", "configuration `file`")
	cmd.Flags().StringVar(&f.environment, "env", "", "`environment` whose overlay is read on top, production for landline.production.yaml (default $LANDLINE_ENV)")
	cmd.Flags().StringVar(&f.data, "data", "", "data `directory`, instead of data_dir")
}

func (f *configFlags) options(cmd *cobra.Command, version string) app.Options {
	return app.Options{
		ConfigPath: f.path, Environment: f.environment, Data: f.data, Env: config.SystemEnv(),
		Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(), Version: version,
	}
}

// say prints, and tells when it could not.
func say(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, args...)
	return err
}
