package identity

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"landline/internal/identity/provider"
	"landline/internal/module"
)

// offerConfigured puts the configured ways to sign in on the hosted pages:
// providers that send users back, codes by e-mail, passwords, and passkeys where
// the pages' origin may use them.
func (s *Service) offerConfigured() {
	for _, p := range s.providers.All() {
		if p.SendsBackTo(s.app.PublicURL + callbackPath) {
			s.offer(hostedProvider{Name: p.Name(), Label: providerLabel(p.Name()), Redirect: providerRedirect{providerVerifier{s, p}}})
		}
	}
	if s.config.EmailCode.On {
		s.offer(hostedProvider{Name: providerEmail, Code: codeMailer{s}})
	}
	if s.config.Password.On {
		s.offer(hostedProvider{Name: "password", Password: true})
	}
	if s.passkeys != nil && s.passkeys.Serves(s.app.PublicURL) {
		s.offer(hostedProvider{Name: providerPasskey, Passkey: true})
	}
}

// providerLabel is how people know a provider: Apple, Google, or the name it is configured under.
func providerLabel(name string) string {
	switch name {
	case "apple":
		return "Apple"
	case "google":
		return "Google"
	}
	_, own, _ := strings.Cut(name, ":")
	return own
}

// providerRedirect is a redirector on a configured provider.
type providerRedirect struct{ v providerVerifier }

func (r providerRedirect) begin(ctx context.Context, redirectURI, loginHint string, locales []string) (string, string, []byte, error) {
	address, pending, err := r.v.p.Begin(ctx, provider.Begin{RedirectURI: redirectURI, LoginHint: loginHint, Locales: locales})
	if err != nil {
		return "", "", nil, r.v.refusal(ctx, err)
	}
	keep, err := json.Marshal(pending)
	return address, pending.State, keep, err
}

func (r providerRedirect) finish(ctx context.Context, keep []byte, params url.Values) (CredentialWire, error) {
	var pending provider.Pending
	if err := json.Unmarshal(keep, &pending); err != nil {
		return CredentialWire{}, err
	}
	back, err := pending.Complete(params, r.v.s.now())
	if err != nil {
		return CredentialWire{}, r.v.refusal(ctx, err)
	}
	return CredentialWire{Provider: r.v.p.Name(), Code: back.Code.Code, RedirectURI: back.Code.RedirectURI, CodeVerifier: back.Code.Verifier,
		Nonce: back.Code.Nonce, Name: back.Name, client: back.Code.ClientID}, nil
}

// codeMailer is a codeSender on SendCode.
type codeMailer struct{ s *Service }

func (m codeMailer) sendCode(ctx context.Context, p *module.Principal, email, language string) (string, error) {
	_, err := m.s.SendCode(ctx, p, email, language)
	return "", err
}
