package command

import (
	"github.com/spf13/cobra"

	"landline/internal/app"
)

func database(version string) *cobra.Command {
	group := &cobra.Command{Use: "db", Short: "Migrate or back up the database", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var files configFlags
	migrate := &cobra.Command{Use: "migrate", Short: "Bring the database's schema up to date; serve does it too", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pending, err := app.MigrateDatabase(cmd.Context(), files.options(cmd, version))
			if err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "the database is up to date; %d migrations were applied\n", pending)
		}}
	backup := &cobra.Command{Use: "backup FILE", Short: "Copy the embedded database to a new file while Landline runs", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := app.BackupDatabase(cmd.Context(), files.options(cmd, version), args[0]); err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "wrote %s\n", args[0])
		}}
	for _, cmd := range []*cobra.Command{migrate, backup} {
		files.add(cmd)
		group.AddCommand(cmd)
	}
	return group
}

func operator() *cobra.Command {
	group := &cobra.Command{Use: "operator", Short: "Manage who may use the admin API", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var files configFlags
	var role string
	add := &cobra.Command{Use: "add NAME", Short: "Add an operator and print the token, once", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := app.AddOperator(cmd.Context(), files.options(cmd, ""), args[0], role)
			if err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "%s\n", token)
		}}
	files.add(add)
	add.Flags().StringVar(&role, "role", "viewer", "viewer, support, operator or owner")
	group.AddCommand(add)
	return group
}
