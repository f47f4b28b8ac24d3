package provider

import (
	"encoding/json"
	"time"
)

// discoveryDocument is what is read of OpenID Connect Discovery 1.0 §3 and RFC 8414 §2.
type discoveryDocument struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Revocation    string   `json:"revocation_endpoint"`
	ClientAuth    []string `json:"token_endpoint_auth_methods_supported"`
	IssParameter  bool     `json:"authorization_response_iss_parameter_supported"`
}

// keyDocument is RFC 7517 §5.
type keyDocument struct {
	Keys []json.RawMessage `json:"keys"`
}

// keyWire has the members of a public key (RFC 7518 §6.2, §6.3; RFC 8037 §2), and
// those by which a key is known that must not be used. Certificates are left out:
// the set is trusted because of where it came from.
type keyWire struct {
	Type       string          `json:"kty"`
	ID         string          `json:"kid,omitempty"`
	Use        string          `json:"use,omitempty"`
	Operations []string        `json:"key_ops,omitempty"`
	Algorithm  string          `json:"alg,omitempty"`
	Curve      string          `json:"crv,omitempty"`
	X          string          `json:"x,omitempty"`
	Y          string          `json:"y,omitempty"`
	N          string          `json:"n,omitempty"`
	E          string          `json:"e,omitempty"`
	Private    json.RawMessage `json:"d,omitempty"`
	Symmetric  json.RawMessage `json:"k,omitempty"`
}

// headWire is the header of a compact JWS.
type headWire struct {
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Type      string          `json:"typ"`
	Content   string          `json:"cty"`
	Critical  json.RawMessage `json:"crit"`
	Encoding  json.RawMessage `json:"b64"`
	Zip       json.RawMessage `json:"zip"`
}

// tokenAnswer is RFC 6749 §5.1 and §5.2. The access token is not read.
type tokenAnswer struct {
	IDToken      string `json:"id_token"`
	RefreshToken string `json:"refresh_token"`
	Error        string `json:"error"`
}

// appleUser is what Apple's form_post adds at the first sign-in, unsigned.
type appleUser struct {
	Name struct {
		First string `json:"firstName"`
		Last  string `json:"lastName"`
	} `json:"name"`
}

// appleNotice is the body of Apple's server-to-server notifications.
type appleNotice struct {
	Payload string `json:"payload"`
}

// appleEvent is the events claim of Apple's notifications.
type appleEvent struct {
	Type         string          `json:"type"`
	Subject      string          `json:"sub"`
	Email        string          `json:"email"`
	PrivateEmail looseBool       `json:"is_private_email"`
	At           json.RawMessage `json:"event_time"`
}

// setEvent is the value of one event of a security event token; RISC and CAEP
// events carry the subject inside, RFC 9493 tokens in the claim sub_id.
type setEvent struct {
	Subject   setSubject `json:"subject"`
	Reason    string     `json:"reason"`
	State     string     `json:"state"`
	TokenType string     `json:"token_type"`
	TokenAlg  string     `json:"token_identifier_alg"`
	Token     string     `json:"token"`
}

// setSubject is a subject identifier in the forms that Google sends and RFC 9493.
type setSubject struct {
	Type      string `json:"subject_type"`
	Format    string `json:"format"`
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Email     string `json:"email"`
	TokenType string `json:"token_type"`
	TokenAlg  string `json:"token_identifier_alg"`
	Token     string `json:"token"`
}

// Pending is a sign-in that went to the provider and has not come back. It is
// the caller's to keep, encrypted, under State until ExpiresAt, bound to the
// browser or installation that began it, and to use once. It marshals to JSON.
type Pending struct {
	Provider    string    `json:"provider"`
	ClientID    string    `json:"client_id"`
	RedirectURI string    `json:"redirect_uri"`
	State       string    `json:"state"`
	Nonce       string    `json:"nonce"` // as the provider puts it into the token
	Verifier    string    `json:"code_verifier"`
	Issuers     []string  `json:"issuers"`      // values of the iss parameter (RFC 9207) that are right
	NeedsIssuer bool      `json:"needs_issuer"` // the parameter must be there
	FormPost    bool      `json:"form_post"`    // the answer comes as a cross-site POST: a SameSite=None cookie, or none
	ExpiresAt   time.Time `json:"expires_at"`
}
