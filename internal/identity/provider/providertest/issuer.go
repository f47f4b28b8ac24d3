// Package providertest plays a sign-in provider on this machine: an OpenID
// Connect issuer with discovery, rotating keys, an authorization endpoint that
// signs its user in without a question, a token and a revocation endpoint, and
// the notices of Apple and Google. Its switches make it fail in the ways in which
// providers fail.
//
// It is for tests and for development, as identity.providers.*.stand_in or as an
// issuer of identity.providers.oidc. It signs whatever it is asked to: it listens
// on a loopback address only.
package providertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/clock"
)

// An Endpoint is a path of the issuer.
type Endpoint string

// The endpoints.
const (
	Discovery Endpoint = "/.well-known/openid-configuration"
	RISC      Endpoint = "/.well-known/risc-configuration"
	Keys      Endpoint = "/keys"
	Authorize Endpoint = "/authorize"
	Token     Endpoint = "/token"
	Revoke    Endpoint = "/revoke"
)

// Client is one that the issuer knows. Without Secret and AppleKey it is public and
// must use PKCE.
type Client struct {
	Secret     string
	AppleKey   *ecdsa.PublicKey // its secret is a JWT signed with this key, as Apple's
	AppleTeam  string
	AppleKeyID string
}

// Failure is how an endpoint fails. The zero Failure is none.
type Failure struct {
	Status      int    // answered instead of 200
	Location    string // of a redirect, with a Status of 3xx
	ContentType string // instead of application/json
	Body        []byte // instead of the right one; nil = the right one where Status is 0
	Hang        bool   // no answer until the client gives up or Heal is called
}

// Issuer is a running issuer. Its methods are safe for concurrent use.
type Issuer struct {
	url    string
	clock  clock.Clock
	server *http.Server
	done   chan struct{}

	mu       sync.Mutex
	keys     []*signingKey // the last one signs
	made     int
	clients  map[string]Client
	codes    map[string]grant
	failures map[Endpoint]Failure
	healed   chan struct{}
	calls    map[Endpoint]int
	called   chan struct{} // closed and made anew at every call
	metadata map[string]any
	user     map[string]any
	denied   string
	revoked  []string
	forms    map[Endpoint]url.Values
}

// grant is what a code stands for.
type grant struct {
	client, redirectURI, challenge string
	claims                         map[string]any
}

// Start returns an issuer that listens on a free loopback port and whose time is
// c's. It is to be closed.
func Start(c clock.Clock) (*Issuer, error) { return StartAt("127.0.0.1:0", c) }

// StartAt is Start at an address of this machine.
func StartAt(address string, c clock.Clock) (*Issuer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("providertest: %s is not an address of this machine alone", address), listener.Close())
	}
	i := &Issuer{
		url: "http://" + listener.Addr().String(), clock: c, done: make(chan struct{}),
		clients: map[string]Client{}, codes: map[string]grant{}, failures: map[Endpoint]Failure{},
		healed: make(chan struct{}), calls: map[Endpoint]int{}, called: make(chan struct{}), forms: map[Endpoint]url.Values{}, metadata: map[string]any{},
		user: map[string]any{"sub": "user-1", "email": "ada@example.com", "email_verified": true, "name": "Ada"},
	}
	i.Rotate()
	mux := http.NewServeMux()
	for endpoint, serve := range map[Endpoint]http.HandlerFunc{
		Discovery: i.serveDiscovery, RISC: i.serveDiscovery, Keys: i.serveKeys,
		Authorize: i.serveAuthorize, Token: i.serveToken, Revoke: i.serveRevoke,
	} {
		mux.HandleFunc(string(endpoint), i.withFailures(endpoint, serve))
	}
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(i.done)
		_ = i.server.Serve(listener) // ends with ErrServerClosed
	}()
	return i, nil
}

// Close ends the issuer and waits for what it does.
func (i *Issuer) Close() error {
	i.Heal()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := i.server.Shutdown(ctx)
	<-i.done
	return err
}

// URL is the address and the issuer, without a slash at its end.
func (i *Issuer) URL() string { return i.url }

// AddClient makes the issuer know a client.
func (i *Issuer) AddClient(id string, c Client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clients[id] = c
}

// SetUser sets the claims of whom the authorization endpoint signs in.
func (i *Issuer) SetUser(claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.user = maps.Clone(claims)
}

// Deny makes the authorization endpoint send an error back; "" = no more.
func (i *Issuer) Deny(code string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.denied = code
}

// SetMetadata replaces a member of the discovery documents; nil removes it.
func (i *Issuer) SetMetadata(name string, value any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.metadata[name] = value
}

// Fail makes endpoints fail, all if none is named.
func (i *Issuer) Fail(f Failure, endpoints ...Endpoint) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(endpoints) == 0 {
		endpoints = []Endpoint{Discovery, RISC, Keys, Authorize, Token, Revoke}
	}
	for _, e := range endpoints {
		i.failures[e] = f
	}
}

// Heal ends all failures, and requests that hang.
func (i *Issuer) Heal() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.failures)
	close(i.healed)
	i.healed = make(chan struct{})
}

// Calls returns how often an endpoint was called.
func (i *Issuer) Calls(e Endpoint) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.calls[e]
}

// Await returns when an endpoint was called n times, or with the error of ctx.
func (i *Issuer) Await(ctx context.Context, e Endpoint, n int) error {
	for {
		i.mu.Lock()
		calls, called := i.calls[e], i.called
		i.mu.Unlock()
		if calls >= n {
			return nil
		}
		select {
		case <-called:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Form returns what was last posted to Token or Revoke.
func (i *Issuer) Form(e Endpoint) url.Values {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.forms[e])
}

// Revoked returns the tokens that were revoked.
func (i *Issuer) Revoked() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.revoked)
}

func (i *Issuer) withFailures(e Endpoint, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.calls[e]++
		close(i.called)
		i.called = make(chan struct{})
		f, healed := i.failures[e], i.healed
		i.mu.Unlock()
		if f.Hang {
			select {
			case <-r.Context().Done():
				return
			case <-healed:
			}
		}
		if f.ContentType != "" {
			w.Header().Set("Content-Type", f.ContentType)
		}
		if f.Location != "" {
			w.Header().Set("Location", f.Location)
		}
		switch {
		case f.Status != 0:
			w.WriteHeader(f.Status)
			fallthrough
		case f.Body != nil:
			_, _ = w.Write(f.Body) // the client may have gone
		default:
			serve(w, r)
		}
	}
}

func (i *Issuer) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	doc := map[string]any{
		"issuer": i.url, "authorization_endpoint": i.url + string(Authorize), "token_endpoint": i.url + string(Token),
		"jwks_uri": i.url + string(Keys), "revocation_endpoint": i.url + string(Revoke),
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"response_modes_supported":              []string{"query", "form_post"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post", "none"},
		"authorization_response_iss_parameter_supported": true,
	}
	i.mu.Lock()
	for name, value := range i.metadata {
		if doc[name] = value; value == nil {
			delete(doc, name)
		}
	}
	i.mu.Unlock()
	writeJSON(w, http.StatusOK, doc)
}

func (i *Issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	var set jose.JSONWebKeySet
	for _, k := range i.keys {
		set.Keys = append(set.Keys, k.public())
	}
	i.mu.Unlock()
	w.Header().Set("Cache-Control", "public, max-age=3600")
	writeJSON(w, http.StatusOK, set)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}

func newCode() string { return "code-" + rand.Text() }
