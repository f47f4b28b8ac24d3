package app

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/gateway"
	"landline/internal/limit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/secret"
	"landline/internal/webhook"
)

// Profiles of landline.yaml.
const (
	Development = "development"
	Production  = "production"
)

// Values of listen.server.
const (
	ServerAuto     = "auto"
	ServerStandard = "standard"
)

// Settings is landline.yaml without the capabilities' own sections.
type Settings struct {
	Profile  string
	App      AppSettings
	Listen   ListenSettings
	DataDir  string
	Database DatabaseSettings
	Redis    RedisSettings
	Secrets  SecretSettings
	Log      LogSettings
	Tracing  TracingSettings
	Shutdown ShutdownSettings
	Mail     mail.Config
	Webhooks *webhook.Settings
	Gateway  *gateway.Settings
}

// AppSettings names the product that this Landline serves.
type AppSettings struct {
	ID        string `yaml:"id" doc:"Bundle id of the app; audience of its access tokens." example:"com.example.flights"`
	Name      string `yaml:"name" doc:"Name that people see." example:"Flights"`
	PublicURL string `yaml:"public_url" doc:"Base URL under which apps reach this Landline; issuer of its tokens. Empty: http:// and the public listener's address (development only)." example:"https://api.example.com"`
}

// ListenSettings are the two listeners.
type ListenSettings struct {
	Public         string       `yaml:"public" doc:"Address of the public listener."`
	Admin          string       `yaml:"admin" doc:"Address of the admin listener: admin API, metrics, health, profiles. Keep it private."`
	TLS            *TLSSettings `yaml:"tls" doc:"Speak TLS on the public listener, with HTTP/2 where clients take it. The files may change while Landline runs: they are looked at every few seconds and with SIGHUP, and used when they fit together. Default: plain HTTP, HTTP/2 included (h2c), for a balancer that terminates TLS."`
	Server         string       `yaml:"server" enum:"auto,standard" doc:"auto: HTTP/1 without TLS is served by the gateway's own loop, which costs less; TLS and HTTP/2 by Go's net/http. standard: net/http for everything."`
	Connections    int          `yaml:"connections" max:"1048576" doc:"Most connections of clients at the same time. When one more comes, a connection that is idle is closed for it; if none is, it is answered 503 overloaded, or cut off where TLS is spoken. 0 = half of the files that the process may open (ulimit -n), because a request on its way to a service needs a second one."`
	TrustedProxies []string     `yaml:"trusted_proxies" doc:"Networks (CIDR) whose Forwarded and X-Forwarded-* headers are believed: the balancers in front that terminate TLS." example:"[10.0.0.0/8]"`
}

// DatabaseSettings say where everything durable is kept.
type DatabaseSettings struct {
	URL            config.Secret   `yaml:"url" doc:"Empty: SQLite in data_dir, for one node. postgres://… (PostgreSQL 15 or later): for many nodes. It holds a password, so it comes from the environment or a file." example:"${DATABASE_URL}"`
	Migrate        bool            `yaml:"migrate" doc:"Bring the schema up to date at start. false: refuse to start with one that is not, for a role that may change rows alone; see docs/operations/database-roles.md."`
	MaxConnections int             `yaml:"max_connections" min:"2" max:"1000" doc:"Connections of one node to PostgreSQL; not used by SQLite."`
	WriteQueue     int             `yaml:"write_queue" min:"1" max:"1000000" doc:"Writes that may wait for their turn; more are answered 503 storage_unavailable."`
	WriteTimeout   config.Duration `yaml:"write_timeout" doc:"Longest time that one write may take."`
}

// RedisSettings say what nodes share besides the database.
type RedisSettings struct {
	URL    config.Secret `yaml:"url" doc:"Empty: in memory, for one node. redis://… or rediss://… (Redis 7, Valkey): news travels between nodes at once. Losing it loses no data." example:"${REDIS_URL}"`
	Prefix string        `yaml:"prefix" doc:"Put before every key and topic, so that several installations may share one server."`

	LimitTimeout config.Duration `yaml:"limit_timeout" doc:"How long Redis may take over one rate limit decision, 1ms to 500ms; then the node decides alone."`
}

// SecretSettings protect what is encrypted at rest.
type SecretSettings struct {
	MasterKey config.Secret `yaml:"master_key" doc:"Base64 of 32 random bytes that wrap all other keys. Empty: made on first start as master.key in data_dir. In production on PostgreSQL every node needs the same one." example:"${LANDLINE_MASTER_KEY}"`
}

