package app

import (
	"landline/internal/module"
	"landline/internal/webhook/webhookadmin"
)

// mountWebhooks puts the hub's operators' API and start where modules have theirs.
func (a *App) mountWebhooks() {
	k := a.kernel
	api := webhookadmin.API{Hub: k.webhooks, DB: k.db, Audit: k.audit}
	a.modules = append(a.modules, &module.Module{Admin: api.Admin, Start: k.webhooks.Start})
}
