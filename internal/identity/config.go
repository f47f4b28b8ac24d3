package identity

import (
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/identity/attest"
	"landline/internal/identity/emailcode"
	"landline/internal/identity/pages"
	"landline/internal/identity/passkey"
	"landline/internal/identity/password"
	"landline/internal/identity/provider"
	"landline/internal/module"
)

// Config is the section "identity" of landline.yaml.
type Config struct {
	AccessTokenLifetime config.Duration         `yaml:"access_token_lifetime" doc:"How long an access token is good for, 15m to 60m. Revocation reaches every node within a second whatever this is; the lifetime bounds how often apps refresh."`
	Refresh             RefreshConfig           `yaml:"refresh" doc:"How long sessions last."`
	BootstrapKeyKeep    config.Duration         `yaml:"bootstrap_key_keep" doc:"How long a repeated first launch with the same Idempotency-Key gets the same installation, 1h to 30d. For that long the key opens it."`
	Clients             map[string]ClientConfig `yaml:"clients" doc:"OAuth clients beside app.id, by client id. Builds that name themselves in Landline-Client (app=…) get sessions that only they can refresh; with redirect_uris they can use /oauth/authorize. An entry named as app.id gives those to the app itself."`
	Scopes              map[string]ScopeConfig  `yaml:"scopes" doc:"Scopes of the app's own, as the consent page explains them."`
	AuditInstallations  bool                    `yaml:"audit_installations" doc:"Write an audit entry for each new installation. Audit entries are made one after the other across all nodes; turn it off where thousands of installations come in a second."`
	Merge               MergeConfig             `yaml:"merge" doc:"What happens when an anonymous user signs in to an account that is there already."`
	Providers           provider.Config         `yaml:"providers" doc:"Whom people can sign in with: Apple, Google, OpenID Connect issuers, token authorities of your own. See docs/reference/sign-in-providers.md."`
	EmailCode           EmailCodeConfig         `yaml:"email_code" doc:"Signing in with a code sent by e-mail."`
	Password            PasswordConfig          `yaml:"password" doc:"Signing in with a password. It is set together with a code that proves the address, so email_code must be on."`
	Passkey             passkey.Config          `yaml:"passkey" doc:"Signing in with passkeys (WebAuthn)."`
	DeviceProof         attest.Config           `yaml:"device_proof" doc:"Which proofs of app and device are accepted: see docs/reference/device-proof.md."`
	DeviceMaxAge        config.Duration         `yaml:"device_proof_max_age" doc:"How long a device proof counts, 1h to 90d; then the installation's level is that of its key alone."`
	FakeDevices         bool                    `yaml:"fake_device_proof" doc:"Accept the kind fake, which proves nothing. Only with profile: development."`
	Deletion            DeletionConfig          `yaml:"deletion" doc:"Deletion of accounts."`
	Pages               PagesConfig             `yaml:"pages" doc:"The hosted pages: sign-in, consent, /account and /account/delete."`
	Anonymous           AnonymousConfig         `yaml:"anonymous" doc:"How long anonymous users are kept."`
	BotCost             BotCostConfig           `yaml:"bot_cost" doc:"What a new installation costs a script."`
	Accounts            AccountsConfig          `yaml:"accounts" doc:"Accounts on one installation."`
	Limits              LimitsConfig            `yaml:"limits" doc:"How often one address or person may begin something. The limits hold on each node also while Redis does not answer."`
	VerifiedTokens      int                     `yaml:"verified_tokens" doc:"How many verified access tokens a node remembers, so that their signatures are checked once, 1000 to 10000000; about 600 bytes each."`
}

// LimitsConfig bounds what one address or person can begin.
type LimitsConfig struct {
	Bootstrap int `yaml:"bootstrap" doc:"New installations of one address per hour, and as many at once; and how often one installation may re-attach from one address. 0 to 1000000; 0 = 30, and 1000 with profile: development. Repeats of a first launch do not count. An address may be a mobile carrier's: raise it before a launch."`
	Identity  int `yaml:"identity" doc:"Sign-ins of one provider identity, address or passkey per hour, half of them at once, 10 to 1000000. Only credentials that were verified count, so that nobody can use up another person's."`
}

// RefreshConfig bounds sessions.
type RefreshConfig struct {
	Idle     config.Duration `yaml:"idle" doc:"A session ends when it is not refreshed for this long, 1d to 365d. An anonymous user comes back with the installation's credential."`
	Absolute config.Duration `yaml:"absolute" doc:"A session ends this long after it began, 1d to 1095d."`
	Limit    int             `yaml:"limit" doc:"Refreshes and token exchanges of one session per minute, and at once, 5 to 100000; more are 429 rate_limited, after which the same token is good again. An app needs one per access_token_lifetime."`
	Grace    config.Duration `yaml:"grace" doc:"How long after a refresh the same request counts as a repeat of it and gets the same token, 1s to 5m. A longer grace helps thieves and nobody else: later repeats are recovered too."`
}

