package identity

import (
	"errors"
	"fmt"
	"io"

	"landline/internal/identity/emailcode"
	"landline/internal/identity/passkey"
	"landline/internal/identity/password"
	"landline/internal/identity/provider"
	"landline/internal/module"
)

// openCredentials makes the ways to sign in that the configuration offers. What
// it returns is closed when the capability stops.
func (s *Service) openCredentials(d module.Deps) ([]io.Closer, error) {
	c := &s.config
	if !d.Development {
		if keys := c.Providers.StandIns(); len(keys) > 0 {
			return nil, fmt.Errorf("identity.providers.%s: a stand-in is for profile: development alone", keys[0])
		}
	}
	var err error
	if s.providers, err = provider.New(c.Providers, provider.Options{Clock: d.Clock, Log: d.Log, Metrics: d.Metrics}); err != nil {
		return nil, fmt.Errorf("identity.providers: %w", err)
	}
	closers := []io.Closer{closeFunc(s.providers.Close)}
	for _, p := range s.providers.All() {
		v := providerVerifier{s, p}
		s.verifiers[p.Name()], s.revokers[p.Name()] = v, v
	}
	if c.EmailCode.On {
		if d.Mail == nil {
			return closers, errors.New("identity.email_code.on: there is no server to send codes with: set mail.smtp.host")
		}
		s.codes = emailcode.NewRules(c.EmailCode.Config)
		s.verifiers[providerEmail] = emailVerifier{s}
	}
	if c.Password.On {
		list, err := s.openPasswords(d)
		if list != nil {
			closers = append(closers, list)
		}
		if err != nil {
			return closers, err
		}
	}
	if c.Passkey.Enabled() {
		if s.passkeys, err = passkey.New(c.Passkey); err != nil {
			return closers, fmt.Errorf("identity.passkey: %w", err)
		}
		s.verifiers[providerPasskey] = passkeyVerifier{s}
	}
	return closers, nil
}

// openPasswords returns the list of breached passwords, nil when none is configured.
func (s *Service) openPasswords(d module.Deps) (closer io.Closer, err error) {
	c := s.config.Password
	if s.passwords, err = password.New(c.Config); err != nil {
		return nil, fmt.Errorf("identity.password: %w", err)
	}
	var list password.List
	if c.Breached != "" {
		file, err := password.OpenList(c.Breached, c.MinCount)
		if err != nil {
			return nil, fmt.Errorf("identity.password.breached: %w", err)
		}
		list, closer = file, file
	}
	s.passwordRules = password.NewRules(c.Config, list)
	if s.guessPair, err = d.Limits.Policy("identity/password/pair", guessesPair); err != nil {
		return closer, err
	}
	if s.guessStrangers, err = d.Limits.Policy("identity/password/strangers", guessesStrangers); err != nil {
		return closer, err
	}
	s.verifiers["password"] = passwordVerifier{s}
	return closer, nil
}

type closeFunc func()

func (f closeFunc) Close() error { f(); return nil }
