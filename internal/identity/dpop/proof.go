package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"landline/internal/clock"
)

// The bounds of a proof.
const (
	MaxProof = 8 << 10 // bytes of the field
	MaxJTI   = 128     // bytes
	MinJTI   = 8       // bytes; RFC 9449 §4.2 asks for 96 bits of randomness or a UUID

	// Window is how far iat may be from the server's time when Options say nothing else.
	Window = 60 * time.Second

	maxWindow = 15 * time.Minute
	typ       = "dpop+jwt"
	minRSA    = 2048 // bits
	maxRSA    = 4096
)

var b64 = base64.RawURLEncoding.Strict()

// edDSA25519 is the name that RFC 9864 gives to EdDSA with Ed25519. Newer clients
// use no other. go-jose does not know it.
const edDSA25519 jose.SignatureAlgorithm = "Ed25519"

// supported is every algorithm that may be allowed: asymmetric signatures (RFC 9449 §11.6).
var supported = []jose.SignatureAlgorithm{
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, edDSA25519, jose.PS256, jose.PS384, jose.PS512, jose.RS256, jose.RS384, jose.RS512,
}

// Options say which proofs a Verifier accepts.
type Options struct {
	Algorithms   []jose.SignatureAlgorithm // nil = ES256 and EdDSA (Ed25519), which phones and browsers have
	Window       time.Duration             // how far iat may be from now; 0 = Window, at most 15m
	Nonces       *Nonces                   // nil = no nonces are given
	RequireNonce bool                      // refuse proofs without a nonce; needs Nonces
	Clock        clock.Clock               // nil = clock.System
}

// Verifier verifies proofs. It is safe for concurrent use and keeps no state.
type Verifier struct {
	algorithms []jose.SignatureAlgorithm
	names      string
	window     time.Duration
	nonces     *Nonces
	required   bool
	clock      clock.Clock
}

// New refuses algorithms that are not asymmetric signatures, a window above 15
// minutes, and RequireNonce without Nonces.
func New(o Options) (*Verifier, error) {
	v := &Verifier{algorithms: o.Algorithms, window: o.Window, nonces: o.Nonces, required: o.RequireNonce, clock: o.Clock}
	if len(v.algorithms) == 0 {
		v.algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, edDSA25519}
	}
	if v.window == 0 {
		v.window = Window
	}
	if v.clock == nil {
		v.clock = clock.System
	}
	names := make([]string, len(v.algorithms))
	for i, a := range v.algorithms {
		if !slices.Contains(supported, a) {
			return nil, fmt.Errorf("dpop: %q is not an asymmetric signature algorithm that is supported; choose of %v", a, supported)
		}
		names[i] = string(a)
	}
	v.names = strings.Join(names, " ")
	switch {
	case v.window < 0 || v.window > maxWindow:
		return nil, fmt.Errorf("dpop: the window must be 1s to %s, is %s", maxWindow, v.window)
	case v.required && v.nonces == nil:
		return nil, fmt.Errorf("dpop: a nonce cannot be required when none is given: set Nonces")
	}
	return v, nil
}

// Algorithms are the names of the accepted algorithms, separated by spaces: the
// member algs of a challenge (RFC 9449 §7.1) and, split, the metadata
// dpop_signing_alg_values_supported (§5.1).
func (v *Verifier) Algorithms() string { return v.names }

// Request is what a proof must be made for.
type Request struct {
	Fields      []string // every value of the field DPoP, as in http.Header["Dpop"]
	Method      string   // of the request, as sent
	URL         string   // as the client sees it: behind a proxy the public scheme and host; query and fragment are ignored
	AccessToken string   // that the request carries; "" at the token endpoint
}

// Proof is a verified proof.
type Proof struct {
	Key        crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
	Thumbprint string           // RFC 7638 with SHA-256, base64url: what cnf.jkt says (RFC 9449 §6.1)
	ReplayID   string           // what must be seen once: a hash of key and jti, 43 characters
	Expires    time.Time        // from then on the proof is refused by its time, so that ReplayID may be forgotten
	IssuedAt   time.Time        // what the client's clock showed
	NextNonce  string           // the value to give in NonceField; "" = the client has the current one, or none are given
}

