package identity

import (
	"encoding/json"
	"time"
)

// CredentialWire is what proves an identity (exported, or huma does not see it embedded). Which members are needed depends on the provider.
type CredentialWire struct {
	Provider     string          `json:"provider" maxLength:"80" doc:"apple, google, oidc:<name>, external:<name>, email_code, password or passkey, as far as the server offers it." example:"apple"`
	IDToken      string          `json:"id_token,omitempty" maxLength:"8192" doc:"The provider's ID token."`
	Code         string          `json:"code,omitempty" maxLength:"2048" doc:"The provider's authorization code, or the code that was sent by e-mail."`
	RedirectURI  string          `json:"redirect_uri,omitempty" maxLength:"2048" doc:"That the authorization code was asked for with."`
	CodeVerifier string          `json:"code_verifier,omitempty" maxLength:"128" doc:"PKCE verifier (RFC 7636) of the authorization code."`
	Nonce        string          `json:"nonce,omitempty" maxLength:"255" doc:"The raw nonce that the ID token was asked for with."`
	Email        string          `json:"email,omitempty" maxLength:"254" doc:"With email_code and password."`
	Password     string          `json:"password,omitempty" maxLength:"1024"`
	Passkey      json.RawMessage `json:"passkey,omitempty" doc:"The PublicKeyCredential as JSON (WebAuthn §5.1)."`
	Challenge    string          `json:"challenge,omitempty" maxLength:"128" doc:"The challenge that the credential answers."`
	Name         string          `json:"name,omitempty" maxLength:"200" doc:"The person's name, where the provider gives it to the app alone (Apple)."`

	visitor string // of the hosted pages, who was given the passkey's challenge; set here alone
	client  string // to which the code was given, where that is not the one for codes; set here alone
}

// signInBody is the body of POST /v1/auth/sign-in.
type signInBody struct {
	CredentialWire
	Mode         string `json:"mode,omitempty" enum:"link_or_sign_in" default:"link_or_sign_in" doc:"Link the credential when nobody has it, else sign in and merge."`
	UndoDeletion bool   `json:"undo_deletion,omitempty" doc:"Keep the account although its deletion was asked for. Ask the user first."`
	PendingLink  string `json:"pending_link,omitempty" maxLength:"256" doc:"Of an answer account_exists_other_provider: the credential that was refused then is added to the account."`

	ConflictToken string `json:"conflict_token,omitempty" maxLength:"256" doc:"Of an answer identity_in_use, in place of the credential, which was spent then: signs in to the account that has it. provider is the same."`
	KeepAnonymous bool   `json:"keep_anonymous,omitempty" doc:"Carry nothing over: the anonymous user keeps its data and stays the installation's, for after a sign-out."`
	EndSession    string `json:"end_session,omitempty" maxLength:"64" doc:"After too_many_accounts or too_many_installations: the session of its list that ends to make room."`
}

// linkBody is the body of POST /v1/auth/link.
type linkBody struct {
	CredentialWire
	ConflictToken string `json:"conflict_token,omitempty" maxLength:"256" doc:"Of an answer identity_in_use, in place of the credential. Needs confirm, and a server that merges accounts."`
	Confirm       bool   `json:"confirm,omitempty" doc:"The user wants the other account to become part of this one, with everything that is in it. It cannot be undone."`
}

