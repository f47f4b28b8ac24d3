package identity

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"landline/internal/identity/emailcode"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// Addresses that people prove with codes, and passwords, are identities of this
// issuer: both stand for the address, so that one account has both.
const (
	issuerEmail    = "email"
	providerEmail  = "email_code"
	purposeSignIn  = "sign_in"
	kindCode       = "email_code"
	kindPair       = "email_pair"
	kindStrangers  = "email_strangers"
	historyKeep    = 25 * time.Hour
	knownKeep      = 400 * 24 * time.Hour
	maxCodeTries   = 5
	emailMethods   = "otp"
	fieldMail      = "identity.mail"
	mailAttempts   = 8
	mailLife       = 10 * time.Minute
	passwordMethod = "pwd"
)

// emailVerifier proves addresses with codes that are sent to them.
type emailVerifier struct{ s *Service }

// codeKeys are emailcode.Keys on the ring.
type codeKeys struct{ s *Service }

func (k codeKeys) MAC(data []byte) (int, []byte, error) { return k.s.keys.MAC(purposeCode, data) }
func (k codeKeys) VerifyMAC(version int, data, mac []byte) bool {
	return k.s.keys.VerifyMAC(purposeCode, version, data, mac)
}

// emailState is everything that is stored about an address on an installation.
type emailState struct {
	pair, strangers Challenge
	p               pairState
	s               emailcode.Strangers
}

func (v emailVerifier) read(ctx context.Context, address, installation string) (e emailState, err error) {
	pairID, err := v.s.blind("pair\x00" + address + "\x00" + installation)
	if err != nil {
		return e, err
	}
	strangersID, err := v.s.blind("strangers\x00" + address)
	if err != nil {
		return e, err
	}
	for _, one := range []struct {
		to   *Challenge
		id   string
		kind string
		into any
	}{{&e.pair, pairID, kindPair, &e.p}, {&e.strangers, strangersID, kindStrangers, &e.s}} {
		*one.to, err = v.s.store.Challenge(ctx, one.id)
		if errors.Is(err, sqldb.ErrNotFound) {
			*one.to = Challenge{ID: one.id, Kind: one.kind}
			continue
		}
		if err != nil {
			return e, err
		}
		if err = json.Unmarshal(one.to.State, one.into); err != nil {
			return e, err
		}
	}
	return e, nil
}

// changes are what the state is after pair and strangers have changed.
func (e emailState) changes(now time.Time) ([]Challenge, error) {
	keep := historyKeep
	if e.p.Known {
		keep = knownKeep
	}
	var err error
	if e.pair.State, err = json.Marshal(e.p); err != nil {
		return nil, err
	}
	e.pair.ExpiresAt = now.Add(keep)
	if e.p.Known { // strangers are not looked at, and not counted
		return []Challenge{e.pair}, nil
	}
	if e.strangers.State, err = json.Marshal(e.s); err != nil {
		return nil, err
	}
	e.strangers.ExpiresAt = now.Add(historyKeep)
	return []Challenge{e.pair, e.strangers}, nil
}

// CodeSent is the answer to a request for a code, the same whoever has the address.
type CodeSent struct {
	ExpiresIn   time.Duration
	ResendAfter time.Duration
}

// SendCode sends a code to the address for p's installation.
func (s *Service) SendCode(ctx context.Context, p *module.Principal, text, locale string) (CodeSent, error) {
	address, err := emailcode.ParseAddress(text)
	if err != nil {
		return CodeSent{}, invalid("email", err.Error())
	}
	v := emailVerifier{s}
	for range maxCodeTries {
		now := s.now()
		e, err := v.read(ctx, address.Key, p.InstallationID)
		if err != nil {
			return CodeSent{}, err
		}
		if d := s.codes.CanSend(e.p.Known, e.p.Pair, e.s, now); !d.OK() {
			s.metrics.codes.WithLabelValues(string(d.Reason)).Inc()
			return CodeSent{}, problem.New(problem.RateLimited, "wait before asking for another code").After(max(d.Wait, time.Second))
		}
		ch, code, err := s.codes.New(codeKeys{s}, emailcode.Request{Purpose: purposeSignIn, Address: address, Installation: p.InstallationID}, e.s, now)
		if err != nil {
			return CodeSent{}, err
		}
		done, err := v.store(ctx, p, e, ch, mailArgs{To: address.Mail, Name: mail.SignInCode, Locale: locale,
			Values: mail.Values{App: s.app.Name, Code: code, Minutes: int(ch.ExpiresAt.Sub(now) / time.Minute)}}, now)
		if err != nil {
			return CodeSent{}, err
		}
		if done {
			s.metrics.codes.WithLabelValues("sent").Inc()
			return CodeSent{ExpiresIn: ch.ExpiresAt.Sub(now), ResendAfter: s.config.EmailCode.Resend.D()}, nil
		}
	}
	return CodeSent{}, problem.New(problem.StorageUnavailable, "codes are being asked for by other requests").After(time.Second)
}

