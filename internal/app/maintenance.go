package app

import (
	"landline/internal/clock"
	"landline/internal/gateway/maintenance"
	"landline/internal/module"
)

// newBoard makes the maintenance switches, which are the gateway's but live
// where modules do: in the database and the admin API, between start and stop.
func (a *App) newBoard() *maintenance.Board {
	k := a.kernel
	b := maintenance.New(maintenance.Options{
		DB: k.db, Bus: k.bus, Audit: k.audit, Clock: clock.System, Log: a.log, Registry: k.registry,
		Features: func() []string {
			var names []string
			for _, f := range a.gateway.FeatureStatus() {
				names = append(names, f.Name)
			}
			return names
		},
	})
	a.modules = append(a.modules, &module.Module{Admin: b.Admin, Start: b.Start, Stop: b.Stop})
	return b
}
