package identity

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"landline/internal/audit"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/problem"
)

// defaultBootstrap is how many installations an address may make in an hour.
const (
	defaultBootstrap     = 30
	developmentBootstrap = 1000
)

func bootstrapLimit(d module.Deps, cfg Config) int {
	switch {
	case cfg.Limits.Bootstrap > 0:
		return cfg.Limits.Bootstrap
	case d.Development:
		return developmentBootstrap
	}
	return defaultBootstrap
}

// registrations is the limit of the feature: of all calls from one address,
// repeats and re-attachments too, so that it leaves room for what counts.
func registrations(d module.Deps, cfg Config) limit.Rate {
	n := bootstrapLimit(d, cfg)
	return limit.Rate{Limit: max(newInstallations.Limit, 4*n), Window: newInstallations.Window, Burst: max(newInstallations.Burst, 4*n)}
}

// limitPolicies are those of new installations, of re-attachments and of identities (B-18).
func limitPolicies(d module.Deps, cfg Config) (all [3]*limit.Policy, err error) {
	n := bootstrapLimit(d, cfg)
	for i, one := range []struct {
		name string
		rate limit.Rate
	}{
		{"identity/bootstrap", limit.Rate{Limit: n, Window: time.Hour, Burst: n}},
		{"identity/attach", limit.Rate{Limit: n, Window: time.Hour, Burst: n}},
		{"identity/sign-in", limit.Rate{Limit: cfg.Limits.Identity, Window: time.Hour, Burst: cfg.Limits.Identity / 2}},
	} {
		if all[i], err = d.Limits.Policy(one.name, one.rate); err != nil {
			return all, fmt.Errorf("identity: %w", err)
		}
	}
	return all, nil
}

// take is nil when the key has not used its policy up. Without the store that
// nodes share, this node decides alone: the limit never stands open.
func (s *Service) take(ctx context.Context, p *limit.Policy, key, detail string) error {
	var state [1]limit.State
	if s.limits.Take(ctx, []limit.Check{{Policy: p, Key: key, Shared: true}}, state[:]) {
		return nil
	}
	return problem.New(problem.RateLimited, detail).After(max(state[0].Wait, time.Second))
}

// callerNetwork is what is counted for the caller's address: of IPv6 the network,
// of which every customer has a whole one.
func callerNetwork(ctx context.Context) string {
	text := audit.ActorFrom(ctx).IP
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Unmap().Is4() {
		return text
	}
	if network, err := ip.Prefix(64); err == nil {
		return network.String()
	}
	return text
}

// mayCreate refuses a new installation without the work that is asked for, or of
// an address that has made too many.
func (s *Service) mayCreate(ctx context.Context, r Registration) error {
	if err := s.checkWork(r); err != nil || !r.Limited {
		return err
	}
	return s.take(ctx, s.newLimit, callerNetwork(ctx), "too many new installations come from this address; the same request is good again after the wait")
}

// mayAttach bounds how often one installation comes back from one address.
func (s *Service) mayAttach(ctx context.Context, r Registration) error {
	if !r.Limited {
		return nil
	}
	return s.take(ctx, s.attachLimit, r.InstallationID+" "+callerNetwork(ctx), "the installation re-attaches too often; the session it has is good, and so is the same request after the wait")
}

// limitIdentity bounds sign-ins of one person, whatever the installation.
func (s *Service) limitIdentity(ctx context.Context, proven Proven) error {
	if proven.Profile.Subject == "" { // a repeat that proves nothing
		return nil
	}
	lookup, err := s.lookup(proven.Profile.Issuer, proven.Profile.Subject)
	if err != nil {
		return err
	}
	return s.take(ctx, s.identityLimit, lookup, "this person signs in too often; wait")
}
