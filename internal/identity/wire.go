package identity

import (
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
)

// registerBody is the body of POST /v1/installations.
type registerBody struct {
	InstallationID     string        `json:"installation_id,omitempty" maxLength:"64" doc:"The installation to come back as; needs installation_secret or proof."`
	InstallationSecret string        `json:"installation_secret,omitempty" maxLength:"128" doc:"The secret of an earlier answer."`
	PublicKey          publicKeyWire `json:"public_key,omitempty"`
	Proof              string        `json:"proof,omitempty" maxLength:"4096" doc:"A JWT as in RFC 9449 §4.2, signed with the private key of public_key: typ dpop+jwt, alg ES256, jwk, htm POST, htu the URL of this call, iat, a fresh jti."`
	Reinstalled        bool          `json:"reinstalled,omitempty" doc:"The app was installed anew although its credential survived: a signed-in account on this installation is signed out."`
	Work               string        `json:"work,omitempty" maxLength:"64" doc:"Proof of work of a new installation, where the server asks for one: SHA-256 over landline-work, the app id, the Idempotency-Key (or the thumbprint of public_key, or installation_secret) and this text, joined by zero bytes, begins with as many zero bits as the answer proof_of_work_required says."`
	App                *appWire      `json:"app,omitempty"`
}

// publicKeyWire keeps the JSON of a key for parsePublicKey.
type publicKeyWire []byte

// UnmarshalJSON keeps a copy of b.
func (k *publicKeyWire) UnmarshalJSON(b []byte) error {
	*k = append((*k)[:0], b...)
	return nil
}

// MarshalJSON writes what was read.
func (k publicKeyWire) MarshalJSON() ([]byte, error) {
	if len(k) == 0 {
		return []byte("null"), nil
	}
	return k, nil
}

// Schema says that a key is a JWK or the base64url text of a SubjectPublicKeyInfo.
func (publicKeyWire) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	jwk := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Required: []string{"kty", "crv", "x", "y"},
		Properties: map[string]*huma.Schema{"kty": text, "crv": text, "x": text, "y": text}}
	jwk.PrecomputeMessages()
	text.PrecomputeMessages()
	s := &huma.Schema{OneOf: []*huma.Schema{jwk, text},
		Description: "The installation's P-256 public key: a JWK (RFC 7517), or base64url of its SubjectPublicKeyInfo (DER). Needs proof."}
	s.PrecomputeMessages()
	return s
}

// appWire is what the app says of itself and the device. What it leaves out is taken from Landline-Client.
type appWire struct {
	Version  string `json:"version,omitempty" maxLength:"64" example:"4.2.0"`
	Build    int64  `json:"build,omitempty" minimum:"0" example:"1042"`
	Platform string `json:"platform,omitempty" maxLength:"32" example:"ios"`
	OS       string `json:"os,omitempty" maxLength:"64" example:"18.1"`
	Device   string `json:"device,omitempty" maxLength:"128" example:"iPhone15,3"`
	Locale   string `json:"locale,omitempty" maxLength:"64" example:"pl-PL"`
}

type installationWire struct {
	ID        string    `json:"id" example:"ins_01h455vb4pex5vsknk084sn02q"`
	Secret    string    `json:"secret,omitempty" doc:"What the installation comes back with; keep it where only this app on this device can read it. Absent when the installation has a key."`
	CreatedAt time.Time `json:"created_at"`
	App       *appWire  `json:"app,omitempty" doc:"What the app last said of itself."`
}

type userWire struct {
	ID        string    `json:"id" example:"usr_01h455vb4pex5vsknk084sn02q"`
	Kind      UserKind  `json:"kind" enum:"anonymous,account"`
	CreatedAt time.Time `json:"created_at"`
}

