package attest

import (
	"fmt"
	"time"
)

// Level orders how much is proven of an installation.
type Level int8

// The levels, each including the ones before.
const (
	LevelNone     Level = iota // nothing, or evidence that says something bad
	LevelKey                   // it holds a private key
	LevelApp                   // the platform's owner recognises the app and the device
	LevelHardware              // a key is held by secure hardware, or the platform's owner vouches for the hardware
)

var levelNames = [...]string{"none", "key", "app", "hardware"}

func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return fmt.Sprintf("Level(%d)", int8(l))
	}
	return levelNames[l]
}

// MarshalText writes the name.
func (l Level) MarshalText() ([]byte, error) {
	if l < 0 || int(l) >= len(levelNames) {
		return nil, fmt.Errorf("attest: there is no level %d", int8(l))
	}
	return []byte(levelNames[l]), nil
}

// UnmarshalText reads a name.
func (l *Level) UnmarshalText(text []byte) error {
	for i, name := range levelNames {
		if string(text) == name {
			*l = Level(i) // #nosec G115 -- four names
			return nil
		}
	}
	return fmt.Errorf("must be none, key, app or hardware")
}

// Kind is a kind of evidence.
type Kind string

// The kinds.
const (
	AppAttest     Kind = "app_attest"
	PlayIntegrity Kind = "play_integrity"
	AndroidKey    Kind = "android_key"
	Fake          Kind = "fake" // refused outside development
)

// Environment says for whom the evidence was made.
type Environment string

// The environments.
const (
	Production  Environment = "production"
	Development Environment = "development" // App Attest's sandbox, and the fake kind
)

// Reason says why a verdict's level is not higher. The set is closed, so that it can label a metric.
type Reason string

// The reasons.
const (
	AppUnrecognized    Reason = "app_unrecognized"    // Play does not know this build, or did not evaluate it
	AppUnknown         Reason = "app_unknown"         // another package than configured
	CertificateUnknown Reason = "certificate_unknown" // signed by another certificate than configured
	VersionTooOld      Reason = "version_too_old"     // below min_version_code
	DeviceUntrusted    Reason = "device_untrusted"    // Play saw no certified Android device
	HardwareUnproven   Reason = "hardware_unproven"   // certified, but without hardware-backed proof
	SoftwareKey        Reason = "software_key"        // the key is not in secure hardware
	ImportedKey        Reason = "imported_key"        // the key was not made in the hardware, so that copies may exist
	BootUnverified     Reason = "boot_unverified"     // the operating system is not the manufacturer's, or may be changed
)

// Verdict is what a piece of evidence proves. It may be stored as JSON.
type Verdict struct {
	Level         Level       `json:"level"`
	Kind          Kind        `json:"kind"`
	Environment   Environment `json:"environment"`
	KeyThumbprint string      `json:"key_thumbprint,omitempty"` // RFC 7638, of the attested key; "" for kinds without one
	Reasons       []Reason    `json:"reasons,omitempty"`        // why the level is not higher; at most one of each
	Signals       Signals     `json:"signals"`
	At            time.Time   `json:"at"` // when it was verified
}

// Signals are what the evidence says beside, for rules about risk. Texts have at
// most 64 bytes of A-Z a-z 0-9 . _ -, lists at most 16 items.
type Signals struct {
	App           string   `json:"app,omitempty"`            // TeamID.bundleID, or the package
	VersionCode   int64    `json:"version_code,omitempty"`   // of an Android app
	Device        []string `json:"device,omitempty"`         // Play's deviceRecognitionVerdict
	Recognition   string   `json:"recognition,omitempty"`    // Play's appRecognitionVerdict
	Licensing     string   `json:"licensing,omitempty"`      // Play's appLicensingVerdict
	Activity      string   `json:"activity,omitempty"`       // Play's deviceActivityLevel
	PlayProtect   string   `json:"play_protect,omitempty"`   // Play's playProtectVerdict
	AccessRisk    []string `json:"access_risk,omitempty"`    // Play's appsDetected
	SecurityLevel string   `json:"security_level,omitempty"` // of the key: software, trusted_environment or strong_box
	BootState     string   `json:"boot_state,omitempty"`     // verified, self_signed, unverified or failed
	Locked        bool     `json:"locked,omitempty"`         // the boot loader is
	OSVersion     int      `json:"os_version,omitempty"`     // of Android, for example 140000; Play: the SDK version
	OSPatch       int      `json:"os_patch,omitempty"`       // of Android, YYYYMM
}

// lower notes a reason and caps the level.
func (v *Verdict) lower(to Level, why Reason) {
	v.Level = min(v.Level, to)
	for _, r := range v.Reasons {
		if r == why {
			return
		}
	}
	v.Reasons = append(v.Reasons, why)
}

const (
	maxSignal  = 64
	maxSignals = 16
)

// signal keeps of a foreign text what may be stored, logged and shown.
func signal(s string) string {
	out := make([]byte, 0, min(len(s), maxSignal))
	for i := 0; i < len(s) && len(out) < maxSignal; i++ {
		if c := s[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			out = append(out, c)
		}
	}
	return string(out)
}

func signals(list []string) []string {
	var out []string
	for _, s := range list[:min(len(list), maxSignals)] {
		if s = signal(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}
