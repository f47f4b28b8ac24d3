package identity

import (
	"time"

	"landline/internal/identity/attest"
	"landline/internal/identity/emailcode"
	"landline/internal/identity/passkey"
	"landline/internal/mail"
)

// What is kept as JSON: in rows and jobs, in exports and in the erasure journal.
// Whoever changes one of these must still read what was written before.

// Profile is what is known of a person through an identity. It is stored sealed.
type Profile struct {
	Issuer       string `json:"iss"`
	Subject      string `json:"sub"`
	Email        string `json:"email,omitempty"`
	PrivateEmail bool   `json:"private_email,omitempty"` // a relay address of the provider
	Name         string `json:"name,omitempty"`
	EmailOff     bool   `json:"email_off,omitempty"` // the provider's relay does not forward
	Client       string `json:"client,omitempty"`    // the provider's name for our app that Refresh was given to
	Refresh      string `json:"refresh,omitempty"`   // the provider's refresh token, kept to revoke it at deletion
	Secret       []byte `json:"secret,omitempty"`    // what the credential itself needs: a password's hash, a passkey's record
}

// Proven is a credential that has been verified.
type Proven struct {
	Provider      string
	Profile       Profile
	EmailVerified bool
	Methods       string    // RFC 8176 style, space separated
	UseID         string    // what makes the credential single use; "" = the verifier has spent it itself
	UseUntil      time.Time // until when UseID must be remembered
	Against       []byte    // the stored secret that it was verified with: when another one is stored by now, it proves nothing
	Repeat        bool      // UseID was spent before and nothing was verified now: good for the answer of then, and for nothing else
	NewPassword   bool      // Profile.Secret is a password that the user sets now

	Take   *Challenge `json:"-"` // what it answered: it is removed with the sign-in
	Settle bool       `json:"-"` // UseID is spent by nobody yet, and the credential was verified again
	held   *Challenge // it was refused with a question before: UseID is spent, and what waited goes with the sign-in
	at     time.Time  // when it was verified, where that was not now; zero = now
}

// ErasureReport is what was done, without anything personal.
type ErasureReport struct {
	Locked    bool              `json:"locked,omitempty"`    // the user was locked before, and is again when the erasure is undone
	Aliases   int               `json:"aliases,omitempty"`   // users who had become part of this one, erased with it
	Providers map[string]string `json:"providers,omitempty"` // what each provider answered to the revocation of its tokens
	Rows      map[string]int64  `json:"rows,omitempty"`      // erased, by collection
}

// eraseArgs is the job that erases a user when their time to come back is over.
type eraseArgs struct {
	User string `json:"user"`
}

// exportArgs is the job that builds an export.
type exportArgs struct {
	ID string `json:"id"`
}

// exportManifest is the last file of an archive.
type exportManifest struct {
	Format    string           `json:"format"`
	User      string           `json:"user_id"`
	Aliases   []string         `json:"aliases"` // users who became part of it
	CreatedAt time.Time        `json:"created_at"`
	Files     []exportFileInfo `json:"files"`
}

// exportedUser is the account in an export.
type exportedUser struct {
	userWire
	Profile profileWire `json:"profile"`
}

// exportedIdentity is a way into the account in an export.
type exportedIdentity struct {
	identityWire
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// exportedDeviceProof is what an installation's last evidence proved, in an export.
type exportedDeviceProof struct {
	InstallationID string `json:"installation_id"`
	attest.Verdict
}

// exportFileInfo is one file of an archive; SHA256 is in hexadecimal.
type exportFileInfo struct {
	Name    string `json:"name"`
	Records int    `json:"records"`
	SHA256  string `json:"sha256"`
}

// erasureLine is one line of the erasure journal.
type erasureLine struct {
	User string    `json:"user"`
	At   time.Time `json:"at"`
}

// mergeArgs is the job that finishes a merge.
type mergeArgs struct {
	From string `json:"from"`
}

// redirectState is what is kept while the user is at a provider.
type redirectState struct {
	Provider string    `json:"provider"`
	Keep     []byte    `json:"keep"`
	Request  string    `json:"request"`
	Started  time.Time `json:"started"`
	Visitor  string    `json:"visitor"` // whose cookie must come back
	Pending  string    `json:"pending,omitempty"`
}

// codeState is what an authorization code stands for.
type codeState struct {
	Client    string    `json:"client"`
	Redirect  string    `json:"redirect"`
	Challenge string    `json:"challenge"` // PKCE, S256
	Scope     string    `json:"scope"`
	Nonce     string    `json:"nonce,omitempty"`
	JKT       string    `json:"jkt,omitempty"` // dpop_jkt
	User      string    `json:"user"`
	Session   string    `json:"session"` // of the browser in which the user is signed in
	AuthTime  time.Time `json:"auth_time"`
	Methods   string    `json:"methods"`
	Expires   time.Time `json:"expires"`
	Granted   string    `json:"granted,omitempty"` // the session that the code was used for
}

// ticket is what waits.
type ticket struct {
	User   string `json:"user"`            // whose session it was proven in
	Owner  string `json:"owner,omitempty"` // whose credential it was then
	Proven Proven `json:"proven"`
	At     int64  `json:"at"` // Unix milliseconds
}

// storedTicket is the state of its challenge.
type storedTicket struct {
	Subject string `json:"subject"` // whose key it is sealed with
	Sealed  []byte `json:"sealed"`
}

// pairState is the history of an address on an installation.
type pairState struct {
	emailcode.Pair
	Known bool `json:"known"` // the address was proved there
}

// mailArgs is one message. It is sealed while it waits, because it may hold a code.
type mailArgs struct {
	To     string      `json:"to"`
	Name   mail.Name   `json:"name"`
	Locale string      `json:"locale"`
	Values mail.Values `json:"values"`
}

// mailJob is the job that sends a message.
type mailJob struct {
	Subject string `json:"subject"` // whose key it is sealed with
	Sealed  []byte `json:"sealed"`
}

// passkeySecret is what is stored of a passkey.
type passkeySecret struct {
	Credential passkey.Credential `json:"credential"`
	Handle     []byte             `json:"handle"` // the same for all passkeys of a user
}
