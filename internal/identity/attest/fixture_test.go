package attest_test

import (
	"errors"
	"testing"
	"time"

	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
	"landline/internal/secret"
)

var _ attest.Keys = (*secret.Ring)(nil)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	team    = "A1B2C3D4E5"
	bundle  = "com.example.flights"
	app     = team + "." + bundle
	pkg     = "com.example.flights"
	subject = "ins_018f0000-0000-7000-8000-000000000001"
	jkt     = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

// world is a server with every kind configured, and who it trusts.
type world struct {
	challenges *attest.Challenges
	apple      *attesttest.Apple
	play       *attesttest.Play
	android    *attesttest.Android
	config     attest.Config
	options    attest.Options
	verifier   *attest.Verifier
	want       attest.Expected
}

func newWorld(t testing.TB, changes ...func(*world)) *world {
	t.Helper()
	w := &world{
		challenges: attest.NewChallenges(attesttest.Keys{}, "attest"), apple: attesttest.NewApple(now),
		play: attesttest.NewPlay(pkg), android: attesttest.NewAndroid(pkg, now), config: attest.DefaultConfig(),
		want: attest.Expected{Subject: subject, Thumbprint: jkt},
	}
	w.config.Apple.TeamID, w.config.Apple.BundleIDs = team, []string{"com.example.other", bundle}
	w.config.Play, w.config.AndroidKey = w.play.Config(), w.android.Config()
	w.options = attest.Options{Challenges: w.challenges, AppleRoots: w.apple.Roots(), GoogleRoots: w.android.Roots(), Fake: true, Development: true}
	for _, change := range changes {
		change(w)
	}
	var err error
	if w.verifier, err = attest.New(w.config, w.options); err != nil {
		t.Fatal(err)
	}
	return w
}

// clientData answers a new challenge.
func (w *world) clientData(t testing.TB, purpose attest.Purpose) []byte {
	t.Helper()
	c, err := w.challenges.New(purpose, subject, now)
	if err != nil {
		t.Fatal(err)
	}
	return attesttest.ClientData(c.Text, jkt)
}

// refused checks that err is about field.
func refused(t *testing.T, name, field string, err error) bool {
	t.Helper()
	e, ok := errors.AsType[*attest.Error](err)
	if !ok || e.Field != field {
		t.Errorf("%s: got %v, want a fault of %s", name, err, field)
		return false
	}
	return true
}
