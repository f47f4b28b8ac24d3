// Package passkeytest has a passkey authenticator in software, with the client
// around it, for tests: what a phone and its browser do between options and
// answer (WebAuthn Level 3 §5.1, §6.3). It works on the JSON of both, and every
// part of an answer can be changed before or after it is signed.
package passkeytest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Algorithms by their COSE numbers.
const (
	ES256 = -7
	EdDSA = -8
	RS256 = -257
)

// Flags of authenticator data (WebAuthn §6.1).
const (
	UserPresent    = 0x01
	UserVerified   = 0x04
	BackupEligible = 0x08
	BackedUp       = 0x10
	attested       = 0x40
)

// Authenticator is a device with its client. Its fields may be changed between
// calls. It is not safe for concurrent use.
type Authenticator struct {
	Origin    string // what the client reports
	Algorithm int    // of new keys; ES256, EdDSA or RS256
	AAGUID    [16]byte
	Flags     byte // of every answer; the attested bit is set where it belongs
	Counter   uint32
	Step      uint32 // how much the counter grows by each use; 0 = a synced passkey

	// Tamper changes answers on their way; see Tamper.
	Tamper Tamper

	keys []*Key
}

// Tamper changes parts of an answer. Nil changes nothing.
type Tamper struct {
	ClientData func(map[string]any)   // before it is signed
	AuthData   func([]byte) []byte    // before it is signed
	Signature  func([]byte) []byte    // after
	PublicKey  func(map[int]any)      // COSE_Key of a registration
	Statement  func(map[string]any)   // attestation object of a registration
	Response   func(map[string]any)   // the answer as a whole, after all
	Handle     func([]byte) []byte    // user handle of a sign-in
	Choose     func(keys []*Key) *Key // which key signs; default: as a device would
}

// Key is a passkey on the device.
type Key struct {
	ID        []byte
	RPID      string
	Handle    []byte
	Name      string
	Algorithm int
	private   crypto.Signer
}

// New returns an authenticator that keeps ES256 passkeys with user verification
// and a counter, for a client at origin.
func New(origin string) *Authenticator {
	return &Authenticator{Origin: origin, Algorithm: ES256, Flags: UserPresent | UserVerified, Step: 1,
		AAGUID: [16]byte{0xad, 0xce, 0, 2, 0x35, 0xbc, 0xc6, 0x0a, 0x64, 0x8b, 0x0b, 0x25, 0xf1, 0xf0, 0x55, 0x03}}
}

// NewSynced is New of passkeys that are copied to all devices of a person.
func NewSynced(origin string) *Authenticator {
	a := New(origin)
	a.Flags |= BackupEligible | BackedUp
	a.Step = 0
	return a
}

// Keys are the passkeys on the device, the oldest first.
func (a *Authenticator) Keys() []*Key { return a.keys }

// Clone returns a device with the same keys and counter, as a thief would have it.
func (a *Authenticator) Clone() *Authenticator {
	c := *a
	c.keys = append([]*Key(nil), a.keys...)
	return &c
}

var b64 = base64.RawURLEncoding

type entity struct {
	ID string `json:"id"`
}

