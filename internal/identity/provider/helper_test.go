package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/identity/provider/providertest"
	"landline/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	bundleID   = "com.example.flights"
	servicesID = "com.example.flights.web"
	googleWeb  = "1234-web.apps.googleusercontent.com"
	googleIOS  = "1234-ios.apps.googleusercontent.com"
	callback   = "https://api.example.com/auth/callback"
	nonce      = "n-0S6_WzA2Mj"
)

// fixture is a Set whose Apple, Google and acme are three issuers of this process.
type fixture struct {
	*Set
	t                   testing.TB
	clock               *clock.Fake
	apple, google, acme *providertest.Issuer
	log                 *testkit.Buffer
}

func newFixture(t testing.TB, change ...func(*Config, *Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: clock.NewFake(t0), log: &testkit.Buffer{}}
	f.apple, f.google, f.acme = f.issuer(), f.issuer(), f.issuer()
	key, text := newAppleKey(t)
	for _, id := range []string{bundleID, servicesID} {
		f.apple.AddClient(id, providertest.Client{AppleKey: &key.PublicKey, AppleTeam: "ABCDE12345", AppleKeyID: "FGHIJ67890"})
	}
	f.google.AddClient(googleWeb, providertest.Client{Secret: "google secret:%&"})
	f.acme.AddClient("flights", providertest.Client{Secret: "acme secret:%&"})
	f.acme.AddClient("flights-app", providertest.Client{})
	acme := OIDCConfig{Issuer: f.acme.URL(), ClientIDs: []string{"flights", "flights-app"}, ClientSecret: "acme secret:%&", RedirectURIs: []string{callback}}
	acme.Defaults()
	c := DefaultConfig()
	c.Apple = &AppleConfig{
		ClientIDs: []string{bundleID, servicesID}, WebClientID: servicesID, TeamID: "ABCDE12345", KeyID: "FGHIJ67890",
		PrivateKey: config.Secret(text), RedirectURIs: []string{callback}, StandIn: f.apple.URL(),
	}
	c.Google = &GoogleConfig{
		ClientIDs: []string{googleWeb, googleIOS}, WebClientID: googleWeb, ClientSecret: "google secret:%&",
		RedirectURIs: []string{callback}, StandIn: f.google.URL(),
	}
	c.OIDC["acme"] = acme
	o := Options{Clock: f.clock, Log: slog.New(slog.NewJSONHandler(f.log, nil)), Timeout: 5 * time.Second}
	for _, x := range change {
		x(&c, &o)
	}
	set, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	f.Set = set
	return f
}

func (f *fixture) issuer() *providertest.Issuer {
	f.t.Helper()
	i, err := providertest.Start(f.clock)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := i.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return i
}

func (f *fixture) get(name string) *Provider {
	f.t.Helper()
	p, ok := f.Get(name)
	if !ok {
		f.t.Fatalf("there is no provider %s", name)
	}
	return p
}

// verify is Verify of a token with the usual nonce.
func (f *fixture) verify(name, token string) (*Claims, error) {
	f.t.Helper()
	return f.get(name).Verify(context.Background(), Token{IDToken: token, Nonce: nonce})
}

func newAppleKey(t testing.TB) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// wants checks kind and reason of an error.
func wants(t testing.TB, what string, err error, kind Kind, reason Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind || e.Reason != reason {
		t.Errorf("%s: got %v, want %s (%s)", what, err, kind, reason)
		return &Error{}
	}
	if e.Provider == "" || e.Detail == "" {
		t.Errorf("%s: %q does not say which provider and what", what, err)
	}
	for sentinel, is := range map[error]bool{ErrRefused: kind == Refused, ErrUnavailable: kind == Unavailable, ErrMisconfigured: kind == Misconfigured} {
		if errors.Is(err, sentinel) != is {
			t.Errorf("%s: errors.Is(%v, %v) is %t", what, err, sentinel, !is)
		}
	}
	return e
}

// cacheFixture is one cache, for properties.
type cacheFixture struct {
	cache *cached[int]
	clock *clock.Fake
	life  *life
	tries []time.Time
}

func newFixtureFor(rapidT interface{ Helper() }) *cacheFixture {
	rapidT.Helper()
	c := clock.NewFake(t0)
	l := newLife()
	return &cacheFixture{cache: &cached[int]{clock: c, life: l, maxStale: 24 * time.Hour, patience: time.Minute}, clock: c, life: l}
}

// settle waits for a fetch that nobody waited for.
func (f *cacheFixture) settle() {
	f.cache.mu.Lock()
	flight := f.cache.flight
	f.cache.mu.Unlock()
	if flight != nil {
		<-flight
	}
}

func (f *cacheFixture) end() { f.life.end() }
