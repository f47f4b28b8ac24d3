package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/identity/provider/providertest"
)

func (f *fixture) token() string {
	return f.acme.IDToken("flights", map[string]any{"nonce": nonce})
}

func TestKeysRotate(t *testing.T) {
	f := newFixture(t)
	old := f.acme.KeySet().Keys[0].KeyID
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	before := f.token()
	f.acme.Rotate()
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("right after a fetch: %v", err)
	}
	if _, err := f.verify("oidc:acme", before); err != nil {
		t.Errorf("with the key before: %v", err)
	}
	f.acme.RotateES256()
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("of another type: %v", err)
	}
	f.acme.Withdraw(old)
	f.clock.Advance(2 * time.Hour)
	f.acme.SetUser(map[string]any{"sub": "user-1"})
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	if set, _, err := f.get("oidc:acme").keys.get(context.Background()); err != nil || len(set.candidates(old, "RS256")) != 0 {
		t.Errorf("a withdrawn key is still there two hours later: %v", err)
	}
}

// A thousand phones that come at once make one fetch.
func TestOneFetchForAll(t *testing.T) {
	f := newFixture(t)
	f.acme.Fail(providertest.Failure{Hang: true}, providertest.Keys)
	token := f.token()
	var group sync.WaitGroup
	errs := make(chan error, 64)
	for range cap(errs) {
		group.Go(func() {
			_, err := f.verify("oidc:acme", token)
			errs <- err
		})
	}
	// One caller that gives up takes nobody with it.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := f.get("oidc:acme").Verify(ctx, Token{IDToken: token, Nonce: nonce})
	wants(t, "the one that gave up", err, Unavailable, ReasonUnreachable)
	f.acme.Heal()
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if keys, docs := f.acme.Calls(providertest.Keys), f.acme.Calls(providertest.Discovery); keys != 1 || docs != 1 {
		t.Errorf("%d fetches of keys and %d of the discovery document", keys, docs)
	}
}

func TestProviderDown(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Options) { c.MaxStale = 0 }) // 0 = the default of 24 hours
	token := f.token()
	f.acme.Fail(providertest.Failure{Status: http.StatusBadGateway})
	_, err := f.verify("oidc:acme", token)
	if e := wants(t, "down from the start", err, Unavailable, ReasonUnreachable); e.RetryAfter != firstBackoff {
		t.Errorf("retry after %s, want %s", e.RetryAfter, firstBackoff)
	}
	f.acme.Heal()
	_, err = f.verify("oidc:acme", token)
	wants(t, "back, but within the backoff", err, Unavailable, ReasonUnreachable)
	f.clock.Advance(firstBackoff)
	if _, err = f.verify("oidc:acme", token); err != nil {
		t.Fatalf("back: %v", err)
	}

	f.acme.Fail(providertest.Failure{Status: http.StatusServiceUnavailable})
	for range 23 {
		f.clock.Advance(time.Hour)
		if _, err := f.verify("oidc:acme", f.token()); err != nil {
			t.Fatalf("known keys are not used while the provider is down: %v", err)
		}
	}
	f.acme.Rotate()
	_, err = f.verify("oidc:acme", f.token())
	wants(t, "a new key while the provider is down", err, Unavailable, ReasonUnreachable)
	f.clock.Advance(time.Hour)
	_, err = f.verify("oidc:acme", f.token())
	wants(t, "after max_stale", err, Unavailable, ReasonUnreachable)
	f.acme.Heal()
	f.clock.Advance(time.Minute)
	if _, err = f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("back again: %v", err)
	}
	if log := f.log.String(); !strings.Contains(log, "oidc:acme") {
		t.Errorf("nobody was told: %s", log)
	}
}

// While keys are in use they are fetched in good time, and nobody waits for that.
func TestKeysAreFetchedBeforeTheyAreOld(t *testing.T) {
	f := newFixture(t)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	f.acme.Fail(providertest.Failure{Hang: true}, providertest.Keys)
	f.clock.Advance(31 * time.Minute) // max-age is an hour
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("a caller waited: %v", err)
	}
	keys := f.get("oidc:acme").keys.(*cached[keySet])
	keys.mu.Lock()
	flight := keys.flight
	keys.mu.Unlock()
	if flight == nil {
		t.Fatal("no fetch is under way")
	}
	f.acme.Heal()
	<-flight
	if age, ok := keys.age(); age != 0 || !ok {
		t.Errorf("the keys are %s old", age)
	}
}

