package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
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

// profile opens what is sealed in i, without a password that is not good any more.
func (s *Service) profile(ctx context.Context, i Identity) (p Profile, err error) {
	raw, err := s.keys.Open(ctx, i.UserID, fieldProfile, i.Sealed)
	if err != nil {
		return p, fmt.Errorf("identity %s: %w", i.ID, err)
	}
	err = json.Unmarshal(raw, &p)
	if i.SecretVoid {
		p.Secret = nil
	}
	return p, err
}
