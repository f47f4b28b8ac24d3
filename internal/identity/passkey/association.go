package passkey

import (
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
)

// Paths at which the documents that tie apps and other domains to the relying
// party must be served, on its domain, as application/json and without a redirect.
const (
	RelatedOriginsPath  = protocol.WellKnownPathWebAuthn
	AppleAppSitePath    = "/.well-known/apple-app-site-association"
	AndroidAppLinksPath = "/.well-known/assetlinks.json"
)

// Association is a document that is served at Path; nil Body = there is none.
type Association struct {
	Path string
	Body []byte
}

// Associations are the documents that the configured origins and apps need:
// related origins (WebAuthn Level 3 §5.11), webcredentials of Apple's associated
// domains, and Digital Asset Links with the relation for credentials.
func (rp *RelyingParty) Associations() []Association { return rp.associations }

func associations(c *Config, web []string) ([]Association, error) {
	var docs []Association
	add := func(path string, body any) error {
		text, err := json.Marshal(body)
		docs = append(docs, Association{Path: path, Body: text})
		return err
	}
	if len(web) > 1 {
		related, err := protocol.NewRelatedOrigins(web...)
		if err != nil {
			return nil, err
		}
		if err := add(RelatedOriginsPath, related); err != nil {
			return nil, err
		}
	}
	if len(c.AppleApps) > 0 {
		if err := add(AppleAppSitePath, appleSite{WebCredentials: appleApps{Apps: c.AppleApps}}); err != nil {
			return nil, err
		}
	}
	var links []assetLink
	for _, app := range c.AndroidApps {
		target := assetTarget{Namespace: "android_app", Package: app.Package}
		for _, cert := range app.Certificates {
			sum, err := fingerprint(cert)
			if err != nil {
				return nil, err
			}
			target.Certificates = append(target.Certificates, colons(sum))
		}
		links = append(links, assetLink{Target: target, Relation: []string{
			"delegate_permission/common.handle_all_urls", "delegate_permission/common.get_login_creds"}})
	}
	if len(links) > 0 {
		if err := add(AndroidAppLinksPath, links); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// colons writes a fingerprint as Digital Asset Links wants it.
func colons(sum []byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(pairs, ":")
}

type appleSite struct {
	WebCredentials appleApps `json:"webcredentials"`
}

type appleApps struct {
	Apps []string `json:"apps"`
}

type assetLink struct {
	Relation []string    `json:"relation"`
	Target   assetTarget `json:"target"`
}

type assetTarget struct {
	Namespace    string   `json:"namespace"`
	Package      string   `json:"package_name"`
	Certificates []string `json:"sha256_cert_fingerprints"`
}