// linkedBody is the answer of POST /v1/auth/link.
type linkedBody struct {
	ID            string    `json:"id" example:"idn_01h455vb4pex5vsknk084sn02q"`
	Provider      string    `json:"provider" example:"google"`
	Email         string    `json:"email,omitempty"`
	EmailVerified bool      `json:"email_verified"`
	Name          string    `json:"name,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	UsedAt        time.Time `json:"used_at"`

	Merged *mergedWire `json:"merged,omitempty" doc:"The other account became part of this one."`
}

// unlinkBody is the body of POST /v1/auth/unlink.
type unlinkBody struct {
	IdentityID string `json:"identity_id" maxLength:"64"`
}

// emailCodeBody is the body of POST /v1/auth/email-code.
type emailCodeBody struct {
	Email  string `json:"email" maxLength:"254"`
	Locale string `json:"locale,omitempty" maxLength:"35" doc:"Language of the message." example:"pl"`
}

type emailCodeAnswer struct {
	ExpiresIn   int64 `json:"expires_in" doc:"Seconds for which the code is good."`
	ResendAfter int64 `json:"resend_after" doc:"Seconds until another code can be asked for."`
}

// signUpBody is the body of POST /v1/auth/sign-up.
type signUpBody struct {
	Email    string `json:"email" maxLength:"254"`
	Code     string `json:"code" maxLength:"64" doc:"The code that was sent to the address."`
	Password string `json:"password" maxLength:"1024"`
	Name     string `json:"name,omitempty" maxLength:"200"`

	UndoDeletion  bool   `json:"undo_deletion,omitempty" doc:"As for /v1/auth/sign-in."`
	KeepAnonymous bool   `json:"keep_anonymous,omitempty" doc:"As for /v1/auth/sign-in."`
	EndSession    string `json:"end_session,omitempty" maxLength:"64" doc:"As for /v1/auth/sign-in."`
}

// passkeyOptionsBody is the body of POST /v1/auth/passkey-options.
type passkeyOptionsBody struct {
	Ceremony string `json:"ceremony,omitempty" enum:"sign_in,registration" default:"sign_in"`
	Name     string `json:"name,omitempty" maxLength:"64" doc:"What the device shows beside a new passkey, such as the user's address."`
}

type passkeyOptionsAnswer struct {
	Options json.RawMessage `json:"options" doc:"PublicKeyCredentialCreationOptionsJSON or PublicKeyCredentialRequestOptionsJSON (WebAuthn Level 3 §5.1)."`
}

// signedInBody is the answer of POST /v1/auth/sign-in.
type signedInBody struct {
	User    userWire    `json:"user"`
	Session tokensWire  `json:"session"`
	Merged  *mergedWire `json:"merged,omitempty" doc:"The anonymous user of this installation became part of the account."`
}

type mergedWire struct {
	ID        string     `json:"id" example:"mrg_01h455vb4pex5vsknk084sn02q"`
	From      string     `json:"from" doc:"The user who was. Writes that the app made as this user may still be sent, with Expect-User naming it."`
	Into      string     `json:"into"`
	State     MergeState `json:"state" enum:"running,done" doc:"running: records are still being moved; they are readable meanwhile."`
	Records   int64      `json:"records" doc:"Moved so far."`
	Conflicts int64      `json:"conflicts" doc:"Kept beside the account's own; GET /v1/me/merge-conflicts lists them."`
}

type identityWire struct {
	ID            string    `json:"id" example:"idn_01h455vb4pex5vsknk084sn02q"`
	Provider      string    `json:"provider" example:"google"`
	Email         string    `json:"email,omitempty"`
	EmailVerified bool      `json:"email_verified"`
	Name          string    `json:"name,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	UsedAt        time.Time `json:"used_at"`
}

type conflictWire struct {
	ID         string          `json:"id" example:"cfl_01h455vb4pex5vsknk084sn02q"`
	MergeID    string          `json:"merge_id"`
	Collection string          `json:"collection"`
	Key        string          `json:"key"`
	Record     json.RawMessage `json:"record" doc:"The record that was not taken over."`
	CreatedAt  time.Time       `json:"created_at"`
}

type pageWire struct {
	Next *string `json:"next" doc:"Cursor of the next page, null on the last one."`
}

type conflictsBody struct {
	Data []conflictWire `json:"data" nullable:"false"`
	Page pageWire       `json:"page"`
}

// The data of events to the team's own services.

type promotedEvent struct {
	User         string `json:"user_id"`
	Installation string `json:"installation_id"`
}

type mergedEvent struct {
	Merge        string `json:"merge_id"`
	From         string `json:"from"`
	Into         string `json:"into"`
	Installation string `json:"installation_id"`
}

type noticeEvent struct {
	User     string    `json:"user_id"`
	Provider string    `json:"provider"`
	Kind     string    `json:"kind"`
	State    UserState `json:"state"`
}

type deletedEvent struct {
	User    string   `json:"user_id"`
	Aliases []string `json:"aliases,omitempty"` // users who had become part of it
}

