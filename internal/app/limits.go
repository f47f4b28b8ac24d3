package app

import (
	"context"

	"landline/internal/clock"
	"landline/internal/gateway/apikey"
	"landline/internal/gateway/quota"
	"landline/internal/module"
)

// newAPIKeys opens the API keys, which are the gateway's but live where modules
// do: in the database and the admin API, between start and stop.
func (a *App) newAPIKeys() (*apikey.Keys, error) {
	k := a.kernel
	keys, err := apikey.Open(context.Background(), apikey.Options{
		DB: k.db, Ring: k.ring, Bus: k.bus, Audit: k.audit, Clock: clock.System, Log: a.log, Registry: k.registry,
	})
	if err != nil {
		return nil, err
	}
	a.modules = append(a.modules, &module.Module{Admin: keys.Admin, Start: keys.Start, Stop: keys.Stop})
	return keys, nil
}

// newQuotas makes the counters of quotas; what they hold is given back at the stop.
func (a *App) newQuotas() *quota.Meter {
	k := a.kernel
	m := quota.New(quota.Options{DB: k.db, Clock: clock.System, Log: a.log, Registry: k.registry})
	a.modules = append(a.modules, &module.Module{Start: m.Start, Stop: m.Stop})
	return m
}
