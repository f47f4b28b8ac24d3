package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// lookup is what an identity is found by.
func (s *Service) lookup(issuer, subject string) (string, error) {
	return s.blind("identity\x00" + issuer + "\x00" + subject)
}

// emailLookup is "" for no address.
func (s *Service) emailLookup(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	return s.blind("email\x00" + strings.ToLower(address))
}

func (s *Service) blind(message string) (string, error) {
	sum, err := s.keys.BlindIndex(purposeLookup, []byte(message))
	return base64.RawURLEncoding.EncodeToString(sum), err
}

const (
	fieldProfile  = "identity.profile"
	fieldConflict = "identity.merge_conflict"
	fieldPending  = "identity.pending_link"
)

// seal puts p into i. It must not be called within a transaction.
func (s *Service) seal(ctx context.Context, i *Identity, p Profile) error {
	raw, err := json.Marshal(p) // #nosec G117 -- what it returns is sealed in the next step
	if err != nil {
		return err
	}
	i.Sealed, err = s.keys.Seal(ctx, i.UserID, fieldProfile, raw)
	return err
}

// profile opens what is sealed in i.
func (s *Service) profile(ctx context.Context, i Identity) (p Profile, err error) {
	raw, err := s.keys.Open(ctx, i.UserID, fieldProfile, i.Sealed)
	if err != nil {
		return p, fmt.Errorf("identity %s: %w", i.ID, err)
	}
	return p, json.Unmarshal(raw, &p)
}

// pendingLink is a proven credential on its way to the account it belongs to.
type pendingLink struct {
	Proven  Proven `json:"proven"`
	Expires int64  `json:"exp"` // Unix seconds
}

const pendingFor = 15 * time.Minute

func (s *Service) sealPending(ctx context.Context, installation string, proven Proven, now time.Time) (string, error) {
	raw, err := json.Marshal(pendingLink{proven, now.Add(pendingFor).Unix()})
	if err != nil {
		return "", err
	}
	sealed, err := s.keys.Seal(ctx, installation, fieldPending, raw)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// openPending returns the credential that an answer account_exists_other_provider carried.
func (s *Service) openPending(ctx context.Context, installation, token string) (Proven, error) {
	bad := invalid("pending_link", "is not one that this installation was given in the last 15 minutes")
	sealed, err := decode64(token)
	if err != nil {
		return Proven{}, bad
	}
	raw, err := s.keys.Open(ctx, installation, fieldPending, sealed)
	var p pendingLink
	if err != nil || json.Unmarshal(raw, &p) != nil || s.now().Unix() >= p.Expires {
		return Proven{}, bad
	}
	return p.Proven, nil
}