func TestAClockThatIsSetBack(t *testing.T) {
	f := newFixture(t)
	f.clock.Advance(1000 * time.Hour)
	if err := f.get("oidc:acme").Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(-1000 * time.Hour)
	f.acme.Rotate()
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("a new key is not seen until the clock is where it was: %v", err)
	}
	f.acme.Fail(providertest.Failure{Status: 503})
	f.clock.Advance(24 * time.Hour)
	_, err := f.verify("oidc:acme", f.token())
	wants(t, "a day later", err, Unavailable, ReasonUnreachable)

	// Keys do not get younger by it.
	down := newFixture(t)
	down.clock.Advance(1000 * time.Hour)
	if err := down.get("oidc:acme").Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	down.acme.Fail(providertest.Failure{Status: 503})
	down.clock.Advance(-1000 * time.Hour)
	if _, err := down.verify("oidc:acme", down.token()); err != nil {
		t.Errorf("known keys, provider down: %v", err)
	}
	down.clock.Advance(24 * time.Hour)
	_, err = down.verify("oidc:acme", down.token())
	wants(t, "a day later", err, Unavailable, ReasonUnreachable)
}

// A provider that hangs holds nobody up for longer than patience, and nobody at
// all once it is known to be down.
func TestAProviderThatHangs(t *testing.T) {
	f := newFixture(t)
	keys := f.get("oidc:acme").keys.(*cached[keySet])
	keys.patience = time.Millisecond
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	f.acme.Fail(providertest.Failure{Hang: true}, providertest.Keys)
	f.clock.Advance(2 * time.Hour)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	keys.mu.Lock()
	flight := keys.flight
	keys.failures, keys.patience = 1, time.Hour
	keys.mu.Unlock()
	if flight == nil {
		t.Fatal("the caller waited until the fetch was over")
	}
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	f.acme.Heal()
	<-flight
	if age, _ := keys.age(); age != 0 {
		t.Errorf("the keys are %s old", age)
	}
}

// What net/http says about a call that failed quotes the address.
func TestErrorsHaveNoAddress(t *testing.T) {
	c := newClients(time.Second, nil, nil)
	defer c.close()
	_, _, err := fetchKeys(t.Context(), newCaller(c, []string{"http://127.0.0.1:1"}, nil), fixed{keys: "http://127.0.0.1:1/canary"})
	e := wants(t, "nobody listens", (&Provider{name: "x"}).from(err), Unavailable, ReasonUnreachable)
	if strings.Contains(e.Error(), "canary") || e.Cause == nil {
		t.Error(e)
	}
}

// What is counted has the configuration's names and our reasons for labels.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFixture(t, func(_ *Config, o *Options) { o.Metrics = reg })
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	_, err := f.verify("oidc:acme", "x")
	wants(t, "x", err, Refused, ReasonMalformed)
	f.acme.Fail(providertest.Failure{Status: 503})
	f.clock.Advance(2 * time.Hour)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"landline_identity_provider_tokens_total oidc:acme ok":                2,
		"landline_identity_provider_tokens_total oidc:acme malformed":         1,
		"landline_identity_provider_key_fetches_total oidc:acme ok":           1,
		"landline_identity_provider_key_fetches_total oidc:acme unreachable":  1,
		"landline_identity_provider_keys_fetched_timestamp_seconds oidc:acme": float64(t0.Unix()),
		"landline_egress_requests_total identity_provider 2xx":                2,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// What providers answer when they are not well. Nothing of it is ever taken for keys.