// MergeConfig says when and how users are merged.
type MergeConfig struct {
	Always   bool                          `yaml:"always" doc:"Merge even when nothing is known of the anonymous user's data. Otherwise a user without rows here, with no webhook endpoint that wants user.merged, stays the installation's anonymous user for after a sign-out."`
	Accounts bool                          `yaml:"accounts" doc:"Let a user make another account of theirs part of the one that is signed in: POST /v1/auth/link with conflict_token and confirm, after both were proven within five minutes."`
	Policies map[string]module.MergePolicy `yaml:"policies" doc:"Policy of a collection when both users have a record that cannot be twice: account_wins, newest, union, sum_ops or rename, as far as the collection can. What loses is kept as a merge conflict."`
}

// AccountsConfig bounds who is signed in on one installation.
type AccountsConfig struct {
	One bool `yaml:"one" doc:"Signing in to another account ends the sessions of those that are signed in on the installation. Otherwise up to 20 stay signed in side by side."`
}

// EmailCodeConfig turns codes by e-mail on.
type EmailCodeConfig struct {
	On               bool `yaml:"on" doc:"Offer it. Needs the section mail in production."`
	emailcode.Config `yaml:",inline"`
}

// PasswordConfig turns passwords on.
type PasswordConfig struct {
	On              bool `yaml:"on" doc:"Offer it."`
	password.Config `yaml:",inline"`
}

// DeletionConfig says how an account goes.
type DeletionConfig struct {
	Grace config.Duration `yaml:"grace" doc:"How long after a deletion its user can undo it by signing in, 0s to 30d. The sessions end at once in any case; an anonymous user's data goes at once."`

	// What the team's services do with their part; Google Play asks for it.
	Erased map[string][]string `yaml:"erased" doc:"What your services delete with an account, by language, one line each; shown on /account/delete beside what Landline deletes." example:"{en: [Your trips and favourites], pl: [Twoje podróże i ulubione]}"`
	Kept   map[string][]string `yaml:"kept" doc:"What your services keep of a deleted account, why and for how long, by language, one line each; shown on /account/delete." example:"{en: [\"Invoices, for five years, as tax law demands\"]}"`
}

// PagesConfig changes the hosted pages.
type PagesConfig struct {
	Texts string `yaml:"texts" doc:"Folder with texts of your own, relative to this file: <language>.json replaces built-in texts one by one, or adds a language. Empty = none." example:"pages"`
}

// AnonymousConfig says when anonymous users are erased who do not come back.
type AnonymousConfig struct {
	EmptyKeep config.Duration `yaml:"empty_keep" doc:"Users without data, after the last refresh or re-attach, 30d to 1095d."`
	Keep      config.Duration `yaml:"keep" doc:"Users with data, and all users where a webhook endpoint wants user.merged, 90d to 3650d. It must not be shorter than refresh.absolute."`
}

// BotCostConfig asks new installations for a proof of work.
type BotCostConfig struct {
	Bits int `yaml:"bits" doc:"Zero bits that the hash of a new installation's work must begin with, 0 to 22; 0 = none is asked for. Each bit doubles the cost; 18 takes a phone a few tenths of a second. Apps without it get 403 proof_of_work_required."`
}

func defaultConfig() Config {
	return Config{
		AccessTokenLifetime: config.Duration(15 * time.Minute),
		Refresh: RefreshConfig{
			Idle:     config.Duration(90 * 24 * time.Hour),
			Absolute: config.Duration(365 * 24 * time.Hour),
			Grace:    config.Duration(30 * time.Second),
			Limit:    60,
		},
		Providers:          provider.DefaultConfig(),
		EmailCode:          EmailCodeConfig{Config: emailcode.DefaultConfig()},
		Password:           PasswordConfig{Config: password.DefaultConfig()},
		DeviceProof:        attest.DefaultConfig(),
		DeviceMaxAge:       config.Duration(7 * 24 * time.Hour),
		Anonymous:          AnonymousConfig{EmptyKeep: config.Duration(90 * 24 * time.Hour), Keep: config.Duration(400 * 24 * time.Hour)},
		Deletion:           DeletionConfig{Grace: config.Duration(14 * 24 * time.Hour)},
		Merge:              MergeConfig{Policies: map[string]module.MergePolicy{}},
		BootstrapKeyKeep:   config.Duration(7 * 24 * time.Hour),
		Clients:            map[string]ClientConfig{},
		Scopes:             map[string]ScopeConfig{},
		AuditInstallations: true,
		Limits:             LimitsConfig{Identity: 120},
		VerifiedTokens:     100_000,
	}
}

