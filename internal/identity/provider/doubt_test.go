package provider

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/identity/provider/providertest"
)

// forged is a token of now that names acme's key and was not signed with it.
func (f *fixture) forged() string {
	f.t.Helper()
	return f.stranger(f.acme.KeySet().Keys[0].KeyID)
}

// An issuer that puts a new key under the id of the one before locks nobody out.
func TestAKeyIsReplacedUnderItsID(t *testing.T) {
	f := newFixture(t)
	before := f.token()
	if _, err := f.verify("oidc:acme", before); err != nil {
		t.Fatal(err)
	}
	f.acme.Replace()
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("the new key: %v", err)
	}
	_, err := f.verify("oidc:acme", before)
	wants(t, "the key before", err, Refused, ReasonSignature)
	if n := f.acme.Calls(providertest.Keys); n != 2 {
		t.Errorf("%d fetches, want the first and one for the new key", n)
	}
	// Another one within the minute is found when the minute is over.
	f.acme.Replace()
	_, err = f.verify("oidc:acme", f.token())
	wants(t, "once more at once", err, Refused, ReasonSignature)
	f.clock.Advance(doubtEvery)
	if _, err = f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// Who forges signatures makes one fetch a minute, and none of those that new keys need.
func TestForgedSignaturesMakeFewFetches(t *testing.T) {
	f := newFixture(t)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	first := f.acme.Calls(providertest.Keys)
	for range 60 {
		var group sync.WaitGroup
		for range 4 {
			token := f.forged()
			group.Go(func() {
				_, err := f.verify("oidc:acme", token)
				wants(t, "forged", err, Refused, ReasonSignature)
			})
		}
		group.Wait()
		f.clock.Advance(3 * time.Second)
	}
	if n := f.acme.Calls(providertest.Keys) - first; n != 3 {
		t.Errorf("%d fetches in three minutes, want 3", n)
	}
	f.acme.Rotate()
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("a new key: %v", err)
	}
}

// While the issuer is down a signature that known keys do not verify is refused as
// ever, and asks for no fetch before the time.
func TestForgedSignaturesWhileTheProviderIsDown(t *testing.T) {
	f := newFixture(t)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	f.acme.Fail(providertest.Failure{Status: http.StatusBadGateway})
	before := f.acme.Calls(providertest.Keys) + f.acme.Calls(providertest.Discovery)
	for i := range 5 {
		_, err := f.verify("oidc:acme", f.forged())
		wants(t, fmt.Sprint("forged ", i), err, Refused, ReasonSignature)
	}
	if n := f.acme.Calls(providertest.Keys) + f.acme.Calls(providertest.Discovery) - before; n > 2 {
		t.Errorf("%d calls", n)
	}
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// Keys of the configuration are never fetched.
func TestForgedSignatureOfAStaticKey(t *testing.T) {
	key, err := strangersKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o, err := open(providertest.SignBytes(jose.RS256, other, "k", []byte(`{}`), nil), algorithms, idTokenTypes)
	if err != nil {
		t.Fatal(err)
	}
	set := staticKeys{{Key: &key.PublicKey, KeyID: "k"}}
	wants(t, "forged", (&Provider{name: "x"}).from(o.verify(t.Context(), set, t0)), Refused, ReasonSignature)
}
