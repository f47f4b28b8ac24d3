package passkey_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"landline/internal/identity/passkey"
	"landline/internal/identity/passkey/passkeytest"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const android = "android:apk-key-hash:q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"

func party(t testing.TB) *passkey.RelyingParty {
	t.Helper()
	rp, err := passkey.New(passkey.Config{RPID: "example.com", Name: "Flights",
		Origins: []string{"https://app.example.com", "https://example.org"},
		AndroidApps: []passkey.AndroidApp{{Package: "com.example.flights", Certificates: []string{
			"AB:CD:EF:12:34:56:78:90:AB:CD:EF:12:34:56:78:90:AB:CD:EF:12:34:56:78:90:AB:CD:EF:12:34:56:78:90"}}},
		AppleApps: []string{"A1B2C3D4E5.com.example.flights"}})
	if err != nil {
		t.Fatal(err)
	}
	return rp
}

// shelf is how a caller keeps challenges: taken out once, by id, as JSON.
type shelf map[string][]byte

func (s shelf) put(t testing.TB, ch passkey.Challenge) {
	t.Helper()
	text, err := json.Marshal(ch)
	if err != nil {
		t.Fatal(err)
	}
	s[ch.ID] = text
}

func (s shelf) take(t testing.TB, id string) (ch passkey.Challenge, ok bool) {
	t.Helper()
	text, ok := s[id]
	delete(s, id)
	if ok {
		if err := json.Unmarshal(text, &ch); err != nil {
			t.Fatal(err)
		}
	}
	return ch, ok
}

type person struct {
	passkey.User
	device      *passkeytest.Authenticator
	credentials []passkey.Credential
}

func newPerson(origin string) *person {
	return &person{User: passkey.User{Handle: passkey.NewUserHandle(), Name: "ann@example.net"}, device: passkeytest.New(origin)}
}

// register is the whole ceremony.
func (p *person) register(t testing.TB, rp *passkey.RelyingParty) (passkey.Credential, error) {
	t.Helper()
	options, ch, err := rp.BeginRegistration(p.User, p.credentials, now)
	if err != nil {
		t.Fatal(err)
	}
	s := shelf{}
	s.put(t, ch)
	response, err := p.device.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	a, err := passkey.ParseRegistration(response)
	if err != nil {
		return passkey.Credential{}, err
	}
	if stored, ok := s.take(t, a.ChallengeID()); ok {
		ch = stored // a changed challenge names none; then the caller would stop here
	}
	c, err := rp.FinishRegistration(ch, a, now.Add(time.Minute))
	if err == nil {
		p.credentials = append(p.credentials, c)
	}
	return c, err
}

// signIn is the whole ceremony with the last credential.
func (p *person) signIn(t testing.TB, rp *passkey.RelyingParty, o passkey.SignInOptions) (passkey.Proof, error) {
	t.Helper()
	options, ch, err := rp.BeginSignIn(o, now)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.device.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	return p.finish(t, rp, ch, response)
}

func (p *person) finish(t testing.TB, rp *passkey.RelyingParty, ch passkey.Challenge, response []byte) (passkey.Proof, error) {
	t.Helper()
	a, err := passkey.ParseSignIn(response)
	if err != nil {
		return passkey.Proof{}, err
	}
	var stored passkey.Credential
	for _, c := range p.credentials {
		if bytes.Equal(c.ID, a.CredentialID()) {
			stored = c
		}
	}
	proof, err := rp.FinishSignIn(ch, a, stored, p.Handle, now.Add(time.Minute))
	if err == nil {
		for i := range p.credentials {
			if bytes.Equal(p.credentials[i].ID, proof.Credential.ID) {
				p.credentials[i] = proof.Credential
			}
		}
	}
	return proof, err
}

func TestRegisterAndSignInWithEveryAlgorithmAndOrigin(t *testing.T) {
	rp := party(t)
	for _, algorithm := range []int{passkeytest.ES256, passkeytest.EdDSA, passkeytest.RS256} {
		for _, origin := range []string{"https://example.com", "https://app.example.com", "https://example.org", android} {
			p := newPerson(origin)
			p.device.Algorithm = algorithm
			c, err := p.register(t, rp)
			if err != nil {
				t.Fatalf("%d from %s: %v", algorithm, origin, err)
			}
			if !c.UserVerified || c.BackupEligible || c.SignCount != 1 || c.AAGUID != "adce0002-35bc-c60a-648b-0b25f1f05503" ||
				!slices.Equal(c.Transports, []string{"internal", "hybrid"}) || c.Attachment != "platform" || !c.CreatedAt.Equal(now.Add(time.Minute)) {
				t.Errorf("credential: %+v", c)
			}
			proof, err := p.signIn(t, rp, passkey.SignInOptions{})
			if err != nil {
				t.Fatalf("%d from %s: %v", algorithm, origin, err)
			}
			if !proof.UserVerified || proof.CloneWarning || proof.Credential.SignCount != 2 || proof.Credential.LastUsedAt.IsZero() {
				t.Errorf("proof: %+v", proof)
			}
		}
	}
}