// Check reports what is out of range.
func (c *Config) Check(v *config.Validator) {
	const day = 24 * time.Hour
	within(v.At("access_token_lifetime"), c.AccessTokenLifetime, 15*time.Minute, time.Hour)
	within(v.At("refresh", "idle"), c.Refresh.Idle, day, 365*day)
	within(v.At("refresh", "absolute"), c.Refresh.Absolute, day, 1095*day)
	within(v.At("refresh", "grace"), c.Refresh.Grace, time.Second, 5*time.Minute)
	if c.Password.On && !c.EmailCode.On {
		v.At("password", "on").Fault("set email_code.on as well", "needs codes by e-mail, with which a password is set")
	}
	within(v.At("device_proof_max_age"), c.DeviceMaxAge, time.Hour, 90*day)
	within(v.At("anonymous", "empty_keep"), c.Anonymous.EmptyKeep, 30*day, 1095*day)
	within(v.At("anonymous", "keep"), c.Anonymous.Keep, 90*day, 3650*day)
	if c.Anonymous.Keep < c.Refresh.Absolute {
		v.At("anonymous", "keep").Fault("make it at least refresh.absolute", "is %s, shorter than refresh.absolute, %s", c.Anonymous.Keep, c.Refresh.Absolute)
	}
	if c.BotCost.Bits < 0 || c.BotCost.Bits > maxWorkBits {
		v.At("bot_cost", "bits").Fault("18 suits most", "must be 0 to %d, is %d", maxWorkBits, c.BotCost.Bits)
	}
	within(v.At("deletion", "grace"), c.Deletion.Grace, 0, 30*day)
	c.Deletion.check(v.At("deletion"))
	if c.Pages.Texts != "" {
		at := v.At("pages", "texts")
		c.Pages.Texts = at.Beside(c.Pages.Texts)
		if _, err := pages.Load(c.Pages.Texts); err != nil {
			at.Fault("docs/guide/identity.md tells how to add a language", "%s", err)
		}
	}
	within(v.At("bootstrap_key_keep"), c.BootstrapKeyKeep, time.Hour, 30*day)
	if c.Refresh.Limit < 5 || c.Refresh.Limit > 100_000 {
		v.At("refresh", "limit").Fault("the default suits most", "must be 5 to 100000, is %d", c.Refresh.Limit)
	}
	if c.Limits.Bootstrap < 0 || c.Limits.Bootstrap > 1_000_000 {
		v.At("limits", "bootstrap").Fault("0 is 30, as suits most", "must be 0 to 1000000, is %d", c.Limits.Bootstrap)
	}
	if c.Limits.Identity < 10 || c.Limits.Identity > 1_000_000 {
		v.At("limits", "identity").Fault("the default suits most", "must be 10 to 1000000, is %d", c.Limits.Identity)
	}
	if c.Refresh.Absolute < c.Refresh.Idle {
		v.At("refresh", "absolute").Fault("make it at least refresh.idle", "is %s, shorter than refresh.idle, %s", c.Refresh.Absolute, c.Refresh.Idle)
	}
	if c.VerifiedTokens < 1000 || c.VerifiedTokens > 10_000_000 {
		v.At("verified_tokens").Fault("the default suits most", "must be 1000 to 10000000, is %d", c.VerifiedTokens)
	}
	for name, p := range c.Merge.Policies {
		switch p {
		case module.AccountWins, module.Newest, module.Union, module.SumOps, module.Rename:
		default:
			v.At("merge", "policies", name).Fault("write account_wins, newest, union, sum_ops or rename", "%q is no policy", string(p))
		}
	}
	for name, one := range c.Clients {
		if !validClientID(name) {
			v.At("clients", name).Fault("write for example com.example.flights.web", "a client id has 1 to 255 characters of A-Z a-z 0-9 . _ -")
		}
		one.check(v.At("clients", name), c)
	}
	for name := range c.Scopes {
		if !module.ValidScope(name) {
			v.At("scopes", name).Fault("write for example flights.read", "a scope has 1 to 64 characters of A-Z a-z 0-9 . _ : - /")
		}
	}
}

// Bounds of what a team adds to the deletion page.
const (
	maxDeletionLines = 50
	maxDeletionLine  = 1000
)

func (d *DeletionConfig) check(v *config.Validator) {
	for key, all := range map[string]map[string][]string{"erased": d.Erased, "kept": d.Kept} {
		for lang, lines := range all {
			if len(lines) > maxDeletionLines {
				v.At(key, lang).Fault("", "has %d lines, at most %d are taken", len(lines), maxDeletionLines)
			}
			for i, line := range lines {
				if strings.TrimSpace(line) == "" || len(line) > maxDeletionLine {
					v.At(key, lang, i).Fault("", "is empty or has more than %d bytes", maxDeletionLine)
				}
			}
		}
		if _, ok := all["en"]; len(all) > 0 && !ok {
			v.At(key).Fault("add en", "has no English, which is what people see whose language is not there")
		}
	}
}

func within(v *config.Validator, d config.Duration, min, max time.Duration) {
	if d.D() < min || d.D() > max {
		v.Fault("the default suits most", "must be %s to %s, is %s", config.Duration(min), config.Duration(max), d)
	}
}

func validClientID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

func (c *Config) policy() RefreshPolicy {
	return RefreshPolicy{Grace: c.Refresh.Grace.D(), Idle: c.Refresh.Idle.D(), Absolute: c.Refresh.Absolute.D()}
}