// store writes the code, the histories and the job that sends it in one step.
func (v emailVerifier) store(ctx context.Context, p *module.Principal, e emailState, ch emailcode.Challenge, m mailArgs, now time.Time) (bool, error) {
	slot, err := v.slot(ctx, ch.Slot())
	if err != nil {
		return false, err
	}
	if slot.State, err = json.Marshal(ch); err != nil {
		return false, err
	}
	slot.ExpiresAt = ch.ExpiresAt.Add(time.Hour)
	e.p.Pair, e.s = v.s.codes.Sent(e.p.Known, e.p.Pair, e.s, now)
	all, err := e.changes(now)
	if err != nil {
		return false, err
	}
	subject, err := v.subject(ctx, p, ch.Address)
	if err != nil {
		return false, err
	}
	job, err := v.s.sealMail(ctx, p.UserID, m)
	if err == nil && subject != p.UserID { // sealed for the asker in any case: a key's first use is a write, whose time would tell
		job, err = v.s.sealMail(ctx, subject, m)
	}
	if err != nil {
		return false, err
	}
	return v.s.store.Apply(ctx, Change{Challenges: append(all, slot), Within: func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := v.s.queue.Enqueue(ctx, tx, job)
		return err
	}})
}

// subject is whose key a message to the address is sealed with: of the account
// that it belongs to, so that it cannot be opened once they are erased, and else
// of the user who asks, who may become that account or part of it.
func (v emailVerifier) subject(ctx context.Context, p *module.Principal, address string) (string, error) {
	lookup, err := v.s.lookup(issuerEmail, address)
	if err != nil {
		return "", err
	}
	_, owner, err := v.s.store.IdentityBy(ctx, lookup)
	if errors.Is(err, sqldb.ErrNotFound) {
		return p.UserID, nil
	}
	return owner.ID, err
}

// slot is where a code is stored: a new one takes the place of the one before.
func (v emailVerifier) slot(ctx context.Context, name string) (Challenge, error) {
	id, err := v.s.blind("code\x00" + name)
	if err != nil {
		return Challenge{}, err
	}
	c, err := v.s.store.Challenge(ctx, id)
	if errors.Is(err, sqldb.ErrNotFound) {
		return Challenge{ID: id, Kind: kindCode}, nil
	}
	return c, err
}

func (v emailVerifier) verify(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error) {
	address, err := emailcode.ParseAddress(c.Email)
	switch {
	case err != nil:
		return Proven{}, invalid("email", err.Error())
	case c.Code == "":
		return Proven{}, invalid("code", "is needed: the code that was sent to the address")
	}
	use, err := v.s.blind("email code use\x00" + address.Key + "\x00" + p.InstallationID + "\x00" + c.Code)
	if err != nil {
		return Proven{}, err
	}
	proven := Proven{Provider: providerEmail, EmailVerified: true, Methods: emailMethods, UseID: use,
		Profile: Profile{Issuer: issuerEmail, Subject: address.Key, Email: address.Mail}}
	used, err := v.s.store.CredentialUse(ctx, use)
	switch {
	case err != nil && !errors.Is(err, sqldb.ErrNotFound):
		return Proven{}, err
	case err == nil && used.UserID != "":
		proven.Repeat = true // SignIn gives the same answer
		return proven, nil
	case err == nil && v.s.now().Before(used.ExpiresAt): // accepted before, and nothing has come of it yet
		proven.UseUntil, proven.at = used.ExpiresAt, used.ExpiresAt.Add(-mailLife)
		return proven, nil
	}
	for range maxCodeTries {
		done, err := v.try(ctx, p, address, c.Code, use)
		if err != nil {
			return Proven{}, err
		}
		if done {
			proven.UseUntil = v.s.now().Add(mailLife)
			return proven, nil
		}
	}
	return Proven{}, problem.New(problem.StorageUnavailable, "the code is being tried by other requests").After(time.Second)
}

