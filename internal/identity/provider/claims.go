package provider

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	strict "github.com/go-jose/go-jose/v4/json"

	"landline/internal/config"
)

// Bounds of what claims may hold.
const (
	clockSkew    = 60 * time.Second
	idTokenAge   = 10 * time.Minute
	maxSubject   = 255
	maxEmail     = 320
	maxName      = 200 // characters
	maxAudiences = 16
	maxMethods   = 16
)

// Claims are the verified facts of one sign-in. They are personal data: printed
// and logged they are provider and issuer alone.
type Claims struct {
	Provider      string    // "apple", "google", "oidc:acme", "external:acme"
	Issuer        string    // canonical; (Issuer, Subject) is the identity
	Subject       string    // at most 255 bytes
	ClientID      string    // the audience that is ours
	Email         string    // as the provider wrote it; "" = none, or none that can be one
	EmailVerified bool      // the provider says so. It never makes two identities one
	PrivateEmail  bool      // an address of Apple's relay
	Name          string    // at most 200 characters
	Locale        string    // BCP 47, as the provider wrote it
	HostedDomain  string    // Google's hd
	RealUser      RealUser  // Apple's judgement at the first sign-in
	AuthTime      time.Time // zero = not said
	IssuedAt      time.Time
	AMR           []string // RFC 8176
	ACR           string
	NonceChecked  bool // the token was bound to the nonce that was given

	// ReplayID is to be stored until ExpiresAt: a token with an id that is there
	// was used before. After ExpiresAt the token is refused by its times.
	ReplayID  string
	ExpiresAt time.Time

	// RefreshToken is the provider's, after a code was exchanged; it is what Revoke
	// needs. To be stored encrypted.
	RefreshToken config.Secret

	Raw json.RawMessage // the payload that was signed
}

// RealUser is Apple's real_user_status.
type RealUser int

// What Apple says about a user at the first sign-in on a device.
const (
	RealUserUnsupported RealUser = iota
	RealUserUnknown
	RealUserLikely
)

// nonceRule says how the claim nonce is compared.
type nonceRule int

const (
	nonceEqual     nonceRule = iota
	nonceApple               // the raw nonce, or the SHA-256 of it in hex, as Apple's SDK sample has it
	nonceIfPresent           // compared when both are there
)

// rules are what a token must keep to.
type rules struct {
	provider      string
	issuers       []string // exact; the first is canonical
	clientIDs     []string
	parties       []string // further values of azp
	anyParty      bool     // azp is not looked at when aud is one value
	algorithms    []string
	types         []string
	maxAge        time.Duration
	nonce         nonceRule
	nonceNeeded   bool
	hostedDomains []string
	subject       string // name of the claim
	email         string
	emailVerified string
	apple         bool
}

// idClaims are the claims that have rules.
type idClaims struct {
	Issuer          string            `json:"iss"`
	Audience        audience          `json:"aud"`
	AuthorizedParty string            `json:"azp"`
	Expires         numericDate       `json:"exp"`
	IssuedAt        numericDate       `json:"iat"`
	NotBefore       numericDate       `json:"nbf"`
	AuthTime        numericDate       `json:"auth_time"`
	Nonce           string            `json:"nonce"`
	NonceSupported  *looseBool        `json:"nonce_supported"`
	ID              string            `json:"jti"`
	Events          strict.RawMessage `json:"events"`
	PrivateEmail    looseBool         `json:"is_private_email"`
	RealUser        looseInt          `json:"real_user_status"`
	HostedDomain    string            `json:"hd"`
	AMR             looseStrings      `json:"amr"`
	ACR             string            `json:"acr"`
}