func TestAnswersThatCannotBeUsed(t *testing.T) {
	huge := []byte(`{"keys":[` + strings.Repeat(" ", 300<<10) + `]}`)
	for name, c := range map[string]struct {
		at     providertest.Endpoint
		fail   providertest.Failure
		kind   Kind
		reason Reason
	}{
		"huge keys":                     {providertest.Keys, providertest.Failure{Body: huge}, Unavailable, ReasonAnswer},
		"many keys":                     {providertest.Keys, providertest.Failure{Body: []byte(`{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`)}, Unavailable, ReasonAnswer},
		"no keys":                       {providertest.Keys, providertest.Failure{Body: []byte(`{"keys":[]}`)}, Unavailable, ReasonAnswer},
		"null":                          {providertest.Keys, providertest.Failure{Body: []byte(`null`)}, Unavailable, ReasonAnswer},
		"deep":                          {providertest.Keys, providertest.Failure{Body: []byte(strings.Repeat("[", 200<<10))}, Unavailable, ReasonAnswer},
		"only symmetric keys":           {providertest.Keys, providertest.Failure{Body: []byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`)}, Unavailable, ReasonAnswer},
		"a page for people":             {providertest.Keys, providertest.Failure{ContentType: "text/html"}, Unavailable, ReasonAnswer},
		"a redirect":                    {providertest.Keys, providertest.Failure{Status: 302, Location: "/keys2"}, Misconfigured, ReasonAnswer},
		"404":                           {providertest.Keys, providertest.Failure{Status: 404}, Unavailable, ReasonAnswer},
		"201":                           {providertest.Keys, providertest.Failure{Status: 201}, Unavailable, ReasonAnswer},
		"429":                           {providertest.Keys, providertest.Failure{Status: 429}, Unavailable, ReasonUnreachable},
		"slow":                          {providertest.Keys, providertest.Failure{Hang: true}, Unavailable, ReasonUnreachable},
		"discovery: slow":               {providertest.Discovery, providertest.Failure{Hang: true}, Unavailable, ReasonUnreachable},
		"discovery: not JSON":           {providertest.Discovery, providertest.Failure{Body: []byte("hello")}, Unavailable, ReasonAnswer},
		"discovery: a page":             {providertest.Discovery, providertest.Failure{ContentType: "text/html"}, Unavailable, ReasonAnswer},
		"discovery: a redirect":         {providertest.Discovery, providertest.Failure{Status: 301, Location: "http://127.0.0.1:1/"}, Misconfigured, ReasonAnswer},
		"discovery: of another issuer":  {providertest.Discovery, providertest.Failure{Body: []byte(`{"issuer":"https://evil.example","jwks_uri":"https://evil.example/keys"}`)}, Misconfigured, ReasonIssuerDiffers},
		"discovery: an empty object":    {providertest.Discovery, providertest.Failure{Body: []byte(`{}`)}, Misconfigured, ReasonIssuerDiffers},
		"discovery: 300 KiB of nothing": {providertest.Discovery, providertest.Failure{Body: make([]byte, 300<<10)}, Unavailable, ReasonAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(_ *Config, o *Options) {
				if c.fail.Hang {
					o.Timeout = 50 * time.Millisecond
				}
			})
			f.acme.Fail(c.fail, c.at)
			_, err := f.verify("oidc:acme", f.token())
			wants(t, name, err, c.kind, c.reason)
			// A set that was good stays, whatever comes after it.
			good := newFixture(t)
			if _, err := good.verify("oidc:acme", good.token()); err != nil {
				t.Fatal(err)
			}
			good.get("oidc:acme").keys.(*cached[keySet]).patience = time.Millisecond
			good.acme.Fail(c.fail, c.at)
			good.clock.Advance(2 * time.Hour)
			if _, err := good.verify("oidc:acme", good.token()); err != nil {
				t.Errorf("it replaced keys that were good: %v", err)
			}
		})
	}
}

func TestKindlyReadAnswers(t *testing.T) {
	for _, contentType := range []string{"application/jwk-set+json", "text/plain; charset=utf-8", "application/octet-stream", "application/json;charset=UTF-8"} {
		f := newFixture(t)
		f.acme.Fail(providertest.Failure{ContentType: contentType})
		if _, err := f.verify("oidc:acme", f.token()); err != nil {
			t.Errorf("%s: %v", contentType, err)
		}
	}
}

// One bad key, or many, do no harm to the good one.
func TestKeysThatAreLeftOut(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	marshal := func(k jose.JSONWebKey) string {
		b, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	members := func(k jose.JSONWebKey, more string) string {
		return strings.TrimSuffix(marshal(k), "}") + more + "}"
	}
	public := jose.JSONWebKey{Key: &good.PublicKey, KeyID: "good"}
	bad := map[string]string{
		"private":            marshal(jose.JSONWebKey{Key: ec, KeyID: "bad"}),
		"weak":               marshal(jose.JSONWebKey{Key: &weak.PublicKey, KeyID: "bad"}),
		"for encryption":     marshal(jose.JSONWebKey{Key: &good.PublicKey, KeyID: "bad", Use: "enc"}),
		"of encryption":      marshal(jose.JSONWebKey{Key: &good.PublicKey, KeyID: "bad", Algorithm: "RSA-OAEP"}),
		"HS256":              marshal(jose.JSONWebKey{Key: &good.PublicKey, KeyID: "bad", Algorithm: "HS256"}),
		"wrap":               members(jose.JSONWebKey{Key: &good.PublicKey, KeyID: "bad"}, `,"key_ops":["wrapKey"]`),
		"symmetric":          `{"kty":"oct","k":"c2VjcmV0","kid":"bad"}`,
		"unknown type":       `{"kty":"XYZ","kid":"bad"}`,
		"off the curve":      `{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE","kid":"bad"}`,
		"secp256k1":          `{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA","kid":"bad"}`,
		"e is 1":             `{"kty":"RSA","n":"` + strings.Repeat("_", 342) + `","e":"AQ","kid":"bad"}`,
		"n is 64 Kibit":      `{"kty":"RSA","n":"` + strings.Repeat("_", 10923) + `","e":"AQAB","kid":"bad"}`,
		"no object":          `7`,
		"long id":            marshal(jose.JSONWebKey{Key: &good.PublicKey, KeyID: strings.Repeat("k", 300)}),
		"members of no type": `{"kty":7,"kid":[]}`,
	}
	for name, key := range bad {
		if set, err := parseKeys([]byte(`{"keys":[` + key + `]}`)); err == nil {
			t.Errorf("%s: is taken: %v", name, set)
		}
		set, err := parseKeys([]byte(`{"keys":[` + key + `,` + members(public, `,"x5c":["rubbish"],"new":{}`) + `]}`))
		if err != nil || len(set) != 1 || set[0].KeyID != "good" {
			t.Errorf("%s: spoils the good one: %v", name, err)
		}
	}
}

func TestKeysWithTheSameID(t *testing.T) {
	f := newFixture(t)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ours := f.acme.KeySet().Keys[0]
	twin := jose.JSONWebKey{Key: &stranger.PublicKey, KeyID: ours.KeyID, Algorithm: "RS256"}
	serve := func(keys ...jose.JSONWebKey) {
		body, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		f.acme.Fail(providertest.Failure{Body: body}, providertest.Keys)
		f.clock.Advance(2 * time.Hour)
	}
	serve(twin, ours)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("the second of two keys with one id: %v", err)
	}
	serve(twin, twin, twin, twin, ours)
	_, err = f.verify("oidc:acme", f.token())
	wants(t, "work is bounded", err, Refused, ReasonSignature)

	// Without a key id one key must be the only one that fits.
	payload, err := json.Marshal(map[string]any{"iss": f.acme.URL(), "aud": "flights", "sub": "x", "nonce": nonce, "iat": f.clock.Now().Unix(), "exp": f.clock.Now().Add(3 * time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	anonymous := providertest.SignBytes(jose.RS256, stranger, "", payload, nil)
	_, err = f.verify("oidc:acme", anonymous)
	wants(t, "no kid, several keys", err, Refused, ReasonUnknownKey)
	f2 := newFixture(t)
	serve2, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &stranger.PublicKey, KeyID: "only"}}})
	if err != nil {
		t.Fatal(err)
	}
	f2.acme.Fail(providertest.Failure{Body: serve2}, providertest.Keys)
	payload, err = json.Marshal(map[string]any{"iss": f2.acme.URL(), "aud": "flights", "sub": "x", "nonce": nonce, "iat": t0.Unix(), "exp": t0.Add(time.Minute).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f2.verify("oidc:acme", providertest.SignBytes(jose.RS256, stranger, "", payload, nil)); err != nil {
		t.Errorf("no kid, one key: %v", err)
	}
}

// A closed Set asks nobody any more, and says so in a way that clients retry.
func TestCloseEndsFetches(t *testing.T) {
	f := newFixture(t)
	f.acme.Fail(providertest.Failure{Hang: true}, providertest.Discovery)
	result := make(chan error, 1)
	go func() {
		_, err := f.verify("oidc:acme", f.token())
		result <- err
	}()
	if err := f.acme.Await(t.Context(), providertest.Discovery, 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	wants(t, "while it closes", <-result, Unavailable, ReasonUnreachable)
	f.clock.Advance(time.Hour)
	_, err := f.verify("oidc:acme", f.token())
	wants(t, "closed", err, Unavailable, ReasonClosed)
}