// profileWire is what a user says of themselves. A member that is left out of a
// PATCH stays as it is.
type profileWire struct {
	Name     *string `json:"name,omitempty" maxLength:"200" example:"Ada"`
	Locale   *string `json:"locale,omitempty" maxLength:"35" pattern:"^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$" patternDescription:"a BCP 47 language tag" example:"pl-PL"`
	TimeZone *string `json:"time_zone,omitempty" maxLength:"64" doc:"Name of the IANA database." example:"Europe/Warsaw"`
}

// deviceSession is a session as its user sees it.
type deviceSession struct {
	ID             string       `json:"id" example:"ses_01h455vb4pex5vsknk084sn02q"`
	InstallationID string       `json:"installation_id"`
	State          SessionState `json:"state" enum:"active,revoked,expired"`
	Current        bool         `json:"current" doc:"The session that asks."`
	App            appWire      `json:"app" doc:"What the app last said of itself and the device."`
	Methods        string       `json:"methods,omitempty" doc:"How the user proved themselves, space separated (RFC 8176)."`
	CreatedAt      time.Time    `json:"created_at"`
	AuthTime       time.Time    `json:"auth_time"`
	UsedAt         time.Time    `json:"used_at" doc:"The last refresh."`
	ExpiresAt      time.Time    `json:"expires_at"`
}

type sessionsBody struct {
	Data []deviceSession `json:"data" nullable:"false"`
	Page pageWire        `json:"page"`
}

type ownInstallation struct {
	ID        string    `json:"id" example:"ins_01h455vb4pex5vsknk084sn02q"`
	Current   bool      `json:"current" doc:"The installation that asks."`
	App       appWire   `json:"app"`
	CreatedAt time.Time `json:"created_at"`
	SeenAt    time.Time `json:"seen_at" doc:"To within a day."`
}

type installationsBody struct {
	Data []ownInstallation `json:"data" nullable:"false"`
	Page pageWire          `json:"page"`
}

// erasureWire is the answer of DELETE /v1/me.
type erasureWire struct {
	State       ErasureState `json:"state" enum:"waiting,undone,running,done"`
	RequestedAt time.Time    `json:"requested_at"`
	EraseAt     time.Time    `json:"erase_at" doc:"Until then signing in with undo_deletion keeps the account."`
}

// exportWire tells how far an export is.
type exportWire struct {
	ID          string      `json:"id" example:"exp_01h455vb4pex5vsknk084sn02q"`
	State       ExportState `json:"state" enum:"working,ready,failed"`
	RequestedAt time.Time   `json:"requested_at"`
	FinishedAt  *time.Time  `json:"finished_at,omitempty"`
	ExpiresAt   time.Time   `json:"expires_at"`
	Size        int64       `json:"size,omitempty" doc:"Bytes of the archive."`
	SHA256      string      `json:"sha256,omitempty" doc:"Of the archive, in hexadecimal digits."`
	Fault       string      `json:"fault,omitempty" doc:"Why it failed. POST /v1/me/export begins another one."`
	Archive     string      `json:"archive,omitempty" doc:"Path of the archive, a ZIP of JSON-lines files with a manifest, once it is ready. It needs the same user's access token."`
}

// auditWire is an entry of the audit log in an export.
type auditWire struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor" doc:"Kind of who did it."`
	Action string    `json:"action"`
	Target string    `json:"target"`
	Reason string    `json:"reason,omitempty"`
}

// SecurityEvent is something that the owner of an account should hear of, on
// another device than the one it happened on.
type SecurityEvent struct {
	Kind         SecurityKind `json:"kind"`
	User         string       `json:"user"`
	Session      string       `json:"session"`      // where it happened
	Installation string       `json:"installation"` // where it happened
	Provider     string       `json:"provider,omitempty"`
	At           time.Time    `json:"at"`
}

// signedInSession is one of the sessions that leave no room for another (L30).
type signedInSession struct {
	ID     string    `json:"id"`
	UserID string    `json:"user_id"`
	UsedAt time.Time `json:"used_at"`
}

// passkeyShape tells a registration from a sign-in, which has no attestation (WebAuthn Level 3 §5.1).
type passkeyShape struct {
	Response struct {
		Attestation json.RawMessage `json:"attestationObject"`
	} `json:"response"`
}
