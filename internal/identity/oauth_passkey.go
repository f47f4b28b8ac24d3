package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"landline/internal/identity/pages"
	"landline/internal/identity/passkey"
	"landline/internal/problem"
)

const (
	scriptPath  = "/oauth/passkey.js"
	optionsPath = "/oauth/passkey-options"
)

// passkeyPage is how the sign-in page uses passkeys, nil when it does not.
func (s *Service) passkeyPage() *pages.Passkey {
	if s.hostedPasskey() == "" {
		return nil
	}
	return &pages.Passkey{Script: s.app.PublicURL + scriptPath + "?v=" + pages.ScriptVersion, Options: s.app.PublicURL + optionsPath}
}

func (s *Service) hostedPasskey() string {
	for _, h := range s.hosted {
		if h.Passkey {
			return h.Name
		}
	}
	return ""
}

// handlePasskeyPage gives the script of the sign-in page the options of a sign-in
// by whoever comes. The challenge is the visitor's: it makes no installation, since
// the script asks for one on every visit.
func (s *Service) handlePasskeyPage(w http.ResponseWriter, r *http.Request) {
	form, ok := s.pageForm(w, r)
	if !ok {
		return
	}
	if s.passkeys == nil {
		problem.Write(w, r, problem.New(problem.NotFound, "passkeys are not on"))
		return
	}
	v, err := s.visit(w, r)
	if err == nil && !s.genuine(r, v, form.Get("csrf")) {
		err = problem.New(problem.Forbidden, "the page was open for too long, or cookies are blocked: load it again")
	}
	var options json.RawMessage
	if err == nil {
		options, err = s.passkeySignIn(r.Context(), v.id, s.now())
	}
	if err != nil {
		problem.Write(w, r, retryable(err))
		return
	}
	answerJSON(w, http.StatusOK, noStore, options)
}

// passkeySignIn begins a sign-in that holder, an installation or a visitor, is to finish.
func (s *Service) passkeySignIn(ctx context.Context, holder string, now time.Time) (json.RawMessage, error) {
	options, ch, err := s.passkeys.BeginSignIn(passkey.SignInOptions{}, now)
	if err != nil {
		return nil, err
	}
	return options, s.keepPasskey(ctx, ch, holder)
}

func (s *Service) keepPasskey(ctx context.Context, ch passkey.Challenge, holder string) error {
	state, err := json.Marshal(ch)
	if err != nil {
		return err
	}
	id, err := s.blind("passkey\x00" + ch.ID + "\x00" + holder)
	if err != nil {
		return err
	}
	done, err := s.store.Apply(ctx, Change{Challenges: []Challenge{{ID: id, Kind: kindPasskey, State: state, ExpiresAt: ch.ExpiresAt}}})
	if err == nil && !done {
		err = errors.New("identity: two passkey challenges are the same")
	}
	return err
}

// registrant may answer a registration: the user who began it, where it was begun.
// With several accounts on an installation, a passkey made for one, which the
// device lists under its name, must not open another.
func registrant(holder, user string) string { return holder + "\x00" + user }

// passkeyHolder is who may answer with c: the visitor of the hosted pages, who was
// given the challenge before there was an installation, or the installation.
func passkeyHolder(c CredentialWire, installation string) string {
	return cmp.Or(c.visitor, installation)
}
