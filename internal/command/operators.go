package command

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"landline/internal/admin/client"
	"landline/internal/app"
)

// operators is the group of operator with what goes through the admin API.
func operators() *cobra.Command {
	group := operator()
	group.AddCommand(operatorList(), operatorRemove())
	return group
}

func operatorList() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{Use: "list", Short: "List the operators, removed ones too; for owners", Args: none,
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, _ []string) error {
			all, err := c.Operators(ctx)
			if err != nil {
				return remote(err)
			}
			var rows [][]any
			for _, o := range all {
				used, removed := "never", ""
				if o.LastUsedAt != nil {
					used = instant(*o.LastUsedAt)
				}
				if o.DisabledAt != nil {
					removed = instant(*o.DisabledAt)
				}
				rows = append(rows, []any{o.ID, o.Name, o.Role, instant(o.CreatedAt), used, removed})
			}
			return table(w, "ID\tNAME\tROLE\tCREATED\tLAST USED\tREMOVED", rows)
		})}
	flags.add(cmd, false)
	return cmd
}

func operatorRemove() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{Use: "remove NAME|ID", Short: "Shut an operator out at once; for owners", Args: exactly(1),
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, args []string) error {
			err := c.RemoveOperator(ctx, args[0], flags.reason)
			if errors.Is(err, client.ErrNoOperator) {
				return app.Usage(err)
			}
			if err != nil {
				return remote(err)
			}
			return say(w, "%s is removed\n", args[0])
		})}
	flags.add(cmd, true)
	return cmd
}

func keys() *cobra.Command {
	group := &cobra.Command{Use: "keys", Short: "List or rotate the keys; for owners", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	group.AddCommand(keyList(), keyRotate())
	return group
}

func keyList() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{Use: "list", Short: "List the keys by purpose, without their material", Args: none,
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, _ []string) error {
			all, err := c.Keys(ctx)
			if err != nil {
				return remote(err)
			}
			var rows [][]any
			for _, k := range all {
				rows = append(rows, []any{k.Purpose, k.State, k.ID, k.Alg, k.Version, instant(k.CreatedAt)})
			}
			return table(w, "PURPOSE\tSTATE\tID\tALG\tVERSION\tCREATED", rows)
		})}
	flags.add(cmd, false)
	return cmd
}

func keyRotate() *cobra.Command {
	var flags remoteFlags
	cmd := &cobra.Command{
		Use: "rotate PURPOSE", Short: "Make a purpose's next key the current one",
		Long: "Make a purpose's next key the current one. What the previous key signed stays\nvalid until it expires: nobody is signed out. `landline keys list` names the purposes.",
		Args: exactly(1),
		RunE: withClient(&flags, func(ctx context.Context, c *client.Client, w io.Writer, args []string) error {
			r, err := c.RotateKeys(ctx, args[0], flags.reason)
			if err != nil {
				return remote(err)
			}
			return say(w, "current: %s, next: %s, previous: %s\n", r.Current, r.Next, r.Previous)
		}),
	}
	flags.add(cmd, true)
	return cmd
}
