package webhook

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/egress"
)

// Bounds and defaults of the configuration.
const (
	maxEndpoints       = 100
	maxSecrets         = 4
	maxPatterns        = 100
	defaultTimeout     = 15 * time.Second // the specification advises 15 to 30 s
	defaultConcurrency = 4
	maxTimeout         = 30 * time.Second
	defaultKeep        = 30 * 24 * time.Hour
	maxKeep            = 365 * 24 * time.Hour
)

// Orders of an endpoint.
const (
	OrderSubject = "subject"
	OrderNone    = "none"
)

// Settings is the section webhooks of landline.yaml.
type Settings struct {
	Keep      config.Duration     `yaml:"keep" doc:"How long events and their deliveries are kept, to look at and to replay: 7d to 365d."`
	Endpoints map[string]Endpoint `yaml:"endpoints" doc:"Services of the team's that are told of events, by a name of your choice." example:"{billing: {url: \"https://billing.example.com/landline\", secrets: [\"${BILLING_WEBHOOK_SECRET}\"], events: [user.*]}}"`
}

// Endpoint is one receiver.
type Endpoint struct {
	URL          string          `yaml:"url" required:"true" doc:"Where events are posted to. https://; http:// only to addresses that allow_private names." example:"https://billing.example.com/landline"`
	Secrets      []config.Secret `yaml:"secrets" doc:"Signing secrets, whsec_ and the base64 of 24 to 64 random bytes. Every message is signed with each of them: to rotate, add the new one, let the receiver take it over, then remove the old one." example:"[\"${BILLING_WEBHOOK_SECRET}\"]"`
	Events       []string        `yaml:"events" doc:"Types that are sent: user.merged, user.* for all below user, * for all. Default: all." example:"[user.*]"`
	Timeout      config.Duration `yaml:"timeout" doc:"Longest time that the receiver may take to answer, 1s to 30s. It should store the event and work later."`
	Concurrency  int             `yaml:"concurrency" min:"1" max:"64" doc:"Messages under way at once from one node."`
	Order        string          `yaml:"order" enum:"subject,none" doc:"subject: events of one user one after the other, so that one that fails holds back those behind it until it is delivered or given up. none: as they come."`
	AllowPrivate Networks        `yaml:"allow_private" doc:"Networks that are not public and that the endpoint may be in: true for all private and loopback addresses, or a list of networks. Link-local addresses, where clouds have their metadata, are never called." example:"[10.0.0.0/8]"`
}

// Defaults fills the block before its keys are read.
func (e *Endpoint) Defaults() {
	*e = Endpoint{Timeout: config.Duration(defaultTimeout), Concurrency: defaultConcurrency, Order: OrderSubject}
}

// Networks is a list of networks, or true for all that are private.
type Networks []string

const allPrivate = "private"

// UnmarshalConfig reads true and false.
func (n *Networks) UnmarshalConfig(decode func(into any) error) error {
	var all bool
	if err := decode(&all); err != nil {
		return err
	}
	if *n = nil; all {
		*n = Networks{allPrivate}
	}
	return nil
}

// private are the networks that allow_private may open, by RFC 1918, 4193,
// 6598 and 5735. Link-local is not among them.
var private = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"),
}

// alwaysRefused lies within private all the same: metadata services of clouds.
var alwaysRefused = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"), netip.MustParseAddr("100.100.100.200")}

func (n Networks) prefix(i int) ([]netip.Prefix, error) {
	if n[i] == allPrivate {
		return private, nil
	}
	p, err := netip.ParsePrefix(n[i])
	if err != nil || p.Addr().Is4In6() {
		return nil, fmt.Errorf("%q is not a network in CIDR form", n[i])
	}
	p = p.Masked()
	for _, of := range private {
		if of.Contains(p.Addr()) && p.Bits() >= of.Bits() {
			return []netip.Prefix{p}, nil
		}
	}
	return nil, fmt.Errorf("%s is not within a private or loopback network", n[i])
}

func (n Networks) prefixes() (all []netip.Prefix, err error) {
	for i := range n {
		p, err := n.prefix(i)
		if err != nil {
			return nil, err
		}
		all = append(all, p...)
	}
	return all, nil
}

// DefaultSettings are those of a file that says nothing: no endpoints.
func DefaultSettings() *Settings { return &Settings{Keep: config.Duration(defaultKeep)} }

