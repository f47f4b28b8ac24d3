package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"landline/internal/audit"
	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// Kinds of tickets. A ticket is a credential that was proven and waits for what
// the user says: it is good on the installation that proved it, for a while. It
// is sealed for the account that it concerns, so that it is gone when they are.
const (
	kindPending  = "pending_link"   // of account_exists_other_provider: goes to an account after another sign-in (L8)
	kindConflict = "conflict_token" // of identity_in_use: signs in to the other account, or merges it (L7)
	kindHeld     = "held_proof"     // found by the credential itself: the same request again, with a decision
)

const (
	pendingFor  = 15 * time.Minute
	conflictFor = freshFor // what it does needs a fresh proof
	fieldTicket = "identity.ticket"
)

func (s *Service) ticketID(kind, token, installation string) (string, error) {
	return s.blind(kind + "\x00" + token + "\x00" + installation)
}

// newTicket makes the row of a ticket, found by token on the installation.
func (s *Service) newTicket(ctx context.Context, kind, token, installation, subject string, t ticket, until time.Time) (c Challenge, err error) {
	raw, err := json.Marshal(t) // #nosec G117 -- what it returns is sealed in the next step
	if err != nil {
		return c, err
	}
	sealed, err := s.keys.Seal(ctx, subject, fieldTicket, raw)
	if err != nil {
		return c, err
	}
	c = Challenge{Kind: kind, ExpiresAt: until}
	if c.State, err = json.Marshal(storedTicket{subject, sealed}); err != nil {
		return c, err
	}
	c.ID, err = s.ticketID(kind, token, installation)
	return c, err
}

// errNoTicket is for a ticket that was never made, is over, or whose account is erased.
var errNoTicket = errors.New("identity: there is no such ticket")

func (s *Service) openTicket(ctx context.Context, kind, token, installation string) (c Challenge, t ticket, err error) {
	id, err := s.ticketID(kind, token, installation)
	if err != nil {
		return c, t, err
	}
	c, err = s.store.Challenge(ctx, id)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && (c.Kind != kind || !s.now().Before(c.ExpiresAt)) {
		return c, t, errNoTicket
	}
	if err != nil {
		return c, t, err
	}
	var stored storedTicket
	if err := json.Unmarshal(c.State, &stored); err != nil {
		return c, t, err
	}
	raw, err := s.keys.Open(ctx, stored.Subject, fieldTicket, stored.Sealed)
	if errors.Is(err, secret.ErrShredded) {
		return c, t, errNoTicket
	}
	if err != nil {
		return c, t, err
	}
	return c, t, json.Unmarshal(raw, &t)
}

// decides reports whether the caller of a refused sign-in can go on with the
// same credential and a decision.
func decides(err error) bool {
	for _, code := range []problem.Code{problem.DeletionPending, problem.MergePolicy, problem.TooManyAccounts, problem.TooManyInstallations,
		problem.AccountExistsElsewhere, problem.IdentityInUse} {
		if problem.HasCode(err, code) {
			return true
		}
	}
	return false
}

// hold spends the credential of a sign-in that was refused with a question, and
// keeps what it proved: the same credential is good once more here, and nowhere
// else. It returns the refusal.
func (s *Service) hold(ctx context.Context, a *attempt, refusal error) error {
	if a.proven.UseID == "" || a.proven.held != nil || !decides(refusal) {
		return refusal
	}
	until := a.now.Add(pendingFor)
	if !a.proven.UseUntil.IsZero() && a.proven.UseUntil.Before(until) {
		until = a.proven.UseUntil
	}
	waits, err := s.newTicket(ctx, kindHeld, a.proven.UseID, a.p.InstallationID, cmp.Or(a.owner.ID, a.current.User.ID),
		ticket{User: a.p.UserID, Owner: a.owner.ID, Proven: a.proven, At: a.provenAt().UnixMilli()}, until)
	if err != nil {
		return err
	}
	// When somebody was faster the credential is spent already: by a repeat, which has
	// the same answer, or elsewhere, where it is no use to this caller.
	_, err = s.store.Apply(ctx, Change{
		Use:  &CredentialUse{ID: a.proven.UseID, InstallationID: a.p.InstallationID, ExpiresAt: a.proven.UseUntil, Held: a.proven.Settle},
		Take: a.proven.Take, Challenges: []Challenge{waits},
		Audit: []audit.Entry{userEntry(ctx, a.p.UserID, "sign_in.refuse", cmp.Or(a.owner.ID, a.p.UserID), string(problem.From(refusal).Code), nil)},
	})
	if err != nil {
		return err
	}
	return refusal
}

// resumeHeld fills proven with what was held back of it. It is false when nothing was.
func (s *Service) resumeHeld(ctx context.Context, installation string, proven *Proven) (bool, error) {
	c, t, err := s.openTicket(ctx, kindHeld, proven.UseID, installation)
	if errors.Is(err, errNoTicket) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := *proven
	*proven = t.Proven
	if now.Profile.Secret != nil { // the password that is set now, not that of the first try
		proven.Profile.Secret, proven.NewPassword = now.Profile.Secret, now.NewPassword
	}
	proven.held, proven.at = &c, time.UnixMilli(t.At)
	return true, nil
}

// newToken is what a client gets to find a ticket by.
func newToken() string { return rand.Text() + rand.Text() }