// LogSettings shape the log on standard error.
type LogSettings struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error" doc:"Least level that is written."`
	Format string `yaml:"format" enum:"json,text" doc:"json: one object a line. text: short lines for people."`

	ClientIP string `yaml:"client_ip" enum:"full,truncated,none" doc:"What the access log keeps of a caller's address. truncated: its network, /24 of IPv4 and /48 of IPv6. Limits, the audit record and upstreams see the whole one."`
}

// TracingSettings say where spans go.
type TracingSettings struct {
	Endpoint    string                   `yaml:"endpoint" doc:"Base URL of an OTLP/HTTP collector. Empty: trace ids are made and passed on, nothing is exported." example:"http://127.0.0.1:4318"`
	Headers     map[string]config.Secret `yaml:"headers" doc:"Headers sent to the collector." example:"{authorization: \"${OTLP_AUTHORIZATION}\"}"`
	SampleRatio float64                  `yaml:"sample_ratio" min:"0" max:"1" doc:"Share of traces that is exported, chosen by trace id."`
}

// ShutdownSettings say how a node leaves.
type ShutdownSettings struct {
	Delay config.Duration `yaml:"delay" min:"0s" max:"10m" doc:"Time between readyz turning 503 and closing the listener, so that balancers notice."`
	Grace config.Duration `yaml:"grace" min:"0s" max:"1h" doc:"Time that requests and jobs in flight get to finish."`
}

func defaults() *Settings {
	s := &Settings{
		Profile:  Development,
		App:      AppSettings{ID: "com.example.app", Name: "Example"},
		Listen:   ListenSettings{Public: "127.0.0.1:8080", Admin: "127.0.0.1:8081", Server: ServerAuto},
		DataDir:  "./landline-data",
		Database: DatabaseSettings{Migrate: true, MaxConnections: 16, WriteQueue: 1024, WriteTimeout: config.Duration(10 * time.Second)},
		Redis:    RedisSettings{Prefix: "landline:", LimitTimeout: config.Duration(limit.DefaultWithin)},
		Log:      LogSettings{Level: "info", Format: "json", ClientIP: string(gateway.ClientIPTruncated)},
		Tracing:  TracingSettings{SampleRatio: 0.05},
		Shutdown: ShutdownSettings{Delay: 0, Grace: config.Duration(20 * time.Second)},
		Mail:     mail.DefaultConfig(),
		Webhooks: webhook.DefaultSettings(),
		Gateway:  gateway.DefaultSettings(),
	}
	return s
}

// sections lists every key of landline.yaml in the order of the commented file.
func (s *Settings) sections(capabilities []module.Capability) []config.Section {
	all := []config.Section{
		{Key: "profile", Ptr: &s.Profile, Doc: "development or production. Production refuses default secrets, debug output and plain HTTP without a trusted proxy.", Check: s.checkProfile},
		{Key: "app", Ptr: &s.App, Doc: "The product that this Landline serves.", Check: s.checkApp},
		{Key: "listen", Ptr: &s.Listen, Doc: "Where Landline listens.", Check: s.checkListen},
		{Key: "data_dir", Ptr: &s.DataDir, Doc: "Directory of the SQLite database, its backups and the master key; made when missing."},
		{Key: "database", Ptr: &s.Database, Doc: "The database.", Check: s.checkDatabase},
		{Key: "redis", Ptr: &s.Redis, Doc: "What several nodes share besides the database.", Check: s.checkRedis},
		{Key: "secrets", Ptr: &s.Secrets, Doc: "Protection of what is encrypted at rest.", Check: s.checkSecrets},
		{Key: "log", Ptr: &s.Log, Doc: "The log on standard error.", Reloadable: true},
		{Key: "tracing", Ptr: &s.Tracing, Doc: "OpenTelemetry traces.", Check: s.checkTracing},
		{Key: "shutdown", Ptr: &s.Shutdown, Doc: "How a node leaves after SIGTERM."},
		mail.Section(&s.Mail),
		webhook.Section(s.Webhooks),
	}
	for _, c := range capabilities {
		all = append(all, c.Sections...)
	}
	return append(all, gateway.Sections(s.Gateway)...)
}

