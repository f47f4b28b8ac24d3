package app

import (
	"io"
	"strings"
	"testing"

	"landline/internal/config"
)

// TestProductionRefusesWeakSettings: what a laptop may do, a server must not (B-20).
func TestProductionRefusesWeakSettings(t *testing.T) {
	const sound = "profile: production\napp: {id: com.example.app, public_url: \"https://api.example.com\"}\nlisten: {trusted_proxies: [10.0.0.0/8]}\n"
	for name, c := range map[string]struct{ yaml, fault string }{
		"a plain HTTP issuer":         {strings.Replace(sound, "https://", "http://", 1), "plain HTTP issuer"},
		"no issuer":                   {strings.Replace(sound, ", public_url: \"https://api.example.com\"", "", 1), "public URL"},
		"plain HTTP without a proxy":  {strings.Replace(sound, "listen: {trusted_proxies: [10.0.0.0/8]}\n", "", 1), "trusted proxy"},
		"a short master key":          {sound + "secrets: {master_key: \"${SHORT}\"}\n", "32 random bytes"},
		"a master key of nothing":     {sound + "secrets: {master_key: \"${ZEROS}\"}\n", "32 random bytes"},
		"a short secret of a client":  {sound + "identity: {clients: {com.example.partner: {name: Partner, client_secret: \"${SHORT}\", redirect_uris: [\"https://partner.example.com/cb\"]}}}\n", "at least 32"},
		"device proofs that are fake": {sound + "identity: {fake_device_proof: true}\n", "development"},
	} {
		secrets := map[string]string{"SHORT": "changeme", "ZEROS": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
		a, err := New(t.Context(), Options{ConfigData: []byte(c.yaml), Data: t.TempDir(), Public: "127.0.0.1:0", Admin: "127.0.0.1:0", Stdout: io.Discard, Stderr: io.Discard,
			Version: "development", Env: config.Env{Lookup: func(name string) (string, bool) { v, ok := secrets[name]; return v, ok }}})
		if err == nil {
			t.Errorf("%s is accepted", name)
			if err := a.Close(t.Context()); err != nil {
				t.Error(err)
			}
			continue
		}
		if ExitCode(err) == ExitOK || !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: exit %d, %v", name, ExitCode(err), err)
		}
		if strings.Contains(err.Error(), "changeme") {
			t.Errorf("%s: the fault tells the secret: %v", name, err)
		}
	}
}
