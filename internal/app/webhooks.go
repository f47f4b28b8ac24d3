package app

import (
	"context"

	"landline/internal/module"
	"landline/internal/sqldb"
	"landline/internal/webhook"
	"landline/internal/webhook/webhookadmin"
)

// mountWebhooks puts the hub's operators' API and start where modules have theirs.
func (a *App) mountWebhooks() {
	k := a.kernel
	api := webhookadmin.API{Hub: k.webhooks, DB: k.db, Audit: k.audit}
	k.people.Register(module.Participant{
		Name: "webhook_events",
		Export: func(ctx context.Context, user string, emit func(any) error) error {
			return k.webhooks.ExportSubject(ctx, user, func(e webhook.Exported) error { return emit(e) })
		},
		Erase: func(ctx context.Context, tx *sqldb.Tx, user string, _ int) (int64, error) {
			return 0, k.webhooks.EraseSubject(ctx, tx, user)
		},
	})
	a.modules = append(a.modules, &module.Module{Admin: api.Admin, Start: k.webhooks.Start})
}