type claims struct {
	ID       string   `json:"jti"`
	Method   string   `json:"htm"`
	URL      string   `json:"htu"`
	IssuedAt *float64 `json:"iat"`
	Hash     *string  `json:"ath"`
	Nonce    *string  `json:"nonce"`
}

// Verify checks a proof as RFC 9449 §4.3 says, but for its single use. The error
// is an *Error, or says that the server could not make a nonce.
func (v *Verifier) Verify(r Request) (*Proof, error) {
	p, err := v.verify(r)
	if err == nil {
		return p, nil
	}
	if e, ok := err.(*Error); ok && e.Code == UseNonce && e.Nonce == "" {
		nonce, err := v.nonces.Current(v.clock.Now())
		if err != nil {
			return nil, err
		}
		return nil, &Error{Code: e.Code, Detail: e.Detail, Nonce: nonce}
	}
	return nil, err
}

func (v *Verifier) verify(r Request) (*Proof, error) {
	jws, err := v.parse(r.Fields)
	if err != nil {
		return nil, err
	}
	jwk, err := header(jws)
	if err != nil {
		return nil, err
	}
	payload, ok := signed(r.Fields[0], jws, jwk)
	if !ok {
		return nil, invalid("its signature does not verify with its jwk")
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil {
		return nil, invalid("its payload is not a JSON object with the claims jti, htm, htu and iat, each once")
	}
	if err := c.check(r); err != nil {
		return nil, err
	}
	sum, joseErr := jwk.Thumbprint(crypto.SHA256)
	if joseErr != nil {
		return nil, invalid("its jwk has no thumbprint")
	}
	p := &Proof{Key: jwk.Key, Thumbprint: b64.EncodeToString(sum), IssuedAt: time.Unix(int64(math.Floor(*c.IssuedAt)), 0)}
	p.ReplayID = replayID(p.Thumbprint, c.ID)
	return p, v.checkTime(p, &c)
}

// parse reads the one field.
func (v *Verifier) parse(fields []string) (*jose.JSONWebSignature, error) {
	switch {
	case len(fields) == 0 || len(fields) == 1 && fields[0] == "":
		return nil, invalid("the request has no field DPoP with a proof")
	case len(fields) > 1:
		return nil, invalid("the request has more than one field DPoP")
	}
	text := fields[0]
	if len(text) > MaxProof || strings.Count(text, ".") != 2 {
		return nil, invalid(fmt.Sprintf("it is not a compact JWS of at most %d bytes", MaxProof))
	}
	jws, err := jose.ParseSignedCompact(text, v.algorithms)
	if err != nil {
		return nil, invalid("it is not a compact JWS signed with " + strings.ReplaceAll(v.names, " ", " or ") + " whose jwk is a public key")
	}
	return jws, nil
}

// header returns the key of a proof whose header is as RFC 9449 §4.2 says.
func header(jws *jose.JSONWebSignature) (*jose.JSONWebKey, error) {
	h := jws.Signatures[0].Protected
	if t, _ := h.ExtraHeaders[jose.HeaderType].(string); t != typ {
		return nil, invalid("its typ is not " + typ)
	}
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := h.ExtraHeaders[name]; ok {
			return nil, invalid("its header has " + string(name) + ", which no extension in use needs")
		}
	}
	if h.JSONWebKey == nil || !h.JSONWebKey.Valid() || !h.JSONWebKey.IsPublic() {
		return nil, invalid("its header has no public jwk")
	}
	if !fits(h.JSONWebKey.Key, jose.SignatureAlgorithm(h.Algorithm)) {
		return nil, invalid("its jwk does not fit its alg, or is an RSA key of less than 2048 or more than 4096 bits")
	}
	return h.JSONWebKey, nil
}

// signed returns the payload of text, which jws was parsed from, when it is signed with jwk.
func signed(text string, jws *jose.JSONWebSignature, jwk *jose.JSONWebKey) ([]byte, bool) {
	if jws.Signatures[0].Protected.Algorithm != string(edDSA25519) {
		payload, err := jws.Verify(jwk)
		return payload, err == nil
	}
	key, ok := jwk.Key.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, []byte(text[:strings.LastIndexByte(text, '.')]), jws.Signatures[0].Signature) {
		return nil, false
	}
	return jws.UnsafePayloadWithoutVerification(), true // verified in the line above
}

