package command

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"landline/internal/admin"
	"landline/internal/app"
)

func configDiff() *cobra.Command {
	var files, against configFlags
	var flags remoteFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "diff", Short: "Say what a reload would change",
		Long: "Say what a reload would change, key by key, and which changes need a restart.\n" +
			"Without --against a running Landline is asked, which compares its own files with\n" +
			"what it runs on. With --against FILE two configurations are compared here: FILE is\n" +
			"the old one, --config the new one. Secrets stay hidden. The exit code is 0 when\n" +
			"nothing differs and 1 when something does.",
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d admin.ConfigDiff
			if against.path != "" {
				var err error
				if d, err = app.DiffConfig(against.options(cmd, ""), files.options(cmd, "")); err != nil {
					return err
				}
			} else {
				c, err := flags.client()
				if err != nil {
					return err
				}
				if d, err = c.DiffConfig(cmd.Context()); err != nil {
					return remote(err)
				}
			}
			return showDiff(cmd.OutOrStdout(), d, asJSON)
		},
	}
	files.add(cmd)
	flags.add(cmd, false)
	cmd.Flags().StringVar(&against.path, "against", "", "compare with this `file` instead of a running Landline")
	cmd.Flags().StringVar(&against.environment, "against-env", "", "`environment` of the file of --against (default $LANDLINE_ENV)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showDiff(w io.Writer, d admin.ConfigDiff, asJSON bool) error {
	write := writeDiff
	if asJSON {
		write = func(w io.Writer, d admin.ConfigDiff) error {
			out := json.NewEncoder(w)
			out.SetEscapeHTML(false)
			out.SetIndent("", "  ")
			return out.Encode(d)
		}
	}
	if err := write(w, d); err != nil {
		return err
	}
	if len(d.Changes) > 0 {
		return app.ErrDiffers
	}
	return nil
}

// writeDiff prints a line for each change: + for a key that comes, - for one
// that goes, ~ for one whose value changes.
func writeDiff(w io.Writer, d admin.ConfigDiff) error {
	if len(d.Changes) == 0 {
		return say(w, "nothing has changed\n")
	}
	for _, c := range d.Changes {
		text := "~ " + c.Path + ": " + c.Old + " → " + c.New
		switch {
		case c.Old == "":
			text = "+ " + c.Path + ": " + c.New
		case c.New == "":
			text = "- " + c.Path + ": " + c.Old
		}
		if c.Restart {
			text += "  (needs a restart)"
		}
		if err := say(w, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}
