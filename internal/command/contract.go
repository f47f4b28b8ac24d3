package command

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"landline/internal/app"
)

func contracts() *cobra.Command {
	group := &cobra.Command{Use: "contract", Short: "Work with OpenAPI documents", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var files configFlags
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether an OpenAPI document compiles and which routes it covers",
		Long: "Reads an OpenAPI 3.0 or 3.1 document the way the gateway does and lists every fault with file,\n" +
			"line and column, what nobody checks, and the routes of the configuration that it describes.\n" +
			"Without a landline.yaml in the working directory and without --config it lists the operations alone.",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			withConfig := true
			if _, err := os.Stat(files.path); errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config") {
				withConfig = false
			}
			return app.CheckContract(cmd.OutOrStdout(), files.options(cmd, ""), args[0], withConfig)
		},
	}
	files.add(check)
	group.AddCommand(check)
	return group
}
