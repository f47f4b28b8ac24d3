package identity

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"landline/internal/config"
	"landline/internal/identity/attest"
	"landline/internal/identity/pages"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// newInstallations bounds how often one address calls, at least; how many new
// installations it makes is LimitsConfig.Bootstrap. Behind one address may be a
// company, or all customers of a mobile carrier in a town.
var newInstallations = limit.Rate{Limit: 120, Window: time.Hour, Burst: 300}

// hostedPages bounds what one address can make the hosted pages store: an
// installation per browser that begins to sign in, a row per visit of a provider.
// A sign-in takes about five requests, and an address may be that of a town.
var hostedPages = limit.Rate{Limit: 3000, Window: time.Hour, Burst: 1000}

// signIns bounds how often one installation may try credentials.
var signIns = limit.Rate{Limit: 60, Window: time.Hour, Burst: 20}

// deviceProofs bounds how often one installation may have evidence verified.
var deviceProofs = limit.Rate{Limit: 120, Window: time.Hour, Burst: 20}

// ensureLimit bounds the making of keys when the capability is built.
const ensureLimit = 30 * time.Second

// Capability is the line of app/modules.go.
func Capability() module.Capability {
	cfg := defaultConfig()
	return module.Capability{
		Name: "identity",
		Sections: []config.Section{{Key: "identity", Ptr: &cfg,
			Doc: "Installations, users, sessions and tokens."}},
		Migrations: Migrations,
		Queries:    []sqldb.Queries{Queries, RestoreQueries},
		Restored:   restored,
		Build: func(d module.Deps) (*module.Module, error) {
			return build(d, cfg)
		},
	}
}

func build(d module.Deps, cfg Config) (*module.Module, error) {
	s, auth, err := newService(d, cfg, NewSQLStore(d.DB, d.Audit))
	if err != nil {
		return nil, err
	}
	s.registerJobs(d.Queue)
	d.People.Register(module.Participant{Name: "oauth_consents", Export: consentExport(d.DB), Erase: consentErase})
	d.People.Register(s.profileParticipant())
	d.People.Register(s.conflictsParticipant())
	d.Webhooks.Declare(eventTypes...)
	var stop context.CancelFunc
	var running sync.WaitGroup
	return &module.Module{
		Authenticator: auth,
		Features: []module.Feature{
			{Name: "installations", Owner: "landline", Priority: module.Critical, Routes: s.installationRoutes,
				Limits: []module.Limit{{Key: "address", Rate: registrations(d, cfg)}}},
			{Name: "device-proof", Owner: "landline", Priority: module.Critical, Routes: s.deviceRoutes,
				Limits: []module.Limit{{Key: "installation", Rate: deviceProofs}}},
			{Name: "tokens", Owner: "landline", Priority: module.Critical, Handlers: s.oauthHandlers()},
			{Name: "authorize", Owner: "landline", Priority: module.Critical, Handlers: s.hostedHandlers(), MaxBody: maxPageForm,
				Limits: []module.Limit{{Key: "address", Rate: hostedPages}}},
			{Name: "account-pages", Owner: "landline", Priority: module.Interactive, Handlers: s.accountPageHandlers(), MaxBody: maxPageForm,
				Limits: []module.Limit{{Key: "address", Rate: hostedPages}}},
			{Name: "account", Owner: "landline", Priority: module.Interactive, Routes: s.accountRoutes, Handlers: s.lifeHandlers()},
			{Name: "provider-notices", Owner: "landline", Priority: module.Background, Handlers: s.noticeHandlers()},
			{Name: "associations", Owner: "landline", Priority: module.Interactive, Handlers: s.associationHandlers()},
			{Name: "sign-in", Owner: "landline", Priority: module.Critical, Routes: s.signInRoutes,
				Limits: []module.Limit{{Key: "installation", Rate: signIns}}},
		},
		Admin: s.adminRoutes,
		Start: func(ctx context.Context) error {
			if err := s.checkPolicies(); err != nil {
				return err
			}
			if err := s.replayJournal(ctx); err != nil {
				return fmt.Errorf("identity: erase again: %w", err)
			}
			if err := s.revocations.poll(ctx); err != nil {
				return fmt.Errorf("identity: read the revoked sessions: %w", err)
			}
			ctx, stop = context.WithCancel(ctx) // #nosec G118 -- Stop calls it
			running.Go(func() { s.revocations.run(ctx) })
			return nil
		},
		Stop: func(context.Context) error { // a poll under way ends with its context, so this is brief
			if stop != nil {
				stop()
			}
			running.Wait()
			return s.close()
		},
	}, nil
}

// ringPurpose is a purpose of the ring's keys that is needed here.
type ringPurpose struct {
	purpose string
	alg     secret.Alg
	keep    []secret.KeyOption
}

