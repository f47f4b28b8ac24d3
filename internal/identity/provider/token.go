package provider

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json" // keeps to the letter of names, refuses names that repeat
)

const maxToken = 8 << 10 // bytes of a token, with its signature

var b64 = base64.RawURLEncoding.Strict()

// decode64 is strict base64url; Go's decoder alone would skip line breaks. One
// token has one text, or its hash could not stand for it.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return b64.DecodeString(s)
}

// opened is a token of which nothing but the form is known.
type opened struct {
	text    string
	head    headWire
	payload []byte
}

// open reads a compact JWS (RFC 7515 §7.1) within bounds.
func open(text string, algs, types []string) (*opened, error) {
	switch dots := strings.Count(text, "."); {
	case text == "":
		return nil, refuse(ReasonMissing, "there is no token")
	case len(text) > maxToken:
		return nil, refuse(ReasonTooLarge, "the token has %d bytes, at most %d are accepted", len(text), maxToken)
	case dots == 4:
		return nil, refuse(ReasonEncrypted, "the token is encrypted; a signed one is needed")
	case dots != 2:
		return nil, refuse(ReasonMalformed, "the token is not of three parts")
	}
	parts := strings.Split(text, ".")
	o := &opened{text: text}
	head, err := decode64(parts[0])
	if err != nil || strict.Unmarshal(head, &o.head) != nil {
		return nil, refuse(ReasonMalformed, "the token's header is not base64url of a JSON object")
	}
	if o.payload, err = decode64(parts[1]); err != nil {
		return nil, refuse(ReasonMalformed, "the token's payload is not base64url")
	}
	if _, err = decode64(parts[2]); err != nil {
		return nil, refuse(ReasonMalformed, "the token's signature is not base64url")
	}
	switch {
	case !slices.Contains(algs, o.head.Algorithm):
		return nil, refuse(ReasonAlgorithm, "the token's algorithm is not one of %s", strings.Join(algs, ", "))
	case o.head.Critical != nil || o.head.Encoding != nil || o.head.Zip != nil:
		return nil, refuse(ReasonCritical, "the token's header has a critical extension that is not known here")
	case !slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(t, mediaSubtype(o.head.Type)) }) || o.head.Content != "":
		return nil, refuse(ReasonType, "it is another kind of token")
	case len(o.head.KeyID) > maxKeyID:
		return nil, refuse(ReasonMalformed, "the token's key id has more than %d characters", maxKeyID)
	}
	return o, nil
}

// mediaSubtype is a typ without "application/", which may be left out (RFC 7515 §4.1.9).
func mediaSubtype(typ string) string {
	if len(typ) > 12 && strings.EqualFold(typ[:12], "application/") {
		return typ[12:]
	}
	return typ
}

// signed is what the signature covers: two tokens with the same are one.
func (o *opened) signed() string { return o.text[:strings.LastIndexByte(o.text, '.')] }

// replayID names the token for single use: by its issuer and jti, or by what is
// signed. A signature itself may be written in several ways (ECDSA), so it does
// not count.
func (o *opened) replayID(issuer, jti string) string {
	text := issuer + "\x00jti\x00" + jti
	if jti == "" {
		text = issuer + "\x00hash\x00" + o.signed()
	}
	sum := sha256.Sum256([]byte(text))
	return b64.EncodeToString(sum[:])
}

// verify checks the signature with the issuer's keys, fetched if they must be.
// issued is when the token says that it was made, checked already.
func (o *opened) verify(ctx context.Context, keys keySource, issued time.Time) error {
	began := keys.begun()
	found, version, err := o.keysFor(ctx, keys, issued, began)
	if err != nil {
		return err
	}
	jws, err := jose.ParseSignedCompact(o.text, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(o.head.Algorithm)})
	if err != nil {
		return refuse(ReasonMalformed, "the token is not a compact JWS")
	}
	if o.signedBy(jws, found) {
		return nil
	}
	if version <= began { // some issuers put a new key under the id of the one before
		set, newest, err := keys.doubt(ctx, version)
		if err != nil {
			return err
		}
		if newest != version && o.signedBy(jws, set.candidates(o.head.KeyID, o.head.Algorithm)) {
			return nil
		}
	}
	return refuse(ReasonSignature, "the token's signature does not verify")
}

// signedBy reports whether one of the keys has made the signature.
func (o *opened) signedBy(jws *jose.JSONWebSignature, keys []jose.JSONWebKey) bool {
	return slices.ContainsFunc(keys, func(key jose.JSONWebKey) bool {
		payload, err := jws.Verify(key.Key)
		return err == nil && string(payload) == string(o.payload)
	})
}

// keysFor returns the keys that may have made the signature, and their version.
// For a key that is not known the keys are fetched anew. What was asked for after
// began is the issuer's last word, and so is what was asked for after the token was
// made, by whichever clock; as long as there is neither, the answer is "later" and
// not "no".
func (o *opened) keysFor(ctx context.Context, keys keySource, issued time.Time, began int) ([]jose.JSONWebKey, int, error) {
	set, version, err := keys.get(ctx)
	if err != nil {
		return nil, 0, err
	}
	found := set.candidates(o.head.KeyID, o.head.Algorithm)
	since := issued.Add(clockSkew)
	if set.knows(o.head.KeyID) { // of another algorithm: what can be known now is certain enough
		since = time.Time{}
	}
	for len(found) == 0 && o.head.KeyID != "" && version <= began {
		before := version
		if set, version, err = keys.renew(ctx, before, since); err != nil {
			return nil, 0, err
		}
		if version == before {
			break
		}
		found = set.candidates(o.head.KeyID, o.head.Algorithm)
	}
	if len(found) == 0 {
		return nil, 0, refuse(ReasonUnknownKey, "the issuer has no such key for this algorithm")
	}
	return found, version, nil
}

// keySource is a cached[keySet] or a staticKeys.
type keySource interface {
	begun() int
	get(context.Context) (keySet, int, error)
	renew(context.Context, int, time.Time) (keySet, int, error)
	doubt(context.Context, int) (keySet, int, error)
}

// staticKeys never change: their only version is newer than any call.
type staticKeys keySet

func (staticKeys) begun() int { return 0 }

func (s staticKeys) get(context.Context) (keySet, int, error) { return keySet(s), 1, nil }

func (s staticKeys) renew(context.Context, int, time.Time) (keySet, int, error) {
	return keySet(s), 1, nil
}

func (s staticKeys) doubt(context.Context, int) (keySet, int, error) { return keySet(s), 1, nil }
