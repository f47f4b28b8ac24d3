package provider

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/egress"
)

const (
	maxURL      = 2 << 10
	maxDocument = 256 << 10
	maxAnswer   = 64 << 10 // of a token endpoint
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// clients are shared by all providers. None follows redirects: an answer of
// 3xx is an answer that cannot be used.
type clients struct {
	trusted *http.Client // addresses of the configuration
	public  *http.Client // addresses that others wrote
	local   *http.Client // the same, of an issuer on this machine
}

func newClients(timeout time.Duration, log *slog.Logger, reg prometheus.Registerer) clients {
	one := func(untrusted bool, allow []netip.Prefix) *http.Client {
		c := egress.New(egress.Options{
			Name: "identity_provider", Timeout: timeout, Untrusted: untrusted, Allow: allow,
			MaxResponse: maxDocument, Log: log, Metrics: reg,
		})
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return c
	}
	return clients{trusted: one(false, nil), public: one(true, nil), local: one(true, loopback)}
}

func (c clients) close() {
	c.trusted.CloseIdleConnections()
	c.public.CloseIdleConnections()
	c.local.CloseIdleConnections()
}

// caller decides which addresses one provider may make us call.
type caller struct {
	clients clients
	origins map[string]bool // called though they may not be public: https://idp.internal:8443
	local   bool            // the issuer is on this machine
}

// newCaller trusts the origins of configured URLs and of hosts.
func newCaller(c clients, configured []string, hosts []string) *caller {
	k := &caller{clients: c, origins: map[string]bool{}, local: len(configured) > 0}
	for _, raw := range configured {
		u, err := url.Parse(raw)
		if err != nil {
			continue
		}
		k.origins[origin(u)] = true
		k.local = k.local && isLoopback(u.Hostname())
	}
	for _, host := range hosts {
		k.origins[origin(&url.URL{Scheme: "https", Host: host})] = true
	}
	return k
}

// client returns who may call raw.
func (k *caller) client(raw string) (*http.Client, error) {
	u, err := url.Parse(raw)
	switch {
	case len(raw) > maxURL || err != nil || u.Host == "" || u.Opaque != "":
		return nil, misconfigured(nil, ReasonAddress, "an address of the provider is not a URL")
	case u.User != nil || u.Fragment != "":
		return nil, misconfigured(nil, ReasonAddress, "an address of the provider has a user or a fragment")
	case u.Scheme == "https":
	case u.Scheme != "http":
		return nil, misconfigured(nil, ReasonAddress, "an address of the provider is neither https nor http")
	case !k.local || !isLoopback(u.Hostname()):
		return nil, misconfigured(nil, ReasonAddress, "the provider names %s without TLS; http is for an issuer on this machine only", u.Host)
	}
	switch {
	case k.origins[origin(u)]:
		return k.clients.trusted, nil
	case k.local:
		return k.clients.local, nil
	}
	return k.clients.public, nil
}

// origin is scheme://host:port, in lower case.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return strings.ToLower(u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port))
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// answer is what a provider said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// document gets a JSON document.
func (k *caller) document(ctx context.Context, raw string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return answer{}, misconfigured(nil, ReasonAddress, "an address of the provider is not a URL")
	}
	r.Header.Set("Accept", "application/json")
	a, err := k.send(r, maxDocument)
	if err != nil {
		return a, err
	}
	if a.status != http.StatusOK {
		return a, unavailable(nil, ReasonAnswer, "%s answered %d", r.URL.Host, a.status)
	}
	if !jsonLike(a.header.Get("Content-Type")) {
		return a, unavailable(nil, ReasonAnswer, "%s answered with something that is not JSON", r.URL.Host)
	}
	return a, nil
}

// form posts a form. Its answer may have any status below 500 but 3xx and 429.
func (k *caller) form(ctx context.Context, raw string, form url.Values, header http.Header) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, raw, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, misconfigured(nil, ReasonAddress, "an address of the provider is not a URL")
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	return k.send(r, maxAnswer)
}

func (k *caller) send(r *http.Request, limit int64) (a answer, err error) {
	client, err := k.client(r.URL.String())
	if err != nil {
		return a, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return a, unreachable(r, err)
	}
	defer func() {
		if closed := resp.Body.Close(); closed != nil && err == nil {
			a, err = answer{}, unreachable(r, closed)
		}
	}()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return a, unreachable(r, err)
	case int64(len(body)) > limit:
		return a, unavailable(nil, ReasonAnswer, "%s sent more than %d bytes", r.URL.Host, limit)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return a, misconfigured(nil, ReasonAnswer, "%s answered with a redirect, which is not followed; configure the address that it leads to", r.URL.Host)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		e := unavailable(nil, ReasonUnreachable, "%s answered %d", r.URL.Host, resp.StatusCode)
		e.RetryAfter = retryAfter(resp.Header)
		return a, e
	}
	return answer{resp.StatusCode, resp.Header, body}, nil
}

// unreachable keeps the cause without the URL, which net/http would quote.
func unreachable(r *http.Request, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	switch {
	case errors.Is(err, egress.ErrBlocked):
		return misconfigured(err, ReasonAddress, "%s may not be called: it is not the issuer's own address and not public; if it is meant, add it to trusted_hosts", r.URL.Host)
	case errors.Is(err, egress.ErrTooLarge):
		return unavailable(err, ReasonAnswer, "%s sent too much", r.URL.Host)
	}
	return unavailable(err, ReasonUnreachable, "%s cannot be reached", r.URL.Host)
}

// retryAfter reads whole seconds, up to five minutes.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(min(n, 300))*time.Second, 5*time.Minute)
}

// jsonLike takes what providers really send; a page for people it does not take.
func jsonLike(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && media == "" {
		return false
	}
	return strings.Contains(media, "json") || media == "text/plain" || media == "application/octet-stream"
}

// object decodes a JSON object. Its errors do not quote it.
func object(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return errNotObject
	}
	return nil
}

var errNotObject = errors.New("it is not the JSON object that is expected")

// freshness reads max-age of Cache-Control (RFC 9111 §5.2.2.1), within bounds.
func freshness(h http.Header) time.Duration {
	for _, directive := range strings.Split(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && n >= 0 {
			return max(minFresh, min(time.Duration(min(n, 1<<30))*time.Second, maxFresh))
		}
	}
	return defaultFresh
}