type tokensWire struct {
	ID               string `json:"id" doc:"The session." example:"ses_01h455vb4pex5vsknk084sn02q"`
	AccessToken      string `json:"access_token"`
	TokenType        string `json:"token_type" enum:"Bearer,DPoP" doc:"How the access token is sent: DPoP (RFC 9449) in a session whose tokens are bound to a key."`
	ExpiresIn        int64  `json:"expires_in" doc:"Seconds until the access token expires."`
	RefreshToken     string `json:"refresh_token"`
	RefreshExpiresIn int64  `json:"refresh_expires_in" doc:"Seconds until the session ends unless it is refreshed."`
}

// registeredBody is the answer of POST /v1/installations.
type registeredBody struct {
	Installation installationWire `json:"installation"`
	User         userWire         `json:"user"`
	Session      tokensWire       `json:"session"`
}

// meBody is the answer of GET /v1/me.
type meBody struct {
	ID           string           `json:"id" example:"usr_01h455vb4pex5vsknk084sn02q"`
	Kind         UserKind         `json:"kind" enum:"anonymous,account"`
	CreatedAt    time.Time        `json:"created_at"`
	ExpiresAt    *time.Time       `json:"expires_at,omitempty" doc:"Of an anonymous user: when it is erased unless it is seen before, to within a day."`
	Installation installationWire `json:"installation"`
	Session      sessionWire      `json:"session"`
	Profile      profileWire      `json:"profile"`
	Identities   []identityWire   `json:"identities" nullable:"false" doc:"The account's ways to sign in; none for an anonymous user."`
}

type sessionWire struct {
	ID        string    `json:"id" example:"ses_01h455vb4pex5vsknk084sn02q"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at" doc:"When the session ends unless it is refreshed before."`
}

// The answers of the admin API.

type adminInstallation struct {
	ID          string         `json:"id"`
	Credential  string         `json:"credential" enum:"key,secret"`
	Thumbprint  string         `json:"thumbprint,omitempty" doc:"RFC 7638 thumbprint of its key."`
	ClonedFrom  string         `json:"cloned_from,omitempty" doc:"The installation whose id was shown with a wrong credential when this one was made."`
	App         appWire        `json:"app"`
	CreatedAt   time.Time      `json:"created_at"`
	SeenAt      time.Time      `json:"seen_at" doc:"To within a day."`
	AnonymousID string         `json:"anonymous_user_id,omitempty"`
	Sessions    []adminSession `json:"sessions" nullable:"false" doc:"The active ones."`
}

type adminUser struct {
	ID             string         `json:"id"`
	Kind           UserKind       `json:"kind"`
	State          UserState      `json:"state"`
	InstallationID string         `json:"installation_id,omitempty" doc:"Of an anonymous user."`
	CreatedAt      time.Time      `json:"created_at"`
	MergedInto     string         `json:"merged_into,omitempty" doc:"Of a merged user."`
	Identities     []identityWire `json:"identities" nullable:"false"`
	Sessions       []adminSession `json:"sessions" nullable:"false" doc:"The newest hundred."`
	Merges         []mergedWire   `json:"merges" nullable:"false" doc:"Users who became part of this one, the newest hundred."`
	Erasure        *adminErasure  `json:"erasure,omitempty"`
}

type adminErasure struct {
	UserID      string        `json:"user_id"`
	Aliases     []string      `json:"aliases,omitempty" doc:"Users who had become part of it, and were erased with it."`
	State       ErasureState  `json:"state" enum:"waiting,undone,running,done"`
	RequestedBy string        `json:"requested_by" doc:"The user's own id, or an operator's."`
	RequestedAt time.Time     `json:"requested_at"`
	EraseAt     time.Time     `json:"erase_at"`
	FinishedAt  *time.Time    `json:"finished_at,omitempty"`
	Report      ErasureReport `json:"report"`
}

type adminErasures struct {
	Data []adminErasure `json:"data" nullable:"false"`
	Page pageWire       `json:"page"`
}

