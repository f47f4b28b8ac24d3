package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"landline/internal/admin/client"
	"landline/internal/app"
	"landline/internal/id"
)

func webhooks() *cobra.Command {
	group := &cobra.Command{Use: "webhooks", Short: "Look at, replay or try out events for the team's services", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	group.AddCommand(webhookEndpoints(), webhookList(), webhookShow(), webhookReplay(), webhookPing(),
		webhookSwitch("disable", "Stop sending to an endpoint; events wait for it", false),
		webhookSwitch("enable", "Send to an endpoint again, what waited first", true))
	return group
}

// withClient runs fn with a client of the admin API.
func withClient(flags *remoteFlags, fn func(ctx context.Context, c *client.Client, w io.Writer, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := flags.client()
		if err != nil {
			return err
		}
		return fn(cmd.Context(), c, cmd.OutOrStdout(), args)
	}
}

// table prints rows under a head.
func table(w io.Writer, head string, rows [][]any) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if err := say(t, "%s\n", head); err != nil {
		return err
	}
	for _, row := range rows {
		if err := say(t, strings.TrimSuffix(strings.Repeat("%v\t", len(row)), "\t")+"\n", row...); err != nil {
			return err
		}
	}
	return t.Flush()
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func webhookEndpoints() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{Use: "endpoints", Short: "List the endpoints and how they are doing", Args: none,
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, _ []string) error {
			all, err := c.WebhookEndpoints(ctx)
			if err != nil {
				return remote(err)
			}
			var rows [][]any
			for _, e := range all {
				events := strings.Join(e.Events, ",")
				if events == "" {
					events = "*"
				}
				rows = append(rows, []any{e.Name, e.State, e.Pending, e.Dead, events, e.URL, e.Reason})
			}
			return table(w, "NAME\tSTATE\tPENDING\tDEAD\tEVENTS\tURL\tREASON", rows)
		})}
	flags.add(cmd, false)
	return cmd
}

func webhookList() *cobra.Command {
	var flags remoteFlags
	var f client.WebhookFilter
	cmd := &cobra.Command{Use: "list", Short: "List deliveries, newest first", Args: none,
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, _ []string) error {
			all, next, err := c.WebhookDeliveries(ctx, f)
			if err != nil {
				return remote(err)
			}
			var rows [][]any
			for _, d := range all {
				rows = append(rows, []any{d.ID, d.Event, d.Type, d.Endpoint, d.State, d.Attempts, instant(d.CreatedAt), d.Error})
			}
			if err := table(w, "DELIVERY\tEVENT\tTYPE\tENDPOINT\tSTATE\tATTEMPTS\tCREATED\tERROR", rows); err != nil || next == "" {
				return err
			}
			return say(w, "more: --cursor %s\n", next)
		})}
	flags.add(cmd, false)
	cmd.Flags().StringVar(&f.Endpoint, "endpoint", "", "only to this `endpoint`")
	cmd.Flags().StringVar(&f.State, "state", "", "only in this `state`: pending, sending, delivered or dead")
	cmd.Flags().StringVar(&f.Type, "type", "", "only of this `type` of event")
	cmd.Flags().StringVar(&f.Subject, "subject", "", "only about this `user`; the look-up is audited")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "at most this many, up to 200")
	cmd.Flags().StringVar(&f.Cursor, "cursor", "", "continue where the last list ended")
	return cmd
}

func webhookShow() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{Use: "show DELIVERY", Short: "Show one delivery with its attempts", Args: exactly(1),
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, args []string) error {
			d, err := c.WebhookDelivery(ctx, args[0])
			if err != nil {
				return remote(err)
			}
			if err := say(w, "%s of %s to %s is %s\n", d.Event, d.Type, d.Endpoint, d.State); err != nil {
				return err
			}
			var rows [][]any
			for _, a := range d.Tries {
				rows = append(rows, []any{a.Number, instant(a.At), fmt.Sprintf("%d ms", a.Duration), a.Status, a.Error, a.Excerpt})
			}
			return table(w, "ATTEMPT\tAT\tTOOK\tSTATUS\tERROR\tANSWER", rows)
		})}
	flags.add(cmd, false)
	return cmd
}

func webhookReplay() *cobra.Command {
	var flags remoteFlags
	var endpoint, since string
	var failed bool
	cmd := &cobra.Command{
		Use: "replay [EVENT]", Short: "Deliver events again, under their old ids",
		Long: "Deliver events again, under their old ids: one, to --endpoint or to all that\nsubscribe to it; or, without EVENT, all that --endpoint should have had --since a\ntime, or all that were given up with --failed.",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return app.Usage(errors.New("name one event"))
			case len(args) == 1 && (failed || since != ""):
				return app.Usage(errors.New("--since and --failed select events by themselves: leave EVENT out"))
			case len(args) == 1 && id.Check(id.Event, args[0]) != nil:
				return app.Usage(fmt.Errorf("%q is not the id of an event", args[0]))
			case len(args) == 0 && (endpoint == "" || !failed && since == ""):
				return app.Usage(errors.New("name an event, or --endpoint with --since or --failed"))
			}
			return nil
		},
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, args []string) error {
			if len(args) == 1 {
				done, err := c.ReplayWebhookEvent(ctx, args[0], endpoint, flags.reason)
				if err != nil {
					return remote(err)
				}
				return say(w, "deliveries: %d\n", done.Deliveries)
			}
			from, err := sinceOf(since)
			if err != nil {
				return err
			}
			job, err := c.ReplayWebhooks(ctx, endpoint, from, failed, flags.reason)
			if err != nil {
				return remote(err)
			}
			return say(w, "job %d replays them\n", job.Job)
		}),
	}
	flags.add(cmd, true)
	cmd.Flags().StringVar(&endpoint, "endpoint", "", "to this `endpoint`")
	cmd.Flags().StringVar(&since, "since", "", "all since this `time`: RFC 3339, or a duration before now such as 36h")
	cmd.Flags().BoolVar(&failed, "failed", false, "all that were given up")
	return cmd
}

// sinceOf reads a time, or how long ago it was.
func sinceOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, app.Usage(fmt.Errorf("--since %s: write for example 2026-11-24T02:00:00Z or 36h", text))
	}
	return time.Now().Add(-d), nil
}

func webhookPing() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{Use: "ping ENDPOINT", Short: "Send a test event to an endpoint and say what it answered", Args: exactly(1),
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, args []string) error {
			p, err := c.PingWebhook(ctx, args[0], flags.reason)
			if err != nil {
				return remote(err)
			}
			if p.Delivered {
				return say(w, "%s took %s: status %d in %d ms\n", args[0], p.Event, p.Attempt.Status, p.Attempt.Duration)
			}
			return app.Unavailable(fmt.Errorf("%s did not take %s after %d ms: %s", args[0], p.Event, p.Attempt.Duration, strings.TrimSpace(p.Attempt.Error+" "+p.Attempt.Excerpt)))
		})}
	flags.add(cmd, true)
	return cmd
}

func webhookSwitch(verb, short string, on bool) *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{Use: verb + " ENDPOINT", Short: short, Args: exactly(1),
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, args []string) error {
			if err := c.SwitchWebhook(ctx, args[0], on, flags.reason); err != nil {
				return remote(err)
			}
			return say(w, "%s is %sd\n", args[0], verb)
		})}
	flags.add(cmd, true)
	return cmd
}
