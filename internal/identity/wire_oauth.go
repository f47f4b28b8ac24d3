package identity

import (
	"encoding/json"
	"strconv"
	"time"
)

// tokenAnswer is the answer of POST /oauth/token (RFC 6749 §5.1).
type tokenAnswer struct {
	AccessToken      string `json:"access_token"`
	IssuedTokenType  string `json:"issued_token_type,omitempty"` // RFC 8693 §2.2.1
	TokenType        string `json:"token_type"`
	ExpiresIn        int64  `json:"expires_in"`
	RefreshToken     string `json:"refresh_token,omitempty"`
	RefreshExpiresIn int64  `json:"refresh_expires_in,omitempty"`
	Scope            string `json:"scope"`
	IDToken          string `json:"id_token,omitempty"`
}

// append is a as encoding/json writes it, but for the characters that JSON need not
// escape: the answer of every refresh, without reflection.
func (a *tokenAnswer) append(to []byte) []byte {
	optional := func(name, text string) {
		if text != "" {
			to = appendJSON(append(append(append(to, `,"`...), name...), `":`...), text)
		}
	}
	to = appendJSON(append(to, `{"access_token":`...), a.AccessToken)
	optional("issued_token_type", a.IssuedTokenType)
	to = appendJSON(append(to, `,"token_type":`...), a.TokenType)
	to = strconv.AppendInt(append(to, `,"expires_in":`...), a.ExpiresIn, 10)
	optional("refresh_token", a.RefreshToken)
	if a.RefreshExpiresIn != 0 {
		to = strconv.AppendInt(append(to, `,"refresh_expires_in":`...), a.RefreshExpiresIn, 10)
	}
	to = appendJSON(append(to, `,"scope":`...), a.Scope)
	optional("id_token", a.IDToken)
	return append(to, '}')
}

// tokenRefusal is the fatal answer of the OAuth endpoints (RFC 6749 §5.2).
// Clients such as AppAuth end the session on any body with the member "error",
// so nothing that a retry could mend may be sent in this shape.
type tokenRefusal struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
	Reason      Reason `json:"reason,omitempty"`
	Recovery    string `json:"recovery,omitempty"`

	status    int    // 0 = 400
	challenge string // WWW-Authenticate, "" = none
	nonce     string // DPoP-Nonce, "" = none
}

// serverMetadata is RFC 8414 and OpenID Connect Discovery 1.0 §3, as much as is true.
type serverMetadata struct {
	Issuer                   string   `json:"issuer"`
	AuthorizationEndpoint    string   `json:"authorization_endpoint"`
	TokenEndpoint            string   `json:"token_endpoint"`
	JWKSURI                  string   `json:"jwks_uri"`
	UserInfoEndpoint         string   `json:"userinfo_endpoint"`
	RevocationEndpoint       string   `json:"revocation_endpoint"`
	IntrospectionEndpoint    string   `json:"introspection_endpoint"`
	EndSessionEndpoint       string   `json:"end_session_endpoint"`
	PushedRequestEndpoint    string   `json:"pushed_authorization_request_endpoint"`
	ResponseTypes            []string `json:"response_types_supported"`
	ResponseModes            []string `json:"response_modes_supported"`
	GrantTypes               []string `json:"grant_types_supported"`
	SubjectTypes             []string `json:"subject_types_supported"`
	IDTokenAlgs              []string `json:"id_token_signing_alg_values_supported"`
	Scopes                   []string `json:"scopes_supported"`
	Claims                   []string `json:"claims_supported"`
	ACRValues                []string `json:"acr_values_supported"`
	Prompts                  []string `json:"prompt_values_supported"`
	Locales                  []string `json:"ui_locales_supported"`
	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs            []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	ChallengeMethods         []string `json:"code_challenge_methods_supported"`
	IssInResponse            bool     `json:"authorization_response_iss_parameter_supported"`
	ClaimsParameter          bool     `json:"claims_parameter_supported"`
	RequestParameter         bool     `json:"request_parameter_supported"`
	RequestURIParameter      bool     `json:"request_uri_parameter_supported"`
	DPoPAlgs                 []string `json:"dpop_signing_alg_values_supported,omitempty"`
}

type assertionClaims struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"`
	ID       string          `json:"jti"`
	Expires  int64           `json:"exp"`
	Before   int64           `json:"nbf"`
}

// idTokenClaims are OpenID Connect Core 1.0 §2, and sid of Front-Channel Logout 1.0 §3.
type idTokenClaims struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Audience   string   `json:"aud"`
	IssuedAt   int64    `json:"iat"`
	Expires    int64    `json:"exp"`
	AuthTime   int64    `json:"auth_time"`
	Nonce      string   `json:"nonce,omitempty"`
	ACR        string   `json:"acr,omitempty"`
	Methods    []string `json:"amr,omitempty"`
	Session    string   `json:"sid"`
	AccessHash string   `json:"at_hash"`
}

// introspection is RFC 7662 §2.2. Of a token that is not active nothing is said.
type introspection struct {
	Active    bool          `json:"active"`
	Scope     string        `json:"scope,omitempty"`
	ClientID  string        `json:"client_id,omitempty"`
	TokenType string        `json:"token_type,omitempty"`
	Subject   string        `json:"sub,omitempty"`
	Audience  string        `json:"aud,omitempty"`
	Issuer    string        `json:"iss,omitempty"`
	ID        string        `json:"jti,omitempty"`
	Session   string        `json:"sid,omitempty"`
	IssuedAt  int64         `json:"iat,omitempty"`
	Expires   int64         `json:"exp,omitempty"`
	AuthTime  int64         `json:"auth_time,omitempty"`
	ACR       string        `json:"acr,omitempty"`
	Methods   []string      `json:"amr,omitempty"`
	Confirm   *confirmation `json:"cnf,omitempty"`
}

// confirmation is RFC 9449 §6.1.
type confirmation struct {
	KeyThumbprint string `json:"jkt"`
}

// pushAnswer is RFC 9126 §2.2.
type pushAnswer struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

// Consent is what a user has allowed a client.
type Consent struct {
	UserID    string    `json:"-"`
	ClientID  string    `json:"client_id"`
	Scope     string    `json:"scope"` // space separated
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// userInfo is OpenID Connect Core 1.0 §5.1, as much as is known.
type userInfo struct {
	Subject       string `json:"sub"`
	Name          string `json:"name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified *bool  `json:"email_verified,omitempty"`
}

// audienceClaim is what audienceOf reads of a JWT.
type audienceClaim struct {
	Audience string `json:"aud"`
}