func (s *Settings) checkProfile(v *config.Validator) {
	if s.Profile != Development && s.Profile != Production {
		v.Fault("write development or production", "unknown profile")
	}
}

func (s *Settings) checkApp(v *config.Validator) {
	if s.App.ID == "" {
		v.At("id").Fault("write the bundle id, for example com.example.flights", "the app needs an id")
	} else if strings.ContainsFunc(s.App.ID, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
		v.At("id").Fault("write the bundle id, for example com.example.flights", "the id of an app has no spaces, quotes or letters beyond ASCII")
	}
	u, err := url.Parse(s.App.PublicURL)
	switch {
	case s.App.PublicURL == "" && s.Profile == Production:
		v.At("public_url").Fault("write the https:// URL that apps call", "production needs the public URL: it is the issuer of every token")
	case s.App.PublicURL == "":
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		v.At("public_url").Fault("write for example https://api.example.com", "not an absolute http(s) URL without query")
	case strings.HasSuffix(s.App.PublicURL, "/"):
		v.At("public_url").Fault("remove the slash at the end", "the public URL ends in a slash")
	case u.Scheme == "http" && s.Profile == Production:
		v.At("public_url").Fault("use https://", "production refuses a plain HTTP issuer")
	}
}

func (s *Settings) checkListen(v *config.Validator) {
	if _, port, err := net.SplitHostPort(s.Listen.Public); err == nil && s.Listen.Public == s.Listen.Admin && port != "0" {
		v.At("admin").Fault("give it a port of its own", "both listeners cannot have one address")
	}
	for name, addr := range map[string]string{"public": s.Listen.Public, "admin": s.Listen.Admin} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			v.At(name).Fault("write host:port, for example 127.0.0.1:8080", "not an address to listen on")
		}
	}
	for i, p := range s.Listen.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			v.At("trusted_proxies", i).Fault("write a network such as 10.0.0.0/8", "not a network in CIDR form")
		}
	}
	if s.Listen.TLS != nil {
		s.Listen.TLS.check(v.At("tls"))
	}
	if s.Profile == Production && s.Listen.TLS == nil && len(s.Listen.TrustedProxies) == 0 {
		v.At("trusted_proxies").Fault("name the network of the balancer that terminates TLS, or give listen.tls a certificate", "production refuses plain HTTP without a trusted proxy")
	}
}

func (s *Settings) checkSecrets(v *config.Validator) {
	if err := secret.CheckMasterKey(s.Secrets.MasterKey.Reveal()); err != nil {
		v.At("master_key").Fault("make one with: head -c 32 /dev/urandom | base64", "not the base64 of 32 random bytes")
	}
}

func (s *Settings) checkDatabase(v *config.Validator) {
	if raw := s.Database.URL.Reveal(); raw != "" && !hasScheme(raw, "postgres", "postgresql") {
		v.At("url").Fault("write postgres://user:password@host:5432/name, or leave it empty for SQLite", "not the URL of a PostgreSQL database")
	}
}

func (s *Settings) checkRedis(v *config.Validator) {
	if raw := s.Redis.URL.Reveal(); raw != "" && !hasScheme(raw, "redis", "rediss") {
		v.At("url").Fault("write redis://host:6379/0, or leave it empty for one node", "not the URL of a Redis server")
	}
	if d := s.Redis.LimitTimeout.D(); d < time.Millisecond || d > 500*time.Millisecond {
		v.At("limit_timeout").Fault("the default suits most", "must be between 1ms and 500ms")
	}
}

func (s *Settings) checkTracing(v *config.Validator) {
	if err := s.Tracing.exporter("").Check(); err != nil {
		v.At("endpoint").Fault("write for example http://127.0.0.1:4318", "%v", err)
	}
}

func hasScheme(raw string, schemes ...string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return false
	}
	for _, s := range schemes {
		if u.Scheme == s {
			return true
		}
	}
	return false
}

func (s *Settings) trustedProxies() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range s.Listen.TrustedProxies {
		if prefix, err := netip.ParsePrefix(p); err == nil { // checked above
			all = append(all, prefix)
		}
	}
	return all
}

func (t TracingSettings) exporter(version string) observe.TracerConfig {
	headers := map[string]string{}
	for name, value := range t.Headers {
		headers[name] = value.Reveal()
	}
	return observe.TracerConfig{Endpoint: t.Endpoint, Headers: headers, SampleRatio: t.SampleRatio, Service: "landline", Version: version}
}
