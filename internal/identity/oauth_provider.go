package identity

import (
	"context"
	"net/url"

	"landline/internal/module"
)

// hostedProvider is a way to sign in on the hosted pages. What it leads to is a
// credential, which the verifier of the same name proves as if an app had sent it.
type hostedProvider struct {
	Name  string // as in CredentialWire.Provider
	Label string // for people: Google

	// One of these is set.
	Redirect redirector // the user goes to the provider and comes back
	Code     codeSender // a code is sent by e-mail
	Password bool       // address and password
	Passkey  bool       // a passkey, with the script
}

// redirector sends a browser to a provider and reads what it comes back with, at
// callbackPath of the public URL.
type redirector interface {
	// begin returns the address to go to, the parameter state that it comes back
	// with, and what to keep until then.
	begin(ctx context.Context, redirectURI, loginHint string, locales []string) (address, state string, keep []byte, err error)

	// finish reads the parameters of the redirect back. Its errors are problems:
	// credential_invalid when the user said no, provider_unavailable.
	finish(ctx context.Context, keep []byte, params url.Values) (CredentialWire, error)
}

// codeSender sends a code to an address, whoever has it.
type codeSender interface {
	// sendCode returns the challenge that the code answers; it may be "".
	sendCode(ctx context.Context, p *module.Principal, email, language string) (challenge string, err error)
}

// offer adds a way to sign in to the hosted pages, while the module is built.
func (s *Service) offer(p hostedProvider) { s.hosted = append(s.hosted, p) }

func (s *Service) hostedBy(name string) *hostedProvider {
	for i := range s.hosted {
		if s.hosted[i].Name == name {
			return &s.hosted[i]
		}
	}
	return nil
}
