package command

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"landline/internal/app"
)

func database(version string) *cobra.Command {
	group := &cobra.Command{Use: "db", Short: "Migrate, back up, verify, restore or move the database", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	for _, make := range []func(string, *configFlags) *cobra.Command{migrateDatabase, backupDatabase, verifyDatabase, restoreDatabase, copyDatabase} {
		var files configFlags
		cmd := make(version, &files)
		files.add(cmd)
		group.AddCommand(cmd)
	}
	return group
}

func migrateDatabase(version string, files *configFlags) *cobra.Command {
	return &cobra.Command{Use: "migrate", Short: "Bring the database's schema up to date; serve does it too", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pending, err := app.MigrateDatabase(cmd.Context(), files.options(cmd, version))
			if err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "the database is up to date; %d migrations were applied\n", pending)
		}}
}

func backupDatabase(version string, files *configFlags) *cobra.Command {
	return &cobra.Command{Use: "backup FILE", Short: "Copy the embedded database to a new file while Landline runs", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := app.BackupDatabase(cmd.Context(), files.options(cmd, version), args[0]); err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "wrote %s\n", args[0])
		}}
}

func verifyDatabase(version string, files *configFlags) *cobra.Command {
	return &cobra.Command{Use: "verify [FILE]", Short: "Say whether the database, or a backup of it, is sound",
		Long: "Reads all of the configured database, or of the backup FILE, and says whether its pages and\n" +
			"foreign keys are sound, whether this binary knows its migrations and whether the audit log is as\n" +
			"it was written. Nothing is changed; it may run beside a running Landline. Exit code 65 means damage.",
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			what, file := "the database", ""
			if len(args) == 1 {
				what, file = args[0], args[0]
			}
			v, err := app.VerifyDatabase(cmd.Context(), files.options(cmd, version), file)
			if err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "%s is sound; %d audit entries verify; %d migrations are pending\n", what, v.Entries, v.Pending)
		}}
}

func restoreDatabase(version string, files *configFlags) *cobra.Command {
	r := app.RestoreOptions{}
	cmd := &cobra.Command{Use: "restore FILE", Short: "Put a backup in the place of the embedded database",
		Long: "Checks the backup, brings its schema up to date, ends again the sessions that ended after it was\n" +
			"made, opens the window in which refresh tokens newer than the backup are believed, and puts it in\n" +
			"place. The database that was there is kept in the data directory under replaced. Landline must be\n" +
			"stopped. What ended after the backup is read from the database that is replaced; when that cannot\n" +
			"be read, the window stays shut unless --open-window-anyway says otherwise.",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.File = args[0]
			if r.Window < 0 || r.Window > maxRestoreWindow {
				return app.Usage(fmt.Errorf("--window %s: give 0 to %s", r.Window, maxRestoreWindow))
			}
			out, err := app.RestoreDatabase(cmd.Context(), files.options(cmd, version), r)
			if err != nil {
				return err
			}
			return sayRestored(cmd.OutOrStdout(), r, out)
		}}
	cmd.Flags().DurationVar(&r.Window, "window", 7*24*time.Hour, "for what `time` refresh tokens newer than the backup are believed, up to 336h; 0 is not at all")
	cmd.Flags().BoolVar(&r.Unchecked, "open-window-anyway", false, "open the window also when it cannot be read what ended after the backup")
	cmd.Flags().StringVar(&r.Reason, "reason", "a backup was restored", "`why`, for the audit record")
	return cmd
}

// maxRestoreWindow is that of POST /admin/v1/identity/restore-window.
const maxRestoreWindow = 14 * 24 * time.Hour

func sayRestored(w io.Writer, r app.RestoreOptions, out app.RestoredDatabase) error {
	lines := []string{"restored " + r.File}
	if out.Replaced != "" {
		lines = append(lines, "the database that was there is in "+out.Replaced)
	}
	lines = append(lines, fmt.Sprintf("%d sessions and users that had ended after the backup are ended again", out.Carried.Ended))
	if out.Unread != nil {
		lines = append(lines, fmt.Sprintf("not all of them could be read (%v): sessions that ended after the backup was made may be alive again; end them with POST /admin/v1/sessions/{id}/revoke", out.Unread))
	}
	if until := out.Carried.Until; until.IsZero() {
		lines = append(lines, "the window for refresh tokens that are newer than the backup is shut: apps that hold one re-attach or sign in again; POST /admin/v1/identity/restore-window opens it")
	} else {
		lines = append(lines, "refresh tokens that are newer than the backup are believed until "+until.Format(time.RFC3339))
	}
	return say(w, "%s\n", strings.Join(lines, "\n"))
}

func copyDatabase(version string, files *configFlags) *cobra.Command {
	var to string
	cmd := &cobra.Command{Use: "copy --to URL", Short: "Move the embedded database to PostgreSQL",
		Long: "Copies all of the embedded database to an empty PostgreSQL database, in one transaction, and compares\n" +
			"every row. Landline must be stopped. The embedded database stays as it is. When it fails nothing is\n" +
			"left behind but empty tables, and it can be repeated. The URL may also be in $" + copyVariable + ", where\n" +
			"other users of the machine do not see its password.",
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to = cmp.Or(to, os.Getenv(copyVariable))
			if to == "" {
				return app.Usage(fmt.Errorf("say where to with --to postgres://… or in %s", copyVariable))
			}
			out, err := app.CopyDatabase(cmd.Context(), files.options(cmd, version), to)
			if err != nil {
				return err
			}
			return say(cmd.OutOrStdout(), "copied %d rows of %d tables; every row was compared\n"+
				"Now set database.url, set secrets.master_key to the content of %s, and start. The embedded database was not changed.\n",
				out.Rows, out.Tables, out.MasterKey)
		}}
	cmd.Flags().StringVar(&to, "to", "", "`URL` of an empty PostgreSQL database, postgres://…")
	return cmd
}

const copyVariable = "LANDLINE_COPY_TO"

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
