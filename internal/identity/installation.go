package identity

import (
	"time"

	"landline/internal/id"
	"landline/internal/module"
)

// AppInfo is what the app says of itself and the device. It is never used to decide who somebody is.
type AppInfo struct {
	Version, Platform, OS, Device, Locale string
	Build                                 int64
}

// merge fills what a does not say from b.
func (a AppInfo) merge(b AppInfo) AppInfo {
	for _, f := range []struct{ to, from *string }{
		{&a.Version, &b.Version}, {&a.Platform, &b.Platform}, {&a.OS, &b.OS}, {&a.Device, &b.Device}, {&a.Locale, &b.Locale},
	} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
	if a.Build == 0 {
		a.Build = b.Build
	}
	return a
}

// Installation is one install of the app on one device.
//
// It proves itself with the private key of PublicKey or, when it has none, with
// a secret that is derived from its id and never stored.
type Installation struct {
	ID            string
	SecretVersion int    // version of the key its secret is derived with; 0 = it has a public key
	PublicKey     string // canonical JWK (RFC 7638 §3.2) of a P-256 key; "" = it has a secret
	Thumbprint    string // RFC 7638 thumbprint of PublicKey
	BootstrapKey  string // keyed hash of what a repeated first launch repeats; "" = none, or no longer kept
	ClonedFrom    string // the installation whose id was shown with a wrong credential when this one was made
	App           AppInfo
	Device        Device
	CreatedAt     time.Time
	SeenAt        time.Time
}

// Device is what is proven of an installation's app and device, and until when
// that counts; a zero Until has no end.
type Device struct {
	Level module.DeviceLevel
	Until time.Time
}

// at is the level that counts at now.
func (d Device) at(now time.Time) module.DeviceLevel {
	if !d.Until.IsZero() && !now.Before(d.Until) {
		return ""
	}
	return d.Level
}

// seenEvery is how old SeenAt may become before a re-attach writes it again.
const seenEvery = 24 * time.Hour

// seen returns i as it is after the app was seen at now, and whether that is worth a write.
func (i Installation) seen(app AppInfo, now time.Time) (Installation, bool) {
	app = app.merge(i.App)
	if app == i.App && now.Sub(i.SeenAt) < seenEvery {
		return i, false
	}
	i.App, i.SeenAt = app, now
	return i, true
}

// Registration is a request to create or re-attach an installation.
//
// Exactly one of these must be given: an InstallationID with Secret or Proof, a
// Proof alone, or an IdempotencyKey alone.
type Registration struct {
	InstallationID string
	Secret         string
	Proof          *Proof // verified
	IdempotencyKey string // unguessable: for as long as it is kept it opens what it made
	Reinstalled    bool   // the app's data is new although its credential is not
	ClientID       string
	App            AppInfo
	Work           string // proof of work; see checkWork
	Limited        bool   // it counts for its address (B-18)
}

// newUser makes the anonymous user of an installation.
func newUser(installation string, now time.Time) User {
	return User{ID: id.New(id.User), Kind: Anonymous, State: UserActive, InstallationID: installation, CreatedAt: now}
}

// newSession begins a session of u on the installation. Its key version is for the caller to set; its first refresh token has number 1.
func newSession(u User, installation Installation, client, methods string, now time.Time, p RefreshPolicy) Session {
	return Session{
		ID: id.New(id.Session), UserID: u.ID, InstallationID: installation.ID, ClientID: client, State: SessionActive, Device: installation.Device,
		Current: 1, RotatedAt: now, CreatedAt: now, AuthTime: now, Methods: methods, Scope: defaultScope,
		IdleExpiresAt: now.Add(p.Idle), ExpiresAt: now.Add(p.Absolute),
	}
}

// defaultScope is what the app's own clients get: all of the app's API.
const defaultScope = "app"

// Authentication methods (amr, RFC 8176 §2) of an installation's session.
const (
	methodKey    = "pop"          // proof of possession of a key
	methodSecret = "installation" // no registered value fits a secret that software keeps
)

func newInstallationID() string { return id.New(id.Installation) }

func newID(prefix string) string { return id.New(prefix) }
