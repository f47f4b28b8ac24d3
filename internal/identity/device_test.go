package identity

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
	"landline/internal/module"
)

// withApple makes the node accept App Attest keys of a certification authority of the test's own.
func withApple(t *testing.T, f *fixture) *attesttest.Apple {
	t.Helper()
	apple := attesttest.NewApple(f.clock.Now())
	config := attest.DefaultConfig()
	config.Apple = attest.AppleConfig{TeamID: "A1B2C3D4E5", BundleIDs: []string{"com.example.flights"}, Environment: attest.AppleProduction}
	var err error
	f.service.device, err = attest.New(config, attest.Options{Challenges: f.service.challenges, AppleRoots: apple.Roots(), Fake: true, Development: true})
	if err != nil {
		t.Fatal(err)
	}
	return apple
}

const appleApp = "A1B2C3D4E5.com.example.flights"

func (p *phone) challenge(purpose string) string {
	p.f.t.Helper()
	a := p.f.post("/v1/installations/device-challenges", map[string]any{"purpose": purpose}, p.bearer()...)
	if a.Status != 200 {
		p.f.t.Fatalf("%d %s", a.Status, a.Raw)
	}
	return a.str("challenge")
}

func (p *phone) prove(body map[string]any) answer {
	p.f.t.Helper()
	return p.f.post("/v1/installations/device-proof", body, p.bearer()...)
}

// level is what a fresh access token says.
func (p *phone) level() module.DeviceLevel {
	p.f.t.Helper()
	a := p.f.token(p.refresh)
	p.refresh, p.access = a.str("refresh_token"), a.str("access_token")
	who, err := p.f.auth.Authenticate(request("Authorization", "Bearer "+p.access))
	if err != nil {
		p.f.t.Fatal(err)
	}
	return who.Device
}

func TestDeviceProofIsInTheTokens(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		apple := withApple(t, f)
		p, other := f.phone("a"), f.phone("b")
		if got := p.level(); got != "" {
			t.Fatalf("level %q before any proof", got)
		}
		data := attesttest.ClientData(p.challenge("attest"), "")
		key, keyID, object := apple.Attest(appleApp, data)
		body := map[string]any{"kind": "app_attest", "client_data": data, "key_id": keyID, "object": object}
		if a := other.prove(body); a.Status != 403 || a.str("code") != "device_proof_invalid" {
			t.Errorf("another installation's evidence: %d %s", a.Status, a.Raw)
		}
		if a := p.prove(body); a.Status != 200 || a.str("level") != "hardware" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if a := p.prove(body); a.Status != 403 {
			t.Errorf("the same evidence again: %d %s", a.Status, a.Raw)
		}
		if got := p.level(); got != module.DeviceHardware {
			t.Errorf("level %q after the proof", got)
		}
		p.signIn("alice", "n1")
		if got := p.level(); got != module.DeviceHardware {
			t.Errorf("level %q after the sign-in", got)
		}
		// Assertions: each counter once.
		assert := func(counter uint32) map[string]any {
			data := attesttest.ClientData(p.challenge("assert"), "")
			return map[string]any{"kind": "app_attest", "assertion": true, "client_data": data, "object": attesttest.Assert(key, appleApp, counter, data)}
		}
		both := []map[string]any{assert(1), assert(1)}
		status := make([]int, 2)
		var wait sync.WaitGroup
		for i := range both {
			wait.Go(func() { status[i] = p.prove(both[i]).Status })
		}
		wait.Wait()
		slices.Sort(status)
		if !slices.Equal(status, []int{200, 403}) {
			t.Errorf("one counter twice: %v", status)
		}
		if a := p.prove(assert(2)); a.Status != 200 {
			t.Errorf("the next counter: %d %s", a.Status, a.Raw)
		}
		if a := other.prove(assert(3)); a.Status != 400 {
			t.Errorf("an assertion without an attestation: %d %s", a.Status, a.Raw)
		}
		f.clock.Advance(8 * 24 * time.Hour)
		if got := p.level(); got != "" {
			t.Errorf("level %q long after the proof", got)
		}
		if a := p.prove(map[string]any{"kind": "play_integrity", "client_data": data, "token": "x"}); a.Status != 400 || !strings.Contains(a.Raw, "kind") {
			t.Errorf("a kind that is not configured: %d %s", a.Status, a.Raw)
		}
	})
}

func TestFakeProofsAreForDevelopment(t *testing.T) {
	f := sqliteFixture(t)
	p := f.phone("a")
	data := attesttest.ClientData(p.challenge("attest"), "")
	body := map[string]any{"kind": "fake", "client_data": data, "token": attesttest.FakeToken(attest.LevelApp, data, "")}
	if a := p.prove(body); a.Status != 400 {
		t.Errorf("without fake_device_proof: %d %s", a.Status, a.Raw)
	}
	withApple(t, f)
	if a := p.prove(body); a.Status != 200 || a.str("level") != "app" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if got := p.level(); got != module.DeviceApp {
		t.Errorf("level %q", got)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	f := sqliteFixture(t)
	withApple(t, f)
	p := f.phone("a")
	big := base64.StdEncoding.EncodeToString(make([]byte, 300<<10))
	a := p.prove(map[string]any{"kind": "app_attest", "client_data": "e30=", "object": big})
	if a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}