type creation struct {
	RP   entity `json:"rp"`
	User struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"user"`
	Challenge  string `json:"challenge"`
	Parameters []struct {
		Algorithm int `json:"alg"`
	} `json:"pubKeyCredParams"`
	Exclude []entity `json:"excludeCredentials"`
}

// Create makes a passkey as options ask for (PublicKeyCredentialCreationOptionsJSON)
// and returns the answer (RegistrationResponseJSON). Like a device it refuses
// when it has an excluded credential, or cannot make a key of the kinds asked for.
func (a *Authenticator) Create(options []byte) ([]byte, error) {
	var o creation
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("passkeytest: options: %w", err)
	}
	offered := a.Tamper.PublicKey != nil
	for _, p := range o.Parameters {
		offered = offered || p.Algorithm == a.Algorithm
	}
	if !offered {
		return nil, fmt.Errorf("passkeytest: NotSupportedError: no algorithm in common")
	}
	for _, e := range o.Exclude {
		for _, k := range a.keys {
			if k.RPID == o.RP.ID && b64.EncodeToString(k.ID) == e.ID {
				return nil, fmt.Errorf("passkeytest: InvalidStateError: a passkey of this user is here already")
			}
		}
	}
	handle, err := b64.DecodeString(o.User.ID)
	if err != nil || len(handle) == 0 || len(handle) > 64 {
		return nil, fmt.Errorf("passkeytest: user.id is not base64url of 1 to 64 bytes")
	}
	key, cose, err := newKey(a.Algorithm)
	if err != nil {
		return nil, err
	}
	key.RPID, key.Handle, key.Name = o.RP.ID, handle, o.User.Name
	if a.Tamper.PublicKey != nil {
		a.Tamper.PublicKey(cose)
	}
	coseKey, err := cbor.Marshal(cose)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	a.Counter += a.Step
	data := a.authData(o.RP.ID, attested)
	data = append(data, a.AAGUID[:]...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(key.ID))) // #nosec G115 -- 32
	data = append(append(data, key.ID...), coseKey...)
	if a.Tamper.AuthData != nil {
		data = a.Tamper.AuthData(data)
	}
	client, err := a.clientData("webauthn.create", o.Challenge)
	if err != nil {
		return nil, err
	}
	object := map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data}
	if a.Tamper.Statement != nil {
		a.Tamper.Statement(object)
	}
	attestation, err := cbor.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	a.keys = append(a.keys, key)
	return a.answer(key, map[string]any{
		"clientDataJSON": b64.EncodeToString(client), "attestationObject": b64.EncodeToString(attestation),
		"authenticatorData": b64.EncodeToString(data), "publicKeyAlgorithm": a.Algorithm,
		"transports": []string{"internal", "hybrid"},
	})
}

type request struct {
	RPID      string   `json:"rpId"`
	Challenge string   `json:"challenge"`
	Allow     []entity `json:"allowCredentials"`
}

// Get signs with the newest fitting passkey as options ask for
// (PublicKeyCredentialRequestOptionsJSON) and returns the answer
// (AuthenticationResponseJSON).
func (a *Authenticator) Get(options []byte) ([]byte, error) {
	var o request
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("passkeytest: options: %w", err)
	}
	key := a.choose(&o)
	if key == nil {
		return nil, fmt.Errorf("passkeytest: NotAllowedError: no passkey for %s", o.RPID)
	}
	a.Counter += a.Step
	data := a.authData(o.RPID, 0)
	if a.Tamper.AuthData != nil {
		data = a.Tamper.AuthData(data)
	}
	client, err := a.clientData("webauthn.get", o.Challenge)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(client)
	signature, err := key.sign(append(bytes.Clone(data), hash[:]...))
	if err != nil {
		return nil, err
	}
	if a.Tamper.Signature != nil {
		signature = a.Tamper.Signature(signature)
	}
	handle := key.Handle
	if a.Tamper.Handle != nil {
		handle = a.Tamper.Handle(handle)
	}
	response := map[string]any{
		"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(data),
		"signature": b64.EncodeToString(signature),
	}
	if handle != nil {
		response["userHandle"] = b64.EncodeToString(handle)
	}
	return a.answer(key, response)
}

func (a *Authenticator) choose(o *request) *Key {
	if a.Tamper.Choose != nil {
		return a.Tamper.Choose(a.keys)
	}
	for i := len(a.keys) - 1; i >= 0; i-- {
		k := a.keys[i]
		fits := len(o.Allow) == 0
		for _, e := range o.Allow {
			fits = fits || e.ID == b64.EncodeToString(k.ID)
		}
		if fits && k.RPID == o.RPID {
			return k
		}
	}
	return nil
}

func (a *Authenticator) authData(rpID string, flags byte) []byte {
	hash := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(hash[:], a.Flags|flags), a.Counter)
}

func (a *Authenticator) clientData(kind, challenge string) ([]byte, error) {
	data := map[string]any{"type": kind, "challenge": challenge, "origin": a.Origin, "crossOrigin": false}
	if a.Tamper.ClientData != nil {
		a.Tamper.ClientData(data)
	}
	return marshal(data)
}

func (a *Authenticator) answer(key *Key, response map[string]any) ([]byte, error) {
	id := b64.EncodeToString(key.ID)
	all := map[string]any{
		"id": id, "rawId": id, "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{"credProps": map[string]any{"rk": true}}, "response": response,
	}
	if a.Tamper.Response != nil {
		a.Tamper.Response(all)
	}
	return marshal(all)
}

func marshal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	return text, nil
}

// newKey makes a key pair, and its public part as COSE_Key (RFC 9053 §7, RFC 8230 §4).
func newKey(algorithm int) (*Key, map[int]any, error) {
	k := &Key{ID: make([]byte, 32), Algorithm: algorithm}
	rand.Read(k.ID)
	switch algorithm {
	case ES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, fmt.Errorf("passkeytest: %w", err)
		}
		point, err := private.PublicKey.ECDH()
		if err != nil {
			return nil, nil, fmt.Errorf("passkeytest: %w", err)
		}
		k.private = private
		xy := point.Bytes()[1:]
		return k, map[int]any{1: 2, 3: ES256, -1: 1, -2: xy[:32], -3: xy[32:]}, nil
	case EdDSA:
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, fmt.Errorf("passkeytest: %w", err)
		}
		k.private = private
		return k, map[int]any{1: 1, 3: EdDSA, -1: 6, -2: []byte(public)}, nil
	case RS256:
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, nil, fmt.Errorf("passkeytest: %w", err)
		}
		k.private = private
		return k, map[int]any{1: 3, 3: RS256, -1: private.N.Bytes(), -2: []byte{1, 0, 1}}, nil
	}
	return nil, nil, fmt.Errorf("passkeytest: algorithm %d is not one of ES256, EdDSA, RS256", algorithm)
}

func (k *Key) sign(message []byte) ([]byte, error) {
	options := crypto.SignerOpts(crypto.Hash(0)) // EdDSA signs the message itself
	if k.Algorithm != EdDSA {
		digest := sha256.Sum256(message)
		message, options = digest[:], crypto.SHA256
	}
	signature, err := k.private.Sign(rand.Reader, message, options)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	return signature, nil
}