// ensureKeys makes the keys of the ring that are not there.
func ensureKeys(d module.Deps, cfg Config, clients clients) error {
	purposes := []ringPurpose{
		{purposeAccess, secret.ES256, []secret.KeyOption{secret.Keep(time.Hour + 2*clockSkew)}},
		{purposeUpstream, secret.ES256, []secret.KeyOption{secret.Keep(time.Hour)}},
		{purposeRefresh, secret.HMAC, []secret.KeyOption{secret.Keep(cfg.Refresh.Absolute.D() + 24*time.Hour)}},
		{purposeInstallation, secret.HMAC, nil}, // for ever: the secret is an installation's only way back
		{purposeBootstrap, secret.HMAC, nil},
		{purposeLookup, secret.HMAC, nil},
		{purposeCode, secret.HMAC, []secret.KeyOption{secret.Keep(time.Hour)}},
		{purposeDevice, secret.HMAC, []secret.KeyOption{secret.Keep(time.Hour)}},
		{purposeNonce, secret.HMAC, []secret.KeyOption{secret.Keep(time.Hour)}},
	}
	if clients.redirects() { // RSA keys take long to make, and without a client nobody would use them
		keep := []secret.KeyOption{secret.Keep(24 * time.Hour)}
		purposes = append(purposes, ringPurpose{purposeIDToken, secret.RS256, keep}, ringPurpose{purposeIDTokenEC, secret.ES256, keep})
	}
	ctx, cancel := context.WithTimeout(context.Background(), ensureLimit)
	defer cancel()
	for _, k := range purposes {
		if err := d.Keys.Ensure(ctx, k.purpose, k.alg, k.keep...); err != nil {
			return fmt.Errorf("identity: %w", err)
		}
	}
	return nil
}

// newService builds everything but the routes.
func newService(d module.Deps, cfg Config, store Store) (*Service, *authenticator, error) {
	all := newClients(d.App, cfg)
	lifetime := all.longest() + 2*clockSkew // of the node that issued it and of the one that accepts it
	if all.redirects() && !d.Development && !strings.HasPrefix(d.App.PublicURL, "https://") {
		return nil, nil, fmt.Errorf("identity.clients: app.public_url is %q: clients take no issuer but https (RFC 8414 §2); write https://, or profile: development", d.App.PublicURL)
	}
	if err := ensureKeys(d, cfg, all); err != nil {
		return nil, nil, err
	}
	refreshes, err := d.Limits.Policy("identity/refresh", limit.Rate{Limit: cfg.Refresh.Limit, Window: time.Minute})
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %w", err)
	}
	bounds, err := limitPolicies(d, cfg)
	if err != nil {
		return nil, nil, err
	}
	challenges := attest.NewChallenges(d.Keys, purposeDevice)
	device, err := attest.New(cfg.DeviceProof, attest.Options{Challenges: challenges, Fake: cfg.FakeDevices, Development: d.Development})
	if err != nil {
		return nil, nil, fmt.Errorf("identity.device_proof: %w", err)
	}
	m := newMetrics(d.Metrics)
	access := accessTokens{keys: d.Keys, issuer: d.App.PublicURL, audience: d.App.ID, lifetime: cfg.AccessTokenLifetime.D()}
	s := &Service{
		store: store, keys: d.Keys, refresh: refreshTokens{d.Keys}, access: access,
		revocations: &revocations{deny: newDenySet(), store: store, bus: d.Bus, clock: d.Clock, log: d.Log, metrics: m, lifetime: lifetime},
		clock:       d.Clock, log: d.Log, metrics: m, config: cfg, app: d.App,
		db: d.DB, people: d.People, events: hubEvents{d.Webhooks}, queue: d.Queue, bus: d.Bus,
		device: device, challenges: challenges,
		verifiers: map[string]verifier{}, revokers: map[string]revoker{}, life: lifeStore{d.DB}, clients: all, audit: d.Audit, journal: newErasureJournal(d.DataDir),
		limits: d.Limits, refreshLimit: refreshes, newLimit: bounds[0], attachLimit: bounds[1], identityLimit: bounds[2],
		seed: maphash.MakeSeed(), recorded: newBounded[string, int64](10_000),
	}
	s.mail, s.templates = d.Mail, d.Templates
	if s.closers, err = s.openCredentials(d); err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	if s.pages, err = pages.Load(cfg.Pages.Texts); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("identity.pages.texts: %w", err), s.close())
	}
	s.offerConfigured()
	proofs, err := newProofs(d.App.PublicURL, d.Keys, d.KV, d.Clock)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("identity: %w", err), s.close())
	}
	auth := newAuthenticator(access, s.revocations.deny, proofs, d.Clock, m, cfg.VerifiedTokens)
	s.auth = auth
	m.gauges(d.Metrics, func() int { return int(s.revocations.deny.count.Load()) }, auth.verified.len, s.revocations.age)
	return s, auth, nil
}