// fits reports whether the key is one of the algorithm's (RFC 7518 §3.1, RFC 8037).
func fits(key any, alg jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch alg {
		case jose.ES256:
			return k.Curve == elliptic.P256()
		case jose.ES384:
			return k.Curve == elliptic.P384()
		case jose.ES512:
			return k.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return alg == jose.EdDSA || alg == edDSA25519
	case *rsa.PublicKey:
		return (strings.HasPrefix(string(alg), "RS") || strings.HasPrefix(string(alg), "PS")) && k.N.BitLen() >= minRSA && k.N.BitLen() <= maxRSA
	}
	return false
}

// check compares the claims with the request.
func (c *claims) check(r Request) error {
	switch {
	case len(c.ID) < MinJTI || len(c.ID) > MaxJTI:
		return invalid(fmt.Sprintf("its jti has not %d to %d bytes", MinJTI, MaxJTI))
	case c.Method != r.Method:
		return invalid("its htm is not the method of the request")
	case c.IssuedAt == nil || *c.IssuedAt < 0 || *c.IssuedAt > 1<<40:
		return invalid("its iat is not a time in seconds")
	}
	want, ok := NormalizeURL(r.URL)
	if !ok {
		return fmt.Errorf("dpop: the URL of the request is not absolute; the server's public URL is wrong")
	}
	if got, ok := NormalizeURL(c.URL); !ok || got != want {
		return invalid("its htu is not the URL of the request, which is one of " + origin(want))
	}
	if r.AccessToken == "" {
		return nil
	}
	if c.Hash == nil {
		return invalid("it has no ath, the hash of the access token")
	}
	if subtle.ConstantTimeCompare([]byte(TokenHash(r.AccessToken)), []byte(*c.Hash)) != 1 {
		return invalid("its ath is not the hash of the access token that came with it")
	}
	return nil
}

// origin is scheme and authority of a normal URL: what a wrong proxy gets wrong,
// and nothing that the client sent.
func origin(normal string) string {
	i := strings.Index(normal, "://") + len("://")
	return normal[:i+strings.IndexByte(normal[i:], '/')]
}

// checkTime takes the time from the nonce when there is one, else from iat.
func (v *Verifier) checkTime(p *Proof, c *claims) error {
	now := v.clock.Now()
	if v.nonces != nil && c.Nonce != nil {
		expires, old, ok := v.nonces.Check(*c.Nonce, now)
		if !ok {
			return &Error{Code: UseNonce, Detail: "its nonce is not one of this server, or no longer: use the one of the field " + NonceField}
		}
		p.Expires = expires
		if old {
			next, err := v.nonces.Current(now)
			if err != nil {
				return err
			}
			p.NextNonce = next
		}
		return nil
	}
	if v.required {
		return &Error{Code: UseNonce, Detail: "it has no nonce: use the one of the field " + NonceField}
	}
	if now.Sub(p.IssuedAt).Abs() > v.window {
		if v.nonces != nil { // a phone whose clock is wrong goes on with a nonce
			return &Error{Code: UseNonce, Detail: "its iat is too far from the server's time: use the nonce of the field " + NonceField}
		}
		return invalid(fmt.Sprintf("its iat is more than %s from the server's time: correct the clock by the field Date", v.window))
	}
	p.Expires = p.IssuedAt.Add(v.window + time.Second)
	return nil
}

// TokenHash is the claim ath: base64url of SHA-256 of the access token (RFC 9449 §4.2).
func TokenHash(accessToken string) string {
	sum := sha256.Sum256([]byte(accessToken))
	return b64.EncodeToString(sum[:])
}

// replayID hashes, so that what is remembered has one size whatever was sent (RFC 9449 §11.1).
func replayID(thumbprint, jti string) string {
	sum := sha256.Sum256([]byte(thumbprint + "\x00" + jti))
	return b64.EncodeToString(sum[:])
}

// decode64 is strict base64url; Go's decoder alone would skip line breaks.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return b64.DecodeString(s)
}