// check reads the payload of a token and holds it to the rules. The signature is
// somebody else's.
func (r *rules) check(o *opened, nonce string, now time.Time) (*Claims, error) {
	var c idClaims
	var all map[string]strict.RawMessage
	if strict.Unmarshal(o.payload, &all) != nil || all == nil || strict.Unmarshal(o.payload, &c) != nil {
		return nil, refuse(ReasonMalformed, "the token's payload is not a JSON object with the claims of an ID token")
	}
	if !slices.Contains(r.issuers, c.Issuer) {
		return nil, refuse(ReasonIssuer, "the token is of another issuer")
	}
	if c.Events != nil {
		return nil, refuse(ReasonType, "it is a security event, not an ID token")
	}
	clientID, err := r.checkAudience(c.Audience, c.AuthorizedParty)
	if err != nil {
		return nil, err
	}
	expires, err := r.checkTimes(&c, now)
	if err != nil {
		return nil, err
	}
	checked, err := r.checkNonce(&c, nonce)
	if err != nil {
		return nil, err
	}
	if len(r.hostedDomains) > 0 && !slices.Contains(r.hostedDomains, strings.ToLower(c.HostedDomain)) {
		return nil, refuse(ReasonHostedDomain, "the account is of another organisation")
	}
	subject, ok := subjectOf(all[r.subject])
	if !ok {
		return nil, refuse(ReasonSubject, "the token's claim %s is not 1 to %d printable bytes", r.subject, maxSubject)
	}
	claims := &Claims{
		Provider: r.provider, Issuer: r.issuers[0], Subject: subject, ClientID: clientID,
		HostedDomain: c.HostedDomain, AuthTime: c.AuthTime.time(), IssuedAt: c.IssuedAt.time(),
		AMR: c.AMR.bounded(), ACR: clip(c.ACR), NonceChecked: checked,
		ReplayID: o.replayID(r.issuers[0], c.ID), ExpiresAt: expires, Raw: json.RawMessage(slices.Clone(o.payload)),
	}
	claims.person(r, &c, all)
	return claims, nil
}

// person reads what is data about a person: what is not as it should be is left
// out, and never a reason to refuse.
func (c *Claims) person(r *rules, from *idClaims, all map[string]strict.RawMessage) {
	text := func(name string) string {
		var s string
		if name == "" || strict.Unmarshal(all[name], &s) != nil {
			return ""
		}
		return s
	}
	if email := text(r.email); plausibleEmail(email) {
		var verified looseBool
		if r.emailVerified != "" && all[r.emailVerified] != nil && strict.Unmarshal(all[r.emailVerified], &verified) != nil {
			verified = false
		}
		c.Email, c.EmailVerified = email, bool(verified)
	}
	c.Name, c.Locale = clip(text("name")), clip(text("locale"))
	if r.apple {
		c.PrivateEmail = bool(from.PrivateEmail) || strings.HasSuffix(strings.ToLower(c.Email), "@privaterelay.appleid.com")
		if from.RealUser == looseInt(RealUserUnknown) || from.RealUser == looseInt(RealUserLikely) {
			c.RealUser = RealUser(from.RealUser)
		}
	}
}

// checkAudience is OpenID Connect Core 1.0 §3.1.3.7, 3 to 5: every audience is
// ours, and a party that is named is ours.
func (r *rules) checkAudience(aud audience, azp string) (string, error) {
	if len(aud) == 0 || len(aud) > maxAudiences {
		return "", refuse(ReasonAudience, "the token has no audience, or more than %d", maxAudiences)
	}
	for _, a := range aud {
		if !slices.Contains(r.clientIDs, a) {
			return "", refuse(ReasonAudience, "the token is for another app; every audience must be one of the configured client ids")
		}
	}
	known := slices.Contains(r.clientIDs, azp) || slices.Contains(r.parties, azp)
	switch {
	case len(aud) > 1 && !known:
		return "", refuse(ReasonAuthorizedParty, "the token has several audiences, and its azp is not a configured client id")
	case azp != "" && !known && !r.anyParty:
		return "", refuse(ReasonAuthorizedParty, "the token's azp is not a configured client id")
	case len(aud) > 1 && slices.Contains(r.clientIDs, azp):
		return azp, nil
	}
	return aud[0], nil
}