// Section is the key of landline.yaml that fills s.
func Section(s *Settings) config.Section {
	return config.Section{
		Key: "webhooks", Ptr: s, Reloadable: true, Check: s.check,
		Doc: "Signed events for the team's own services, by the Standard Webhooks specification.",
	}
}

var endpointName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func (s *Settings) check(v *config.Validator) {
	if d := s.Keep.D(); d < 7*24*time.Hour || d > maxKeep {
		v.At("keep").Fault("the default is 30d", "must be between 7d and 365d")
	}
	at := v.At("endpoints")
	if len(s.Endpoints) > maxEndpoints {
		at.Fault("", "at most %d endpoints are allowed", maxEndpoints)
	}
	owners := map[config.Secret]string{}
	for _, name := range at.Keys() {
		if !endpointName.MatchString(name) {
			at.At(name).Fault("write for example billing", "the name of an endpoint has 1 to 63 of a-z 0-9 _ - and begins with a letter or digit")
		}
		for i, secret := range s.Endpoints[name].Secrets {
			if of, taken := owners[secret]; taken && of != name {
				at.At(name, "secrets", i).Fault("make another one", "the endpoint %s has the same secret: who can verify for one could sign for the other", of)
			}
			owners[secret] = name
		}
	}
}

// Check finds the faults of one endpoint.
func (e *Endpoint) Check(v *config.Validator) {
	e.checkURL(v)
	e.checkSecrets(v.At("secrets"))
	if len(e.Events) > maxPatterns {
		v.At("events").Fault("write user.* or *", "at most %d are allowed", maxPatterns)
	}
	for i, pattern := range e.Events {
		if len(pattern) > maxType || !patternForm.MatchString(pattern) {
			v.At("events", i).Fault("write for example user.merged, user.* or *", "%q is neither a type of event nor a pattern", pattern)
		}
	}
	if d := e.Timeout.D(); d < time.Second || d > maxTimeout {
		v.At("timeout").Fault("the default is 15s", "must be between 1s and 30s")
	}
	for i := range e.AllowPrivate {
		if _, err := e.AllowPrivate.prefix(i); err != nil {
			v.At("allow_private", i).Fault("write for example 10.0.0.0/8, or true instead of the list", "%v", err)
		}
	}
}

func (e *Endpoint) checkURL(v *config.Validator) {
	at := v.At("url")
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "" || len(e.URL) > 2048:
		at.Fault("write for example https://billing.example.com/landline", "not an absolute https:// URL")
		return
	case u.User != nil:
		at.Fault("remove it: receivers verify the signature", "the URL has a user or password")
		return
	}
	allow, err := e.AllowPrivate.prefixes()
	if err != nil {
		return // told at its own place
	}
	if u.Scheme == "http" && len(allow) == 0 {
		at.Fault("use https://, or name the private network that it is in with allow_private", "plain http leaves the message readable on its way")
		return
	}
	if err := egress.CheckURL(u, e.egress()); err != nil {
		at.Fault("use a public address, or name the private network that it is in with allow_private", "%v", err)
	}
}

func (e *Endpoint) checkSecrets(v *config.Validator) {
	const make = "make one with: echo whsec_$(head -c 32 /dev/urandom | base64 -w0)"
	switch {
	case len(e.Secrets) == 0:
		v.Fault(make, "an endpoint needs a signing secret")
	case len(e.Secrets) > maxSecrets:
		v.Fault("remove the oldest", "at most %d secrets are allowed", maxSecrets)
	}
	for i, secret := range e.Secrets {
		if _, err := ParseSecret(secret.Reveal()); err != nil {
			v.At(i).Fault(make, "%s", strings.TrimPrefix(err.Error(), "webhook: "))
		}
		if slices.Index(e.Secrets, secret) < i {
			v.At(i).Fault("remove it", "the secret is there twice")
		}
	}
}

// egress says which addresses the endpoint may be at. Its prefixes are checked.
func (e *Endpoint) egress() egress.Options {
	allow, err := e.AllowPrivate.prefixes()
	if err != nil {
		allow = nil
	}
	return egress.Options{
		Name: "webhook", Timeout: e.Timeout.D(), Untrusted: true, Allow: allow, Refuse: alwaysRefused,
		AllowedOnly: strings.HasPrefix(strings.ToLower(e.URL), "http:"),
	}
}

// wants reports whether the endpoint subscribes to a type.
func (e *Endpoint) wants(eventType string) bool {
	if len(e.Events) == 0 {
		return true
	}
	return slices.ContainsFunc(e.Events, func(pattern string) bool { return matches(pattern, eventType) })
}
