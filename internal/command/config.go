package command

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"landline/internal/app"
)

func initialize() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented landline.yaml",
		Args:  none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "-" {
				return app.WriteDefault(cmd.OutOrStdout())
			}
			file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) // #nosec G302 G304 -- the user names the file, and it holds no secrets
			if errors.Is(err, os.ErrExist) {
				return app.Usage(fmt.Errorf("%s is already there: remove it, or name another file with --config", path))
			}
			if err != nil {
				return err
			}
			if err := errors.Join(app.WriteDefault(file), file.Sync(), file.Close()); err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "wrote %s; name your service under upstreams, then: landline serve --config %s\n", path, path)
		},
	}
	cmd.Flags().StringVar(&path, "config", "landline.yaml", "`file` to write; - is standard output")
	return cmd
}

func configuration() *cobra.Command {
	group := &cobra.Command{Use: "config", Short: "Check, print or compare the configuration", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var files configFlags
	check := &cobra.Command{Use: "check", Short: "List every fault of the configuration, with line and column", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			read, err := app.CheckConfig(cmd.Context(), files.options(cmd, ""))
			switch {
			case err != nil:
				return err
			case len(read) > 1:
				return say(cmd.OutOrStdout(), "%s is valid, with %d more files\n", files.path, len(read)-1)
			}
			return say(cmd.OutOrStdout(), "%s is valid\n", files.path)
		}}
	show := &cobra.Command{Use: "print", Short: "Print the effective configuration, defaults filled in and secrets hidden", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.PrintConfig(cmd.OutOrStdout(), files.options(cmd, ""))
		}}
	for _, cmd := range []*cobra.Command{check, show} {
		files.add(cmd)
		group.AddCommand(cmd)
	}
	group.AddCommand(configDiff())
	return group
}

// documents writes the generated pages; `make docs` calls it.
func documents() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "documents", Hidden: true, Short: "Write the generated reference pages and API documents", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.WriteDocuments(cmd.Context(), dir, func(w io.Writer) error { return commandPage(w, cmd.Root()) })
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "root `directory` of the repository")
	return cmd
}
