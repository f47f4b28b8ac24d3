package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"landline/internal/admin"
	"landline/internal/admin/client"
	"landline/internal/app"
	"landline/internal/problem"
)

// remoteFlags are the flags of commands that call the admin API. The token is
// taken from the environment alone: arguments are visible to every process.
type remoteFlags struct {
	url    string
	reason string
}

const (
	urlVariable   = "LANDLINE_ADMIN_URL"
	tokenVariable = "LANDLINE_ADMIN_TOKEN" // #nosec G101 -- the name of a variable
)

func (f *remoteFlags) add(cmd *cobra.Command, changes bool) {
	cmd.Flags().StringVar(&f.url, "admin-url", "", "base `URL` of the admin listener (default $"+urlVariable+", else http://127.0.0.1:8081)")
	if changes {
		cmd.Flags().StringVar(&f.reason, "reason", "", "`why`, for the audit record")
	}
}

func (f *remoteFlags) client() (*client.Client, error) {
	token := os.Getenv(tokenVariable)
	if token == "" {
		return nil, app.Usage(fmt.Errorf("%s is not set: make a token with `landline operator add NAME --role operator`", tokenVariable))
	}
	c, err := client.New(cmp.Or(f.url, os.Getenv(urlVariable), "http://127.0.0.1:8081"), token)
	if err != nil {
		return nil, app.Usage(err)
	}
	return c, nil
}

// remote makes the error of a call end with the exit code that fits.
func remote(err error) error {
	var answered *client.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &answered):
		return app.Unavailable(err)
	case answered.Code == problem.ConfigInvalid:
		return app.Misconfigured(fmt.Errorf("%w\n%s", err, faultLines(answered.Errors)))
	}
	if answered.Status >= 400 && answered.Status < 500 {
		return app.Usage(err)
	}
	return err
}

func faultLines(raw json.RawMessage) string {
	var faults []struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Col     int    `json:"col"`
		Path    string `json:"path"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	}
	if json.Unmarshal(raw, &faults) != nil {
		return string(raw)
	}
	var lines []string
	for _, f := range faults {
		lines = append(lines, fmt.Sprintf("%s:%d:%d: %s: %s (%s)", f.File, f.Line, f.Col, f.Path, f.Message, f.Hint))
	}
	return strings.Join(lines, "\n")
}

func reload() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{
		Use: "reload", Short: "Have a running Landline read its configuration again", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.client()
			if err != nil {
				return err
			}
			report, err := c.Reload(cmd.Context(), flags.reason)
			if err != nil {
				return remote(err)
			}
			if len(report.Changed) == 0 {
				return say(cmd.OutOrStdout(), "nothing has changed\n")
			}
			return say(cmd.OutOrStdout(), "changed: %s\n", strings.Join(report.Changed, ", "))
		},
	}
	flags.add(cmd, true)
	return cmd
}

func status() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{
		Use: "status", Short: "Say how a running Landline is doing", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.client()
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return remote(err)
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			return out.Encode(s)
		},
	}
	flags.add(cmd, false)
	return cmd
}

func jobs() *cobra.Command {
	group := &cobra.Command{Use: "jobs", Short: "List, retry or cancel jobs of the queue", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var flags remoteFlags
	var filter client.JobFilter
	list := &cobra.Command{
		Use: "list", Short: "List jobs, newest first", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.client()
			if err != nil {
				return err
			}
			found, next, err := c.Jobs(cmd.Context(), filter)
			if err != nil {
				return remote(err)
			}
			return printJobs(cmd.OutOrStdout(), found, next)
		},
	}
	flags.add(list, false)
	list.Flags().StringVar(&filter.State, "state", "", "only this `state`: available, scheduled, running, retryable, completed, cancelled or dead")
	list.Flags().StringVar(&filter.Kind, "kind", "", "only this `kind`")
	list.Flags().StringVar(&filter.Lane, "lane", "", "only this `lane`")
	list.Flags().IntVar(&filter.Limit, "limit", 50, "at most this many, up to 200")
	list.Flags().StringVar(&filter.Cursor, "cursor", "", "continue where the last list ended")
	group.AddCommand(list,
		oneJob("retry", "Run a cancelled or dead job again", (*client.Client).RetryJob),
		oneJob("cancel", "Cancel a job that has not finished", (*client.Client).CancelJob))
	return group
}

func oneJob(name, short string, do func(*client.Client, context.Context, int64, string) (admin.Job, error)) *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{
		Use: name + " ID", Short: short, Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return app.Usage(fmt.Errorf("%q is not the number of a job", args[0]))
			}
			c, err := flags.client()
			if err != nil {
				return err
			}
			job, err := do(c, cmd.Context(), id, flags.reason)
			if err != nil {
				return remote(err)
			}
			return printJobs(cmd.OutOrStdout(), []admin.Job{job}, "")
		},
	}
	flags.add(cmd, true)
	return cmd
}

func printJobs(w io.Writer, all []admin.Job, next string) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if err := say(table, "ID\tKIND\tLANE\tSTATE\tATTEMPT\tSCHEDULED\n"); err != nil {
		return err
	}
	for _, j := range all {
		if err := say(table, "%d\t%s\t%s\t%s\t%d of %d\t%s\n", j.ID, j.Kind, j.Lane, j.State, j.Attempt, j.MaxAttempts, j.ScheduledAt.UTC().Format("2006-01-02T15:04:05Z")); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if next != "" {
		return say(w, "more: --cursor %s\n", next)
	}
	return nil
}
