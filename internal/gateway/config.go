package gateway

import (
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

// Settings is the gateway's part of landline.yaml.
type Settings struct {
	Limits    LimitsConfig
	Overload  OverloadConfig
	Cache     CacheSettings
	Upstreams map[string]*UpstreamConfig
	Features  map[string]*FeatureConfig
	CORS      CORSConfig
	Versions  VersionsConfig
	APIKeys   APIKeysConfig

	Maintenance AppMaintenanceConfig

	contracts map[contractKey]*routeContract // loaded while the configuration was checked
}

// DefaultSettings returns the settings of an empty file.
func DefaultSettings() *Settings {
	return &Settings{
		Limits: LimitsConfig{
			HeaderTimeout: config.Duration(10 * time.Second),
			IdleTimeout:   config.Duration(2 * time.Minute),
			BodyTimeout:   config.Duration(time.Minute),
			WriteTimeout:  config.Duration(time.Minute),
			Header:        64 << 10,
			URI:           8 << 10,
			Streams:       250,
		},
		Overload:  defaultOverload(),
		Cache:     CacheSettings{Memory: 64 << 20},
		Upstreams: map[string]*UpstreamConfig{},
		Features:  map[string]*FeatureConfig{},
		Versions:  VersionsConfig{Header: DefaultVersionHeader},
		APIKeys:   APIKeysConfig{Header: "Api-Key"},
	}
}

// LimitsConfig guards the public listener before a request has a route.
type LimitsConfig struct {
	HeaderTimeout config.Duration `yaml:"header_timeout" doc:"Time a client has to send a request's header; then the connection is closed."`
	IdleTimeout   config.Duration `yaml:"idle_timeout" doc:"Time a connection may wait for its next request."`
	BodyTimeout   config.Duration `yaml:"body_timeout" doc:"Longest pause of a client in the middle of its request body; then 408."`
	WriteTimeout  config.Duration `yaml:"write_timeout" doc:"Longest time a client may take nothing of its answer; then its connection is closed."`
	Header        config.Bytes    `yaml:"header" doc:"Largest request header, names and values together; beyond it 431."`
	URI           config.Bytes    `yaml:"uri" doc:"Longest path with query; beyond it 414."`
	Streams       int             `yaml:"streams" min:"1" max:"10000" doc:"Concurrent HTTP/2 requests that one connection may have."`
}

// UpstreamConfig is a service of the team behind the gateway.
type UpstreamConfig struct {
	Targets           []TargetConfig     `yaml:"targets" doc:"Where the service runs: at least one; requests are spread by weight."`
	Protocol          string             `yaml:"protocol" enum:"auto,http1,http2,h2c" doc:"auto: HTTP/2 where TLS negotiates it, else HTTP/1.1. http1 and http2 insist; h2c is HTTP/2 without TLS. WebSockets always use HTTP/1.1."`
	Transport         string             `yaml:"transport" enum:"auto,standard" doc:"auto: HTTP/1.1 without TLS goes over connections of the gateway's own, which cost less; all else over those of Go's net/http. standard: net/http for everything."`
	ConnectTimeout    config.Duration    `yaml:"connect_timeout" doc:"Time to connect, TLS included."`
	IdleTimeout       config.Duration    `yaml:"idle_timeout" doc:"How long an unused connection is kept. Keep it below the service's own keep-alive time."`
	Balance           string             `yaml:"balance" enum:"weighted,installation" doc:"weighted: at random by weight. installation: requests of one installation (without a token: of one address) go to the same target as long as it is well and not much fuller than the others."`
	Health            *HealthConfig      `yaml:"health" doc:"Asks targets whether they are well. Default: off; {} takes the defaults below."`
	Outlier           *OutlierConfig     `yaml:"outlier" doc:"Takes targets out for a while that fail real requests. Default: off; {} takes the defaults below."`
	SlowStart         config.Duration    `yaml:"slow_start" max:"1h" doc:"How long a target that came back, or was added, gets less than its share: from a tenth, growing evenly. 0 = at once."`
	RetryBudget       BudgetConfig       `yaml:"retry_budget" doc:"How much retries and hedged requests may add to the load of the service."`
	Concurrency       *ConcurrencyConfig `yaml:"concurrency" doc:"Limit of requests that wait for this service, which follows its latency: when they begin to queue it goes down. Beyond it 503 overloaded. Default: off; {} takes the defaults below."`
	MaxConnectionAge  config.Duration    `yaml:"max_connection_age" max:"24h" doc:"How long connections are used before new ones take their place; requests under way are not cut. 0 = for ever."`
	Resolve           config.Duration    `yaml:"resolve" max:"24h" doc:"How often the names of targets are looked up again; when the addresses have changed, new connections are made. 0 = only when connecting."`
	MaxConnections    int                `yaml:"max_connections" min:"0" max:"100000" doc:"Most connections to one target; requests beyond wait for one within their timeout. 0 = unlimited."`
	IdleConnections   int                `yaml:"idle_connections" min:"0" max:"100000" doc:"Most unused connections kept for one target."`
	ResponseHeader    config.Bytes       `yaml:"response_header" doc:"Largest response header taken from the service."`
	PassAuthorization bool               `yaml:"pass_authorization" doc:"Pass the client's Authorization header on. By default the service gets Landline-Identity, a token made for it alone."`
	PreserveHost      bool               `yaml:"preserve_host" doc:"Send the client's Host instead of the target's."`
	TLS               TLSConfig          `yaml:"tls" doc:"For https targets."`
}

// Defaults fills an upstream before its keys are read.
func (c *UpstreamConfig) Defaults() {
	*c = UpstreamConfig{
		Protocol: "auto", Transport: TransportAuto,
		Balance: BalanceWeighted, RetryBudget: BudgetConfig{Share: 0.2, Min: 3},
		MaxConnectionAge: config.Duration(10 * time.Minute), Resolve: config.Duration(30 * time.Second),
		ConnectTimeout:  config.Duration(2 * time.Second),
		IdleTimeout:     config.Duration(55 * time.Second),
		IdleConnections: 256,
		ResponseHeader:  64 << 10,
	}
}

// TargetConfig is one place where an upstream runs.
type TargetConfig struct {
	Name   string `yaml:"name" doc:"Name in metrics, logs and status; default: stable for a single target." example:"stable"`
	URL    string `yaml:"url" doc:"Scheme, host, port and optional base path; no query." example:"http://10.0.0.5:9000"`
	Weight int    `yaml:"weight" min:"0" max:"1000000" doc:"Share of the requests, relative to the other targets, 0 to 1000000; 0 = none." example:"100"`
}

// Defaults fills a target before its keys are read.
func (c *TargetConfig) Defaults() { *c = TargetConfig{Weight: 100} }

// TLSConfig is how certificates of https targets are checked.
type TLSConfig struct {
	CA          string        `yaml:"ca" doc:"PEM certificates to trust instead of the system's." example:"${file:ca.pem}"`
	Certificate string        `yaml:"certificate" doc:"PEM client certificate, with its chain, that is shown to the service. A reload takes a changed one." example:"${file:client.pem}"`
	Key         config.Secret `yaml:"key" doc:"PEM private key of certificate." example:"${file:client-key.pem}"`
	ServerName  string        `yaml:"server_name" doc:"Name to expect in the certificate; default: the target's host."`
}

// FeatureConfig is one feature: its routes and its policy. A block with the
// name of a built-in feature and without routes changes that feature's policy.
type FeatureConfig struct {
	Owner        string             `yaml:"owner" doc:"Team that answers for the feature; shown wherever the feature is." example:"team-flights"`
	Auth         module.Auth        `yaml:"auth" enum:"none,anonymous,account" doc:"Who may call it: none (no token needed), anonymous (any signed-in installation), account (a user with an identity). Default: account. Built-in features decide it themselves."`
	DeviceProof  module.DeviceLevel `yaml:"device_proof" enum:"none,key,app,hardware" doc:"How much the installation must have proven of its app and device: key (it holds a private key), app (Apple or Google recognise app and device) or hardware. Default: none."`
	Scope        string             `yaml:"scope" doc:"Scope that opens the feature to access tokens of OAuth clients which have less than all of the app's API. Default: app, so that the app's own tokens alone are good." example:"flights.read"`
	MaxAuthAge   config.Duration    `yaml:"max_auth_age" doc:"How long ago the user may have proven themselves; after that 401 insufficient_user_authentication asks for a fresh sign-in (RFC 9470). Default: no limit." example:"5m"`
	ACR          []string           `yaml:"acr" doc:"Authentication context classes, of which the user's last sign-in must have met one: phr (a passkey, which nobody can phish) or 1 (an account, signed in any way). Otherwise 401 insufficient_user_authentication names them, and the client sends the user to /oauth/authorize with acr_values, or signs in with a passkey (RFC 9470). Default: any." example:"[phr]"`
	Routes       []RouteConfig      `yaml:"routes" doc:"Methods and paths of the feature, in any number of API versions."`
	Timeout      config.Duration    `yaml:"timeout" doc:"Time for the whole answer; for streams (Server-Sent Events, WebSockets, unknown length) only until the response header. Default: 10s." example:"800ms"`
	MaxBody      config.Bytes       `yaml:"max_body" doc:"Largest request body; beyond it 413. Default: 10MiB." example:"10MiB"`
	ClientHeader string             `yaml:"client_header" enum:"optional,required" doc:"Whether a request must carry Landline-Client. Default: optional."`
	Priority     string             `yaml:"priority" enum:"telemetry,background,interactive,critical" doc:"What is turned away first when a node is overloaded: telemetry, then background, then interactive. Default: interactive."`
	RateLimit    []RateLimitConfig  `yaml:"rate_limit" doc:"Limits on the number of requests; every one must allow the request."`
	APIKey       string             `yaml:"api_key" enum:"optional,required" doc:"required: callers need an API key, made with POST /admin/v1/api-keys. optional: one that is sent must be good. Default: not looked at, unless a limit or a quota counts by api_key; then optional."`
	Quota        []QuotaConfig      `yaml:"quota" doc:"Allowances per calendar day or month, kept over restarts; every one must allow the request."`
	Idempotency  *IdempotencyConfig `yaml:"idempotency" doc:"Makes writes safe to repeat with an Idempotency-Key. Default: off."`
	Breaker      *BreakerConfig     `yaml:"breaker" doc:"Stops asking a target that keeps failing this feature. Default: off; {} takes the defaults below."`
	Retry        *RetryConfig       `yaml:"retry" doc:"Tries again what failed. GET, HEAD, OPTIONS, PUT and DELETE, and writes with an Idempotency-Key where unknown_outcome is forward; other writes only if nothing was sent. Default: off; {} takes the defaults below."`
	Hedge        *HedgeConfig       `yaml:"hedge" doc:"Sends a GET or HEAD that takes long a second time. Default: off; {} takes the defaults below."`
	Bulkhead     *BulkheadConfig    `yaml:"bulkhead" doc:"Bounds how many requests of the feature are under way. Default: off; {} takes the defaults below."`
	LongPoll     bool               `yaml:"long_poll" doc:"Answers are held back on purpose until there is news: their time tells nothing about load."`
	Cache        *CacheConfig       `yaml:"cache" doc:"Answers to GET and HEAD that may be given again. Default: off; {} stores what the service allows."`
	Fallback     *FallbackConfig    `yaml:"fallback" doc:"What stands in when the feature fails: another route or upstream, a stock answer, or one after the other. Default: off."`
	Compression  string             `yaml:"compression" enum:"auto,off" doc:"auto: text and JSON of 1KiB and more is sent as zstd or gzip to clients that take it, unless the service has encoded it. Default: auto."`
	Decompress   bool               `yaml:"decompress" doc:"Decode request bodies that come as gzip or zstd; max_body bounds the decoded size. Otherwise they are passed on as they are."`
	Maintenance  *MaintenanceConfig `yaml:"maintenance" doc:"Puts the feature under maintenance. Default: off."`
	CORS         *CORSConfig        `yaml:"cors" doc:"Web pages that may call the feature, instead of the file's own cors. {} allows none."`
	Contract     *ContractConfig    `yaml:"contract" doc:"OpenAPI document that the feature's requests and answers are checked against. A text alone is the document. Default: off."`
	Screens      []string           `yaml:"screens" doc:"Screens of the app that need the feature; metrics and the admin API can be read by screen." example:"[departures_board, flight_details]"`
	Headers      *HeadersConfig     `yaml:"headers" doc:"Rules for request and response headers. Default: none."`
}

// Gateway-wide defaults of a feature's policy, used where neither the file nor
// the module says otherwise.
const (
	DefaultTimeout = 10 * time.Second
	DefaultMaxBody = 10 << 20
)

// RouteConfig is one route of a feature.
type RouteConfig struct {
	Match    string `yaml:"match" doc:"Method and path; without a method any. {name} stands for one segment, {name...} at the end for the rest. The most specific route wins." example:"GET /v1/flights/{id}/status"`
	Version  string `yaml:"version" doc:"API version that a request must name in a header (see versions) to get this route; routes that differ in it may share a match." example:"v2"`
	Upstream string `yaml:"upstream" doc:"Which upstream answers." example:"flights"`
	Path     string `yaml:"path" doc:"Path at the upstream, made of match's wildcards. Default: the path of the request. The query is passed on as it is." example:"/internal/status/{id}"`
	Contract string `yaml:"contract" doc:"OpenAPI document of this route, instead of the feature's; off takes the route out." example:"contracts/flights-v2.yaml"`

	Aggregate *AggregateConfig `yaml:"aggregate" doc:"Instead of upstream: one answer made of several calls."`
	GraphQL   *GraphQLConfig   `yaml:"graphql" doc:"Instead of upstream: a persisted operation of a GraphQL service, or an endpoint that takes persisted documents alone."`
}

// BreakerConfig stops a feature from waiting for a target that keeps failing.
type BreakerConfig struct {
	FailureRatio float64         `yaml:"failure_ratio" min:"0" max:"1" doc:"Share of failed requests in the window that opens the breaker, above 0 to 1. 5xx answers, timeouts and connection failures count; 4xx answers and clients that went away do not."`
	MinRequests  int             `yaml:"min_requests" min:"1" max:"1000000" doc:"Requests in the window before the ratio means anything."`
	Window       config.Duration `yaml:"window" doc:"Length of the rolling window."`
	Open         config.Duration `yaml:"open" doc:"How long the breaker stays open before it lets trial requests through."`
	Probes       int             `yaml:"probes" min:"1" max:"1000" doc:"Trial requests that must succeed to close it again."`
}

// Defaults fills the block before its keys are read.
func (c *BreakerConfig) Defaults() {
	*c = BreakerConfig{
		FailureRatio: 0.5, MinRequests: 20, Probes: 1,
		Window: config.Duration(10 * time.Second), Open: config.Duration(15 * time.Second),
	}
}

// FallbackConfig is a feature's stock answer.
type FallbackConfig struct {
	Route    string `yaml:"route" doc:"Another feature's route that is asked first, by its match; its wildcards must be among those of this feature's routes. Only GET and HEAD." example:"GET /v1/flights/{id}/basic"`
	Upstream string `yaml:"upstream" doc:"Another upstream that is asked first, instead of route." example:"flights-replica"`
	Path     string `yaml:"path" doc:"Path at upstream, as in routes. Default: the path of the request."`

	Status  int               `yaml:"status" min:"200" max:"599" doc:"HTTP status of the stock answer."`
	Headers map[string]string `yaml:"headers" doc:"Headers of the stock answer; Content-Type is application/json unless given."`
	Body    config.Raw        `yaml:"body" doc:"Body of the stock answer, any YAML value, sent as JSON." example:"{status: unknown}"`
	On      []string          `yaml:"on" enum:"breaker_open,timeout,unreachable,invalid,5xx,overloaded" doc:"What it stands in for. Default: all."`
	Methods []string          `yaml:"methods" doc:"Methods it applies to. Default: GET and HEAD, since a stock answer to a write would be a lie."`
}

// Defaults fills the block before its keys are read.
func (c *FallbackConfig) Defaults() { *c = FallbackConfig{Status: 200} }

// Sections returns the gateway's keys of landline.yaml, filling s.
func Sections(s *Settings) []config.Section {
	check := &checker{settings: s, told: map[string]bool{}}
	return []config.Section{
		{Key: "limits", Ptr: &s.Limits, Doc: "Guards of the public listener.", Check: check.limits},
		{Key: "cors", Ptr: &s.CORS, Doc: "Web pages that may call; a feature may have its own.", Reloadable: true, Check: func(v *config.Validator) { checkCORS(v, &s.CORS) }},
		{Key: "maintenance", Ptr: &s.Maintenance, Doc: "Puts the whole app under maintenance.", Reloadable: true, Check: check.maintenance},
		{Key: "versions", Ptr: &s.Versions, Doc: "How a request names an API version that its path does not.", Reloadable: true, Check: check.versions},
		{Key: "overload", Ptr: &s.Overload, Doc: "What a node does when more is asked of it than it can do: the least important requests get 503 overloaded at once.", Reloadable: true, Check: check.overload},
		{Key: "cache", Ptr: &s.Cache, Doc: "Memory for stored answers of all features.", Reloadable: true, Check: check.cacheSettings},
		{Key: "api_keys", Ptr: &s.APIKeys, Doc: "API keys of programs that are no installation of the app.", Reloadable: true, Check: check.apiKeys},
		{Key: "upstreams", Ptr: &s.Upstreams, Doc: "Services of the team behind the gateway.", Reloadable: true, Check: check.upstreams},
		{Key: "features", Ptr: &s.Features, Doc: "What the apps use: routes and policy of each feature.", Reloadable: true, Check: check.features},
	}
}

// orDefaults is c with its zero values replaced, for configurations made in Go.
func (c BreakerConfig) orDefaults() BreakerConfig {
	var d BreakerConfig
	d.Defaults()
	if c.FailureRatio == 0 {
		c.FailureRatio = d.FailureRatio
	}
	if c.MinRequests == 0 {
		c.MinRequests = d.MinRequests
	}
	if c.Window == 0 {
		c.Window = d.Window
	}
	if c.Open == 0 {
		c.Open = d.Open
	}
	if c.Probes == 0 {
		c.Probes = d.Probes
	}
	return c
}
