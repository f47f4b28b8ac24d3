package attest

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Options are what the configuration does not say.
type Options struct {
	Challenges  *Challenges         // needed
	AppleRoots  []*x509.Certificate // nil = those of the configuration, or the one that is built in
	GoogleRoots []*x509.Certificate // the same
	Fake        bool                // accept the fake kind; refused unless Development
	Development bool                // profile: development
}

// Verifier verifies every kind that is configured. It is safe for concurrent use.
type Verifier struct {
	challenges *Challenges
	apple      *apple
	play       *play
	android    *android
	fake       bool
}

// New refuses a configuration that lacks something, and the fake kind outside development.
func New(c Config, o Options) (*Verifier, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	if o.Challenges == nil {
		return nil, fmt.Errorf("attest: Options.Challenges is needed")
	}
	if o.Fake && !o.Development {
		return nil, fmt.Errorf("attest: the fake kind is for profile: development alone")
	}
	v := &Verifier{challenges: o.Challenges, fake: o.Fake}
	var err error
	if c.Apple.TeamID != "" {
		v.apple = newApple(c.Apple, firstRoots(o.AppleRoots, c.Apple.roots, appleRootPEM))
	}
	if c.Play.Package != "" {
		if v.play, err = newPlay(c.Play); err != nil {
			return nil, err
		}
	}
	if len(c.AndroidKey.Packages) > 0 {
		roots := firstRoots(o.GoogleRoots, c.AndroidKey.roots, googleRootPEM, googleCA1PEM)
		if v.android, err = newAndroid(c.AndroidKey, roots, c.AndroidKey.revoked); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func firstRoots(given, configured []*x509.Certificate, builtIn ...string) []*x509.Certificate {
	switch {
	case given != nil:
		return given
	case configured != nil:
		return configured
	}
	return pinned(builtIn...)
}

// Kinds are the kinds that are accepted, for what the app is told.
func (v *Verifier) Kinds() []Kind {
	var out []Kind
	for _, k := range []struct {
		kind Kind
		on   bool
	}{{AppAttest, v.apple != nil}, {PlayIntegrity, v.play != nil}, {AndroidKey, v.android != nil}, {Fake, v.fake}} {
		if k.on {
			out = append(out, k.kind)
		}
	}
	return out
}

// SetRevocations swaps the list of revoked Android certificates, nil for none,
// while requests are served.
func (v *Verifier) SetRevocations(r *Revocations) {
	if v.android != nil {
		v.android.revoked.Store(r)
	}
}

// Evidence is what a device sends. Which members are needed depends on Kind.
type Evidence struct {
	Kind       Kind
	ClientData []byte   // every kind: the JSON object that was signed over, see ClientDataHash
	KeyID      string   // AppAttest: what generateKey gave, base64
	Object     []byte   // AppAttest: what attestKey or generateAssertion gave, CBOR
	Token      string   // PlayIntegrity: the integrity token; Fake: its token
	Chain      [][]byte // AndroidKey: the certificates in DER, the key's first
}

// Expected is what the evidence must be about.
type Expected struct {
	Subject    string // that the challenge was given to
	Thumbprint string // RFC 7638, of the installation's key; "" = it has none
}

// Result is what was verified.
type Result struct {
	Verdict   Verdict
	Challenge Challenge // use ID once, until Expires
	Apple     *AppleKey // AppAttest: store it, also its counter
}

// Verify verifies evidence. When Expected names a key, the evidence must be
// about it: the client data has its thumbprint as jkt, or the attested key is
// that key itself.
//
// The error is an *Error when the evidence does not verify, and ErrUnsupported
// when its kind is not accepted here.
func (v *Verifier) Verify(e Evidence, want Expected, now time.Time) (Result, error) {
	data, challenge, err := v.open(e, Attest, want, now)
	if err != nil {
		return Result{}, err
	}
	r := Result{Challenge: challenge}
	switch e.Kind {
	case AppAttest:
		if r.Apple, err = v.apple.attest(e.KeyID, e.Object, data.hash[:], now); err == nil {
			r.Verdict = r.Apple.verdict(now)
		}
	case PlayIntegrity:
		r.Verdict, err = v.play.verify(e.Token, data.hash[:], now)
	case AndroidKey:
		r.Verdict, err = v.android.verify(e.Chain, data.hash[:], now)
	case Fake:
		r.Verdict, err = verifyFake(e.Token, data.hash[:], now)
	}
	if err != nil {
		return Result{}, err
	}
	if want.Thumbprint != "" && data.Thumbprint != want.Thumbprint && r.Verdict.KeyThumbprint != want.Thumbprint {
		return Result{}, bad("", "jkt", "the client data does not name the installation's key")
	}
	return r, nil
}

// VerifyAssertion verifies an App Attest assertion with a key that was attested
// before. Result.Apple is the key with its new counter: store it only where the
// stored counter still is key.Counter, or two assertions could be used at once.
func (v *Verifier) VerifyAssertion(key AppleKey, e Evidence, want Expected, now time.Time) (Result, error) {
	if e.Kind != AppAttest {
		return Result{}, ErrUnsupported
	}
	data, challenge, err := v.open(e, Assert, want, now)
	if err != nil {
		return Result{}, err
	}
	if want.Thumbprint != "" && data.Thumbprint != want.Thumbprint {
		return Result{}, bad("", "jkt", "the client data does not name the installation's key")
	}
	if key, err = v.apple.assert(key, e.Object, data.hash[:]); err != nil {
		return Result{}, err
	}
	return Result{Verdict: key.verdict(now), Challenge: challenge, Apple: &key}, nil
}

// open refuses a kind that is not accepted, and recognises the challenge.
func (v *Verifier) open(e Evidence, purpose Purpose, want Expected, now time.Time) (*clientData, Challenge, error) {
	on := map[Kind]bool{AppAttest: v.apple != nil, PlayIntegrity: v.play != nil, AndroidKey: v.android != nil, Fake: v.fake}
	if !on[e.Kind] {
		return nil, Challenge{}, ErrUnsupported
	}
	data, err := parseClientData(e.ClientData)
	if err != nil {
		return nil, Challenge{}, err
	}
	challenge, err := v.challenges.Open(data.Challenge, purpose, want.Subject, now)
	return data, challenge, err
}