// try returns false when what it read has changed before it could write. That a
// code was right is written down under use, spent by nobody: what comes after may
// fail, and the same call again then needs no other code.
func (v emailVerifier) try(ctx context.Context, p *module.Principal, address emailcode.Address, input, use string) (bool, error) {
	now := v.s.now()
	refused := problem.New(problem.CredentialInvalid, "the code is wrong or too old, or another one was sent since")
	slot, err := v.slot(ctx, emailcode.Slot(purposeSignIn, address.Key, p.InstallationID))
	if err != nil {
		return false, err
	}
	if slot.Version == 0 {
		return false, refused
	}
	var ch emailcode.Challenge
	if err := json.Unmarshal(slot.State, &ch); err != nil {
		return false, err
	}
	ch.Address = address.Key
	after, outcome := ch.Verify(codeKeys(v), p.InstallationID, input, now)
	v.s.metrics.codes.WithLabelValues(string(outcome)).Inc()
	if !outcome.OK() && outcome != emailcode.Wrong {
		return false, refused
	}
	e, err := v.read(ctx, address.Key, p.InstallationID)
	if err != nil {
		return false, err
	}
	var c Change
	if outcome.OK() {
		e.p.Pair, e.p.Known = v.s.codes.Succeeded(e.p.Pair), true
		c.Use = &CredentialUse{ID: use, InstallationID: p.InstallationID, ExpiresAt: now.Add(mailLife)}
	} else {
		e.p.Pair, e.s = v.s.codes.Failed(e.p.Known, e.p.Pair, e.s, now)
	}
	if slot.State, err = json.Marshal(after); err != nil {
		return false, err
	}
	all, err := e.changes(now)
	if err != nil {
		return false, err
	}
	c.Challenges = append(all, slot)
	done, err := v.s.store.Apply(ctx, c)
	if err == nil && done && !outcome.OK() {
		return false, refused.With("attempts_left", after.Left())
	}
	return done, err
}

func (mailJob) Kind() string { return "identity_mail" }

func (s *Service) sealMail(ctx context.Context, subject string, m mailArgs) (mailJob, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return mailJob{}, err
	}
	sealed, err := s.keys.Seal(ctx, subject, fieldMail, raw)
	return mailJob{Subject: subject, Sealed: sealed}, err
}

// sendMail is the job. A code that waited longer than it is good for is not sent.
func (s *Service) sendMail(ctx context.Context, job *queue.Job[mailJob]) error {
	raw, err := s.keys.Open(ctx, job.Args.Subject, fieldMail, job.Args.Sealed)
	if err != nil && !errors.Is(err, secret.ErrShredded) && !errors.Is(err, secret.ErrTampered) {
		return err // the storage does not answer: the message is not lost
	}
	if err != nil {
		s.log.WarnContext(ctx, "a message cannot be opened any more and is not sent", "job", job.ID, "error", err)
		return nil
	}
	var m mailArgs
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if m.Name == mail.SignInCode && s.clock.Now().Sub(job.CreatedAt) > mailLife {
		return nil
	}
	message, err := s.templates.Render(m.Name, m.Locale, m.Values)
	if err != nil {
		return err
	}
	message.To, message.Key = m.To, "identity/"+id64(job.ID)
	err = s.mail.Send(ctx, message)
	if err != nil && !mail.Temporary(err) {
		s.log.WarnContext(ctx, "a message was refused for good", "job", job.ID, "message", m.Name, "error", err)
		return nil
	}
	return err
}
