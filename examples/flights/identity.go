package flights

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// A Verifier checks the Landline-Identity header, as any service behind
// Landline can: an ES256 JWT of type landline-identity+jwt whose audience is the
// upstream's name, signed with a key of Landline's /.well-known/jwks.json.
type Verifier struct {
	JWKS     string // URL of the key set
	Issuer   string // app.public_url of Landline
	Audience string // the upstream's name in landline.yaml
	Client   *http.Client

	mu      sync.Mutex
	keys    jose.JSONWebKeySet
	fetched time.Time
}

// Identity is who Landline says is calling.
type Identity struct {
	UserID         string `json:"sub"`
	InstallationID string `json:"iid"`
	Anonymous      bool   `json:"anon"`
}

var errNoIdentity = errors.New("the request has no Landline-Identity header: is it coming through Landline?")

// Verify returns who makes r.
func (v *Verifier) Verify(r *http.Request) (Identity, error) {
	header := r.Header.Get("Landline-Identity")
	if header == "" {
		return Identity{}, errNoIdentity
	}
	token, err := jwt.ParseSigned(header, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return Identity{}, fmt.Errorf("Landline-Identity: %w", err)
	}
	key, err := v.key(r.Context(), token.Headers[0].KeyID)
	if err != nil {
		return Identity{}, err
	}
	var claims jwt.Claims
	var identity Identity
	if err := token.Claims(key, &claims, &identity); err != nil {
		return Identity{}, fmt.Errorf("Landline-Identity: %w", err)
	}
	expected := jwt.Expected{Issuer: v.Issuer, AnyAudience: jwt.Audience{v.Audience}, Time: time.Now()}
	if err := claims.ValidateWithLeeway(expected, 30*time.Second); err != nil {
		return Identity{}, fmt.Errorf("Landline-Identity: %w", err)
	}
	return identity, nil
}

// key finds a public key; an unknown one makes it read the key set again, at most every 5 s.
func (v *Verifier) key(ctx context.Context, kid string) (*jose.JSONWebKey, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if found := v.keys.Key(kid); len(found) > 0 {
		return &found[0], nil
	}
	if time.Since(v.fetched) < 5*time.Second {
		return nil, fmt.Errorf("Landline-Identity: unknown key %q", kid)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.JWKS, nil)
	if err != nil {
		return nil, err
	}
	answer, err := v.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read Landline's keys: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read Landline's keys: %s", answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 64<<10)).Decode(&v.keys); err != nil {
		return nil, fmt.Errorf("read Landline's keys: %w", err)
	}
	v.fetched = time.Now()
	if found := v.keys.Key(kid); len(found) > 0 {
		return &found[0], nil
	}
	return nil, fmt.Errorf("Landline-Identity: unknown key %q", kid)
}