// checkTimes returns the time from which on the token is refused.
func (r *rules) checkTimes(c *idClaims, now time.Time) (time.Time, error) {
	if !c.Expires.valid() || !c.IssuedAt.valid() {
		return time.Time{}, refuse(ReasonMalformed, "the token lacks exp or iat, or they are no times")
	}
	last := c.Expires.time().Add(clockSkew)
	oldest := c.IssuedAt.time().Add(r.maxAge + clockSkew)
	switch {
	case !now.Before(last):
		return last, refuse(ReasonExpired, "the token has expired; sign in with the provider again")
	case !now.Before(oldest):
		return last, refuse(ReasonTooOld, "the token was issued more than %s ago; sign in with the provider again", r.maxAge)
	case c.IssuedAt.time().After(now.Add(clockSkew)):
		return last, refuse(ReasonNotYet, "the token was issued in the future; the clocks of provider and server differ")
	case c.NotBefore != 0 && (!c.NotBefore.valid() || c.NotBefore.time().After(now.Add(clockSkew))):
		return last, refuse(ReasonNotYet, "the token is not valid yet")
	}
	if oldest.Before(last) {
		last = oldest
	}
	return last, nil
}

// checkNonce reports whether the token is bound to nonce, which is as the app made it.
func (r *rules) checkNonce(c *idClaims, nonce string) (bool, error) {
	switch {
	case nonce == "" && c.Nonce == "" && !r.nonceNeeded:
		return false, nil
	case r.nonce == nonceIfPresent && (nonce == "" || c.Nonce == ""):
		return false, nil
	case nonce == "":
		return false, refuse(ReasonNonce, "a nonce is needed: send the one that the sign-in was begun with")
	case len(nonce) > 1<<10:
		return false, refuse(ReasonNonce, "the nonce has more than 1024 characters")
	case c.Nonce == "" && r.nonce == nonceApple && c.NonceSupported != nil && !bool(*c.NonceSupported):
		return false, nil // Apple signs that the device cannot carry one
	case c.Nonce == "":
		return false, refuse(ReasonNonce, "the token has no nonce; pass one to the provider's SDK")
	}
	same := subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(nonce))
	if r.nonce == nonceApple {
		sum := sha256.Sum256([]byte(nonce))
		same |= subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(hex.EncodeToString(sum[:])))
	}
	if same != 1 {
		return false, refuse(ReasonNonce, "the token's nonce is another one")
	}
	return true, nil
}

// subjectOf takes a text, or a whole number as some teams' user ids are.
func subjectOf(raw strict.RawMessage) (string, bool) {
	var s string
	if strict.Unmarshal(raw, &s) != nil {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return "", false
		}
		s = strconv.FormatInt(n, 10)
	}
	if s == "" || len(s) > maxSubject || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", false
	}
	return s, true
}

func plausibleEmail(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return at > 0 && at < len(s)-1 && len(s) <= maxEmail && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
}

// clip is s without control characters and not too long.
func clip(s string) string { return clipTo(s, maxName) }

func clipTo(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most])
	}
	return strings.TrimSpace(s)
}

// audience is one text or a list.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if strict.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return strict.Unmarshal(b, (*[]string)(a))
}

// looseStrings is a list of texts, or one; anything else is none.
type looseStrings []string

func (l *looseStrings) UnmarshalJSON(b []byte) error {
	var a audience
	if a.UnmarshalJSON(b) == nil {
		*l = looseStrings(a)
	}
	return nil
}

func (l looseStrings) bounded() []string {
	var out []string
	for _, s := range l[:min(len(l), maxMethods)] {
		if s = clip(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// looseBool is true, "true" or anything else, which is false: what providers say
// in favour of a user must be said clearly.
type looseBool bool

func (l *looseBool) UnmarshalJSON(b []byte) error {
	*l = string(b) == "true" || string(b) == `"true"`
	return nil
}

// looseInt is a small number, or 0.
type looseInt int

func (l *looseInt) UnmarshalJSON(b []byte) error {
	n, err := strconv.Atoi(strings.Trim(string(b), `"`))
	if err != nil {
		n = 0
	}
	*l = looseInt(n)
	return nil
}

// numericDate is seconds since 1970 (RFC 7519 §2), 0 when there is none.
type numericDate int64

func (n *numericDate) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) || f < -(1<<40) || f > 1<<40 {
		return errNotObject
	}
	*n = numericDate(f)
	return nil
}

func (n numericDate) valid() bool { return n > 0 }

func (n numericDate) time() time.Time {
	if !n.valid() {
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}