type adminSearchBody struct {
	Email   string `json:"email,omitempty" maxLength:"254"`
	Issuer  string `json:"issuer,omitempty" maxLength:"255" doc:"With subject." example:"https://appleid.apple.com"`
	Subject string `json:"subject,omitempty" maxLength:"255"`
	ID      string `json:"id,omitempty" maxLength:"64" doc:"Of a user, an installation, a session or a way to sign in."`
}

type adminFound struct {
	Data []adminUser `json:"data" nullable:"false"`
}

type adminUnlinkBody struct {
	IdentityID string `json:"identity_id" maxLength:"64"`
	Reason     string `json:"reason" minLength:"3" maxLength:"500" doc:"Why, for the audit log."`
}

type adminReplayBody struct {
	Users []string `json:"users" maxItems:"1000" doc:"Ids of users who were erased, and of their aliases."`
}

type adminReplayed struct {
	ErasedAgain int `json:"erased_again"`
}

type adminSession struct {
	ID             string       `json:"id"`
	UserID         string       `json:"user_id"`
	InstallationID string       `json:"installation_id"`
	ClientID       string       `json:"client_id"`
	State          SessionState `json:"state" enum:"active,revoked,expired"`
	EndReason      Reason       `json:"end_reason,omitempty"`
	Refreshes      int64        `json:"refreshes" doc:"Refresh tokens issued after the first."`
	Recoveries     int          `json:"recoveries" doc:"Lost answers repaired since the last ordinary refresh."`
	RefreshedAt    time.Time    `json:"refreshed_at"`
	CreatedAt      time.Time    `json:"created_at"`
	IdleExpiresAt  time.Time    `json:"idle_expires_at"`
	ExpiresAt      time.Time    `json:"expires_at"`
}

type adminRevokeBody struct {
	Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"Why, for the audit log."`
}

type adminRestoreBody struct {
	Minutes int    `json:"minutes" minimum:"1" maximum:"20160" doc:"How long apps may come back with refresh tokens that are newer than the restored database."`
	Reason  string `json:"reason" minLength:"3" maxLength:"500" doc:"Why, for the audit log."`
}

type adminRestoreAnswer struct {
	Until time.Time `json:"until"`
}

// revokedEvent tells the other nodes of a revocation.
type revokedEvent struct {
	Session string `json:"session"` // or a user's id
	Reason  Reason `json:"reason,omitempty"`
	At      int64  `json:"at"` // Unix milliseconds
}

// claims are what an access token says (RFC 9068 §2.2 and our sid, iid, anon).
type claims struct {
	Issuer       string   `json:"iss"`
	Audience     string   `json:"aud"`
	Subject      string   `json:"sub"`
	Client       string   `json:"client_id"`
	Session      string   `json:"sid"`
	Installation string   `json:"iid"`
	Anonymous    bool     `json:"anon"`
	Scope        string   `json:"scope"`
	AuthTime     int64    `json:"auth_time"`
	Methods      []string `json:"amr"`
	ACR          string   `json:"acr"`
	Confirm      struct {
		KeyThumbprint string `json:"jkt"`
	} `json:"cnf"`
	Formerly []string           `json:"was,omitempty"`
	Device   module.DeviceLevel `json:"att,omitempty"`
	ID       string             `json:"jti"`
	IssuedAt int64              `json:"iat"`
	Expires  int64              `json:"exp"`
}

// joseHeader is what is read of a JWS header (RFC 7515 §4).
type joseHeader struct {
	Alg      string          `json:"alg"`
	Type     string          `json:"typ"`
	KeyID    string          `json:"kid"`
	Critical json.RawMessage `json:"crit"`
	B64      json.RawMessage `json:"b64"`
}

// proofClaims are the claims of a proof of possession (RFC 9449 §4.2).
type proofClaims struct {
	ID       string `json:"jti"`
	Method   string `json:"htm"`
	URL      string `json:"htu"`
	IssuedAt *int64 `json:"iat"`
}
