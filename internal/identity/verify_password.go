package identity

import (
	"context"
	"errors"
	"strconv"
	"time"

	"landline/internal/identity/emailcode"
	"landline/internal/identity/password"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

func id64(n int64) string { return strconv.FormatInt(n, 10) }

// Bounds of guessing. Installations on which the address was proved are not
// counted among strangers, so that nobody can lock the owner out.
var (
	guessesPair      = limit.Rate{Limit: 10, Window: 15 * time.Minute, Burst: 10}
	guessesStrangers = limit.Rate{Limit: 30, Window: time.Hour, Burst: 30}
)

// passwordVerifier proves an address by the password that was set for it.
type passwordVerifier struct{ s *Service }

func (v passwordVerifier) verify(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error) {
	address, err := emailcode.ParseAddress(c.Email)
	switch {
	case err != nil:
		return Proven{}, invalid("email", err.Error())
	case c.Password == "":
		return Proven{}, invalid("password", "is needed")
	}
	if err := v.mayGuess(ctx, p, address.Key); err != nil {
		return Proven{}, err
	}
	lookup, err := v.s.lookup(issuerEmail, address.Key)
	if err != nil {
		return Proven{}, err
	}
	refused := problem.New(problem.CredentialInvalid, "address and password do not fit together")
	i, owner, err := v.s.store.IdentityBy(ctx, lookup)
	if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
		return Proven{}, err
	}
	known := err == nil
	profile := Profile{}
	if known {
		if profile, err = v.s.profile(ctx, i); err != nil {
			return Proven{}, err
		}
	}
	if !known || len(profile.Secret) == 0 || owner.State == UserDeleted {
		if err := v.s.passwords.VerifyNone(ctx, c.Password); err != nil { // the same time as for somebody
			return Proven{}, err
		}
		return Proven{}, refused
	}
	ok, rehash, err := v.s.passwords.Verify(ctx, c.Password, string(profile.Secret))
	if err != nil {
		return Proven{}, err
	}
	if !ok {
		return Proven{}, refused
	}
	against := profile.Secret
	profile.Refresh, profile.Secret = "", nil
	if rehash {
		text, err := v.s.passwords.Hash(ctx, c.Password)
		if err != nil {
			return Proven{}, err
		}
		profile.Secret = []byte(text)
	}
	return Proven{Provider: providerEmail, EmailVerified: i.EmailVerified, Methods: passwordMethod, Profile: profile, Against: against}, nil
}

// mayGuess bounds guesses by address and installation, and by address over all
// installations that the address was never proved on.
func (v passwordVerifier) mayGuess(ctx context.Context, p *module.Principal, address string) error {
	e, err := emailVerifier(v).read(ctx, address, p.InstallationID)
	if err != nil {
		return err
	}
	checks := []limit.Check{{Policy: v.s.guessPair, Key: e.pair.ID, Shared: true}}
	if !e.p.Known {
		checks = append(checks, limit.Check{Policy: v.s.guessStrangers, Key: e.strangers.ID, Shared: true})
	}
	states := make([]limit.State, len(checks))
	if v.s.limits.Take(ctx, checks, states) {
		return nil
	}
	wait := time.Second
	for _, s := range states {
		wait = max(wait, s.Wait)
	}
	return problem.New(problem.RateLimited, "too many tries; wait, or sign in with a code sent to the address").After(wait)
}

// SignUp proves the address with a code, sets the password for it, and signs in
// like SignIn. It also is the way to set a new password, which ends the
// account's other sessions in the same transaction.
func (s *Service) SignUp(ctx context.Context, p *module.Principal, c CredentialWire, o SignInOptions) (SignedIn, error) {
	if s.passwords == nil {
		return SignedIn{}, invalid("password", "is not offered by this server")
	}
	if err := s.passwordRules.Check(ctx, c.Password, c.Email, c.Name); err != nil {
		var weak *password.WeakError
		if errors.As(err, &weak) {
			return SignedIn{}, invalid("password", weak.Detail)
		}
		return SignedIn{}, err
	}
	proven, err := emailVerifier{s}.verify(ctx, p, c)
	if err != nil {
		return SignedIn{}, err
	}
	if proven.Repeat {
		if err := s.isPassword(ctx, proven.Profile, c.Password); err != nil {
			return SignedIn{}, err
		}
		return s.signIn(ctx, p, proven, o)
	}
	text, err := s.passwords.Hash(ctx, c.Password)
	if err != nil {
		return SignedIn{}, err
	}
	proven.Profile.Secret, proven.Profile.Name, proven.NewPassword = []byte(text), c.Name, true
	return s.signIn(ctx, p, proven, o)
}

// isPassword refuses a code that was used already, unless it set this password:
// then its answer was lost. Whoever signed in with it must ask for another one.
func (s *Service) isPassword(ctx context.Context, address Profile, text string) error {
	lookup, err := s.lookup(address.Issuer, address.Subject)
	if err != nil {
		return err
	}
	i, _, err := s.store.IdentityBy(ctx, lookup)
	if errors.Is(err, sqldb.ErrNotFound) { // unlinked since
		return credentialUsed()
	}
	if err != nil {
		return err
	}
	stored, err := s.profile(ctx, i)
	if err != nil {
		return err
	}
	if len(stored.Secret) == 0 {
		return credentialUsed()
	}
	same, _, err := s.passwords.Verify(ctx, text, string(stored.Secret))
	if err == nil && !same {
		err = credentialUsed()
	}
	return err
}
