package passkey

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"

	"landline/internal/config"
)

// Config names the relying party and the apps that belong to it. Without an id
// there are no passkeys.
type Config struct {
	RPID        string       `yaml:"rp_id" doc:"Domain that passkeys belong to, without scheme and port. They work on it and its subdomains, and in the apps below. It cannot be changed later: passkeys of another domain are lost. Empty = no passkeys." example:"example.com"`
	Name        string       `yaml:"name" doc:"Name that devices may show beside the passkey, at most 64 characters. Empty = rp_id." example:"Flights"`
	Origins     []string     `yaml:"origins" doc:"Origins that may use the passkeys, as https://host or https://host:port; http only for localhost. https://<rp_id>, which iOS apps send, is always among them. Those on other domains are published at /.well-known/webauthn; browsers follow at most five such domains. android:apk-key-hash:<base64url> is accepted too; android_apps below is easier." example:"[\"https://app.example.com\"]"`
	AppleApps   []string     `yaml:"apple_apps" doc:"Apps for iOS and macOS that may use the passkeys, as TEAMID.bundle. Published at /.well-known/apple-app-site-association on rp_id; the app needs the entitlement webcredentials:<rp_id>." example:"[\"A1B2C3D4E5.com.example.flights\"]"`
	AndroidApps []AndroidApp `yaml:"android_apps" doc:"Apps for Android that may use the passkeys. Published at /.well-known/assetlinks.json on rp_id."`
}

// AndroidApp is one app by its package and the certificates that sign it.
type AndroidApp struct {
	Package      string   `yaml:"package" doc:"Application id." example:"com.example.flights" required:"true"`
	Certificates []string `yaml:"certificates" doc:"SHA-256 fingerprints of its signing certificates as keytool and the Play Console show them: 32 bytes in hexadecimal, with or without colons. With Play App Signing that is Google's, beside the upload key for test builds." required:"true"`
}

const (
	androidOrigin = "android:apk-key-hash:"
	maxApps       = 100
)

// Enabled reports whether passkeys are configured.
func (c *Config) Enabled() bool { return c.RPID != "" }

// Check reports what cannot work.
func (c *Config) Check(v *config.Validator) {
	if c.RPID == "" {
		if c.Name != "" || len(c.Origins)+len(c.AppleApps)+len(c.AndroidApps) > 0 {
			v.At("rp_id").Fault("write for example example.com", "is empty, so the other keys have no effect")
		}
		return
	}
	if err := checkRPID(c.RPID); err != nil {
		v.At("rp_id").Fault("write for example example.com", "%s", err)
	}
	if len([]rune(c.Name)) > 64 {
		v.At("name").Fault("authenticators cut longer ones", "has %d characters, at most 64 are accepted", len([]rune(c.Name)))
	}
	for key, n := range map[string]int{"origins": len(c.Origins), "apple_apps": len(c.AppleApps), "android_apps": len(c.AndroidApps)} {
		if n > maxApps {
			v.At(key).Fault("", "has %d entries, at most %d are accepted", n, maxApps)
		}
	}
	for i, o := range c.Origins {
		if err := checkOrigin(o); err != nil {
			v.At("origins", i).Fault("write for example https://app.example.com", "%s", err)
			return
		}
	}
	if web := c.webOrigins(); checkRPID(c.RPID) == nil {
		if _, err := protocol.NewRelatedOrigins(web...); err != nil {
			v.At("origins").Fault("keep five domains at most, and spell origins as browsers do", "%s", err)
		}
	}
	for i, app := range c.AppleApps {
		if err := checkAppleApp(app); err != nil {
			v.At("apple_apps", i).Fault("write for example A1B2C3D4E5.com.example.flights", "%s", err)
		}
	}
	for i, app := range c.AndroidApps {
		if app.Package == "" || len(app.Package) > 255 || strings.Trim(app.Package, identifier+".") != "" {
			v.At("android_apps", i, "package").Fault("write for example com.example.flights", "is not an application id")
		}
		if len(app.Certificates) == 0 || len(app.Certificates) > maxApps {
			v.At("android_apps", i, "certificates").Fault("write the app's signing certificates", "wants 1 to %d fingerprints", maxApps)
		}
		for j, cert := range app.Certificates {
			if _, err := fingerprint(cert); err != nil {
				v.At("android_apps", i, "certificates", j).Fault("copy it from the Play Console, or from keytool -list -v", "%s", err)
			}
		}
	}
}

const identifier = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

func checkRPID(id string) error {
	if strings.ToLower(id) != id || len(id) > 253 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return fmt.Errorf("is not a domain in lower case without scheme and port")
	}
	if net.ParseIP(id) != nil || strings.HasPrefix(id, ".") || strings.HasSuffix(id, ".") || strings.Contains(id, "..") {
		return fmt.Errorf("is not a domain")
	}
	if id != "localhost" && !strings.Contains(id, ".") {
		return fmt.Errorf("is not a registrable domain")
	}
	if err := protocol.ValidateRPID(id); err != nil {
		return fmt.Errorf("is not a domain: %w", err)
	}
	return nil
}

func checkOrigin(origin string) error {
	if hash, ok := strings.CutPrefix(origin, androidOrigin); ok {
		if sum, err := base64.RawURLEncoding.Strict().DecodeString(hash); err != nil || len(sum) != 32 {
			return fmt.Errorf("is not %s with the base64url of a SHA-256", androidOrigin)
		}
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.ForceQuery {
		return fmt.Errorf("is not an origin: scheme, host and perhaps port, with nothing after them")
	}
	host := u.Hostname()
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return fmt.Errorf("is not https; browsers offer passkeys over http on localhost only")
	}
	return nil
}

func checkAppleApp(app string) error {
	team, bundle, ok := strings.Cut(app, ".")
	if !ok || len(team) != 10 || strings.Trim(team, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		return fmt.Errorf("does not begin with a team id of ten capitals and digits")
	}
	if bundle == "" || len(bundle) > 155 || strings.Trim(bundle, identifier+".-") != "" {
		return fmt.Errorf("does not end with a bundle id")
	}
	return nil
}

// fingerprint reads a SHA-256 in hexadecimal with or without colons.
func fingerprint(text string) ([]byte, error) {
	sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(sum) != 32 {
		return nil, fmt.Errorf("is not a SHA-256 fingerprint: 32 bytes in hexadecimal")
	}
	return sum, nil
}

// webOrigins are the origins that browsers and iOS apps send.
func (c *Config) webOrigins() []string {
	var web []string
	for _, o := range c.Origins {
		if !strings.HasPrefix(o, androidOrigin) {
			web = append(web, o)
		}
	}
	if own := "https://" + c.RPID; !slices.Contains(web, own) {
		web = append([]string{own}, web...)
	}
	return web
}

// appOrigins are the origins that Android apps send.
func (c *Config) appOrigins() ([]string, error) {
	var apps []string
	for _, o := range c.Origins {
		if strings.HasPrefix(o, androidOrigin) && !slices.Contains(apps, o) {
			apps = append(apps, o)
		}
	}
	for _, app := range c.AndroidApps {
		for _, cert := range app.Certificates {
			sum, err := fingerprint(cert)
			if err != nil {
				return nil, fmt.Errorf("passkey: certificate of %s %w", app.Package, err)
			}
			if o := androidOrigin + base64.RawURLEncoding.EncodeToString(sum); !slices.Contains(apps, o) {
				apps = append(apps, o)
			}
		}
	}
	return apps, nil
}
