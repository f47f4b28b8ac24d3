package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/identity/provider"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// providerVerifier is a verifier for the tokens and codes of one provider, and a
// revoker of what the provider gave.
type providerVerifier struct {
	s *Service
	p *provider.Provider
}

func (v providerVerifier) verify(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error) {
	if c.IDToken == "" && c.Code == "" {
		return Proven{}, invalid("id_token", "is needed, or code")
	}
	var token *provider.Claims
	if c.IDToken != "" {
		var err error
		if token, err = v.p.Verify(ctx, provider.Token{IDToken: c.IDToken, Nonce: c.Nonce}); err != nil {
			return Proven{}, v.refusal(ctx, err)
		}
	}
	claims := token
	if c.Code != "" {
		spent, err := v.repeated(ctx, c, token)
		if err != nil || spent.UseID != "" {
			return spent, err
		}
		if claims, err = v.exchange(ctx, c, token); err != nil {
			return Proven{}, v.refusal(ctx, err)
		}
	}
	methods := strings.Join(append([]string{methodFederated}, claims.AMR...), " ")
	return Proven{
		Provider: c.Provider, EmailVerified: claims.EmailVerified, Methods: methods, UseID: credentialUse(c, token), UseUntil: cmp.Or(token, claims).ExpiresAt.Add(clockSkew),
		Profile: Profile{Issuer: claims.Issuer, Subject: claims.Subject, Email: claims.Email, PrivateEmail: claims.PrivateEmail, Name: claims.Name,
			Refresh: claims.RefreshToken.Reveal(), Client: claims.ClientID},
	}, nil
}

// repeated recognises the repeat of a sign-in by its code, which the provider
// would refuse the second time. SignIn says what becomes of it.
func (v providerVerifier) repeated(ctx context.Context, c CredentialWire, token *provider.Claims) (Proven, error) {
	use := credentialUse(c, token)
	_, err := v.s.store.CredentialUse(ctx, use)
	if errors.Is(err, sqldb.ErrNotFound) {
		return Proven{}, nil
	}
	return Proven{Provider: c.Provider, UseID: use, Repeat: true}, err
}

// exchange exchanges the code: only a code brings the token that a deletion must
// revoke. An ID token that came with it must be of the same person.
func (v providerVerifier) exchange(ctx context.Context, c CredentialWire, token *provider.Claims) (*provider.Claims, error) {
	claims, err := v.p.Exchange(ctx, provider.Code{Code: c.Code, RedirectURI: c.RedirectURI, Verifier: c.CodeVerifier, Nonce: c.Nonce, ClientID: c.client})
	if err == nil && token != nil && claims.Subject != token.Subject {
		return nil, problem.New(problem.CredentialInvalid, "id_token and code are of different people")
	}
	return claims, err
}

func (v providerVerifier) refusal(ctx context.Context, err error) error {
	var e *provider.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Kind == provider.Refused {
		return problem.New(problem.CredentialInvalid, "%s", e.Detail).With("reason", string(e.Reason))
	}
	if e.Kind == provider.Misconfigured {
		v.s.log.ErrorContext(ctx, "a sign-in provider is misconfigured", "provider", v.p.Name(), "error", err)
	}
	after := e.RetryAfter
	if after <= 0 {
		after = 5 * time.Second
	}
	return problem.New(problem.ProviderUnavailable, "the sign-in provider cannot be asked; the same credential is good again after the wait").After(after).Wrap(err)
}

func (v providerVerifier) revoke(ctx context.Context, p Profile) (string, error) {
	can, err := v.p.CanRevoke(ctx)
	if err != nil {
		return "", err
	}
	if !can {
		return "not possible", nil
	}
	r, err := v.p.Revoke(ctx, config.Secret(p.Refresh), p.Client)
	if errors.Is(err, provider.ErrMisconfigured) || errors.Is(err, provider.ErrRefused) {
		return "refused", nil // asking again changes nothing
	}
	return string(r.Outcome), err
}

// useOf is what a provider's replay id is remembered by.
func useOf(replay string) string {
	sum := sha256.Sum256([]byte("use\x00" + replay))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// credentialUse is what the credential is remembered by: its ID token where there is
// one, also beside a code, which the provider takes once. By itself the token
// would still be good.
func credentialUse(c CredentialWire, token *provider.Claims) string {
	if token != nil {
		return useOf(token.ReplayID)
	}
	return useOf("code\x00" + c.Provider + "\x00" + c.Code)
}