func TestSyncedPasskeysHaveNoCounterAndNeverWarn(t *testing.T) {
	rp, p := party(t), newPerson("https://example.com")
	p.device = passkeytest.NewSynced("https://example.com")
	c, err := p.register(t, rp)
	if err != nil || !c.BackupEligible || !c.BackedUp || c.SignCount != 0 {
		t.Fatalf("%+v %v", c, err)
	}
	for range 3 {
		if proof, err := p.signIn(t, rp, passkey.SignInOptions{}); err != nil || proof.CloneWarning {
			t.Fatalf("%+v %v", proof, err)
		}
	}
	p.device.Flags &^= passkeytest.BackedUp
	if proof, err := p.signIn(t, rp, passkey.SignInOptions{}); err != nil || proof.Credential.BackedUp {
		t.Errorf("the backup state does not follow: %+v %v", proof, err)
	}
	p.device.Flags &^= passkeytest.BackupEligible
	if _, err := p.signIn(t, rp, passkey.SignInOptions{}); passkey.ReasonOf(err) != passkey.Refused {
		t.Errorf("a change of backup eligibility: %v", err)
	}
}

func TestCounterThatDoesNotGoOnWarnsAndStays(t *testing.T) {
	rp, p := party(t), newPerson("https://example.com")
	if _, err := p.register(t, rp); err != nil {
		t.Fatal(err)
	}
	thief := p.device.Clone()
	for range 3 {
		if _, err := p.signIn(t, rp, passkey.SignInOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	p.device = thief
	proof, err := p.signIn(t, rp, passkey.SignInOptions{})
	if err != nil || !proof.CloneWarning || !proof.Credential.CloneWarning || proof.Credential.SignCount != 4 {
		t.Fatalf("%+v %v", proof, err)
	}
	p.device.Counter = 50
	if proof, err = p.signIn(t, rp, passkey.SignInOptions{}); err != nil || proof.CloneWarning || !proof.Credential.CloneWarning {
		t.Errorf("a warning that has been given is forgotten, or given again: %+v %v", proof, err)
	}
}

func TestExcludedDeviceMakesNoSecondPasskey(t *testing.T) {
	rp, p := party(t), newPerson("https://example.com")
	if _, err := p.register(t, rp); err != nil {
		t.Fatal(err)
	}
	options, _, err := rp.BeginRegistration(p.User, p.credentials, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.device.Create(options); err == nil {
		t.Error("the device was not told of its passkey")
	}
}

func TestSignInOfOneUserTakesOnlyThatUsersPasskeys(t *testing.T) {
	rp, ann, bob := party(t), newPerson("https://example.com"), newPerson("https://example.com")
	for _, p := range []*person{ann, bob} {
		if _, err := p.register(t, rp); err != nil {
			t.Fatal(err)
		}
	}
	anns := passkey.SignInOptions{Handle: ann.Handle, Credentials: ann.credentials}
	if _, err := ann.signIn(t, rp, anns); err != nil {
		t.Fatal(err)
	}
	bob.device.Tamper.Choose = func(keys []*passkeytest.Key) *passkeytest.Key { return keys[0] }
	if _, err := bob.signIn(t, rp, anns); passkey.ReasonOf(err) != passkey.WrongUser {
		t.Errorf("Bob proves to be Ann: %v", err)
	}
	// A second passkey of Ann's that was not asked for.
	second := newPerson("https://example.com")
	second.User = ann.User
	if _, err := second.register(t, rp); err != nil {
		t.Fatal(err)
	}
	second.device.Tamper.Choose = bob.device.Tamper.Choose
	if _, err := second.signIn(t, rp, anns); passkey.ReasonOf(err) != passkey.Unknown {
		t.Errorf("a passkey that was not asked for: %v", err)
	}
}

func TestSecondFactorNeedsPresenceAlone(t *testing.T) {
	rp, p := party(t), newPerson("https://example.com")
	if _, err := p.register(t, rp); err != nil {
		t.Fatal(err)
	}
	p.device.Flags = passkeytest.UserPresent
	second := passkey.SignInOptions{Handle: p.Handle, Credentials: p.credentials, SecondFactor: true}
	if proof, err := p.signIn(t, rp, second); err != nil || proof.UserVerified {
		t.Errorf("%+v %v", proof, err)
	}
	p.device.Tamper.Handle = func([]byte) []byte { return nil } // a device may leave it out then
	if _, err := p.signIn(t, rp, second); err != nil {
		t.Error(err)
	}
	if _, err := p.signIn(t, rp, passkey.SignInOptions{}); passkey.ReasonOf(err) != passkey.WrongUser {
		t.Errorf("a discoverable sign-in without a user handle: %v", err)
	}
	p.device.Tamper.Handle = nil
	p.device.Flags = 0
	if _, err := p.signIn(t, rp, second); passkey.ReasonOf(err) != passkey.NotPresent {
		t.Errorf("nobody was there: %v", err)
	}
	for _, o := range []passkey.SignInOptions{{SecondFactor: true}, {Handle: p.Handle}, {Credentials: p.credentials}} {
		if _, _, err := rp.BeginSignIn(o, now); err == nil {
			t.Errorf("%+v was begun", o)
		}
	}
}

func TestChallengeIsGoodOnceForFiveMinutesForOneCeremony(t *testing.T) {
	rp, p := party(t), newPerson("https://example.com")
	if _, err := p.register(t, rp); err != nil {
		t.Fatal(err)
	}
	options, ch, err := rp.BeginSignIn(passkey.SignInOptions{}, now)
	if err != nil {
		t.Fatal(err)
	}
	s := shelf{}
	s.put(t, ch)
	response, err := p.device.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	a, err := passkey.ParseSignIn(response)
	if err != nil {
		t.Fatal(err)
	}
	taken, ok := s.take(t, a.ChallengeID())
	if !ok {
		t.Fatal("the answer does not name its challenge")
	}
	stored := p.credentials[0]
	if _, err := rp.FinishSignIn(taken, a, stored, p.Handle, now.Add(passkey.Lifetime)); passkey.ReasonOf(err) != passkey.Expired {
		t.Errorf("after five minutes: %v", err)
	}
	if _, err := rp.FinishSignIn(taken, a, stored, p.Handle, now.Add(passkey.Lifetime-1)); err != nil {
		t.Errorf("just within five minutes: %v", err)
	}
	if _, ok := s.take(t, a.ChallengeID()); ok {
		t.Error("a challenge can be taken twice")
	}
	// The replayed answer against the challenge of another ceremony, of either kind.
	_, fresh, err := rp.BeginSignIn(passkey.SignInOptions{}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.FinishSignIn(fresh, a, stored, p.Handle, now); passkey.ReasonOf(err) != passkey.WrongChallenge {
		t.Errorf("replayed: %v", err)
	}
	_, registration, err := rp.BeginRegistration(p.User, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.FinishSignIn(registration, a, stored, p.Handle, now); passkey.ReasonOf(err) != passkey.WrongCeremony {
		t.Errorf("with the challenge of a registration: %v", err)
	}
	// An answer of the right kind to a challenge of the other.
	response, err = p.device.Get([]byte(`{"rpId":"example.com","challenge":"` + registration.Challenge + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	crossed, err := passkey.ParseSignIn(response)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.FinishSignIn(registration, crossed, stored, p.Handle, now); passkey.ReasonOf(err) != passkey.WrongCeremony {
		t.Errorf("a registration's challenge signed in: %v", err)
	}
	if _, err := rp.FinishSignIn(passkey.Challenge{}, a, stored, p.Handle, now); passkey.ReasonOf(err) != passkey.WrongCeremony {
		t.Errorf("with no challenge: %v", err)
	}
}

func TestOwnershipIsChecked(t *testing.T) {
	rp, ann, bob := party(t), newPerson("https://example.com"), newPerson("https://example.com")
	for _, p := range []*person{ann, bob} {
		if _, err := p.register(t, rp); err != nil {
			t.Fatal(err)
		}
	}
	options, ch, err := rp.BeginSignIn(passkey.SignInOptions{}, now)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ann.device.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	a, err := passkey.ParseSignIn(response)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		stored passkey.Credential
		handle []byte
		want   passkey.Reason
	}{
		"other user's credential":      {bob.credentials[0], bob.Handle, passkey.Unknown},
		"own credential of other user": {ann.credentials[0], bob.Handle, passkey.WrongUser},
		"none":                         {passkey.Credential{}, nil, passkey.Unknown},
		"no owner":                     {ann.credentials[0], nil, passkey.Unknown},
	} {
		if _, err := rp.FinishSignIn(ch, a, c.stored, c.handle, now); passkey.ReasonOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestUserHandleIsRandomAndBounded(t *testing.T) {
	rp := party(t)
	if a, b := passkey.NewUserHandle(), passkey.NewUserHandle(); len(a) != 64 || bytes.Equal(a, b) {
		t.Error("user handles are not 64 random bytes")
	}
	for _, u := range []passkey.User{{Handle: []byte("usr_1"), Name: "a"}, {Handle: make([]byte, 65), Name: "a"}, {Handle: make([]byte, 64)}} {
		if _, _, err := rp.BeginRegistration(u, nil, now); err == nil {
			t.Errorf("%+v was accepted", u)
		}
	}
}
