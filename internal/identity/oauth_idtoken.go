package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Purposes of the keys that sign ID tokens. They are others than those of access
// tokens, so that neither is ever taken for the other (RFC 8725 §3.11).
const (
	purposeIDToken   = "identity.id-token"
	purposeIDTokenEC = "identity.id-token-es256"

	typeIDToken = "JWT"
	idTokenLife = 10 * time.Minute
)

// idToken says to c who is signed in.
func (s *Service) idToken(c *client, session Session, u User, nonce, access string, now time.Time) (string, error) {
	sum := sha256.Sum256([]byte(access))
	payload, err := json.Marshal(idTokenClaims{
		Issuer: s.app.PublicURL, Subject: u.ID, Audience: c.ID, IssuedAt: now.Unix(), Expires: now.Add(idTokenLife).Unix(),
		AuthTime: session.AuthTime.Unix(), Nonce: nonce, ACR: acrOf(session.Methods), Methods: strings.Fields(session.Methods),
		Session: session.ID, AccessHash: b64.EncodeToString(sum[:16]),
	})
	if err != nil {
		return "", err
	}
	if c.IDTokenAlg == "ES256" {
		return signJWT(s.keys, purposeIDTokenEC, typeIDToken, payload)
	}
	return s.signRS256(payload)
}

func (s *Service) signRS256(payload []byte) (string, error) {
	kid, key, err := s.keys.SignerRSA(purposeIDToken)
	if err != nil {
		return "", err
	}
	signed := b64.EncodeToString([]byte(`{"alg":"RS256","typ":"`+typeIDToken+`","kid":`+jsonString(kid)+`}`)) + "." + b64.EncodeToString(payload)
	digest := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("identity: sign with key %s: %w", kid, err)
	}
	return signed + "." + b64.EncodeToString(sig), nil
}

// hint reads an ID token of ours that a client sends back as id_token_hint. It
// may have expired (OpenID Connect RP-Initiated Logout 1.0 §4). It proves that we
// once told this to this client, and nothing else.
func (s *Service) hint(text string) (c idTokenClaims, ok bool) {
	payload, _, err := verifyJWT(s.keys, purposeIDTokenEC, typeIDToken, text)
	if err != nil {
		if payload, ok = s.verifyRS256(text); !ok {
			return c, false
		}
	}
	err = json.Unmarshal(payload, &c)
	return c, err == nil && c.Issuer == s.app.PublicURL && c.Subject != "" && c.Audience != ""
}

func (s *Service) verifyRS256(text string) ([]byte, bool) {
	if len(text) > maxJWT || strings.Count(text, ".") != 2 {
		return nil, false
	}
	cut := strings.LastIndexByte(text, '.')
	headText, payloadText, _ := strings.Cut(text[:cut], ".")
	head, err := decode64(headText)
	var h joseHeader
	if err != nil || json.Unmarshal(head, &h) != nil || h.Alg != "RS256" || h.Type != typeIDToken || h.Critical != nil || h.B64 != nil {
		return nil, false
	}
	key, purpose, ok := s.keys.VerifierRSA(h.KeyID)
	sig, err := decode64(text[cut+1:])
	if !ok || purpose != purposeIDToken || err != nil {
		return nil, false
	}
	digest := sha256.Sum256([]byte(text[:cut]))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig) != nil {
		return nil, false
	}
	payload, err := decode64(payloadText)
	return payload, err == nil
}
