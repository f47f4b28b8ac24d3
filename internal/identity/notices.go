package identity

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/identity/provider"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

const maxNotice = 64 << 10

// noticeHandlers are where Apple and Google tell of accounts (B-11, L22, L23).
func (s *Service) noticeHandlers() []module.Handler {
	var all []module.Handler
	for _, p := range s.providers.All() {
		if !p.TakesNotices() {
			continue
		}
		path := "/v1/auth/notices/" + p.Name()
		all = append(all, module.Handler{Match: "POST " + path, Auth: module.AuthNone, Serve: s.serveNotices(p), Doc: &huma.Operation{
			Method: http.MethodPost, Path: path, OperationID: "notices-" + p.Name(), Tags: []string{"identity"}, Security: module.Public,
			Summary:     "Take signed notices of the sign-in provider " + p.Name(),
			Description: "For the provider alone: the address to enter at Apple (server-to-server notifications) or Google (Cross-Account Protection).",
			Responses:   map[string]*huma.Response{"200": {Description: "The notices are stored."}, "400": {Description: "They do not verify."}, "503": {Description: "Not now: deliver again."}},
		}})
	}
	return all
}

func (s *Service) serveNotices(p *provider.Provider) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNotice))
		if err != nil {
			return problem.New(problem.BodyTooLarge, "a notice has at most %d bytes", maxNotice).Wrap(err)
		}
		notices, err := p.Notices(r.Context(), body)
		var e *provider.Error
		switch {
		case errors.As(err, &e) && e.Kind == provider.Refused:
			answerJSON(w, http.StatusBadRequest, noStore, map[string]string{"err": e.SETCode(), "description": e.Detail}) // RFC 8935 §2.4
			return nil
		case err != nil:
			return problem.New(problem.ProviderUnavailable, "the notice cannot be verified now; deliver it again").Wrap(err)
		}
		for _, n := range notices {
			if err := s.takeNotice(r.Context(), n); err != nil {
				return retryable(err)
			}
		}
		w.Header().Set("Cache-Control", noStore)
		w.WriteHeader(http.StatusOK)
		return nil
	}
}

// takeNotice does what a notice asks for, once. One that concerns nobody here is
// written down and otherwise ignored. Without an error it is durable.
func (s *Service) takeNotice(ctx context.Context, n provider.Notice) error {
	for range maxTries {
		if done, err := s.takeNoticeOnce(ctx, n); err != nil || done {
			return err
		}
	}
	return problem.New(problem.StorageUnavailable, "the account is being changed by other requests").After(time.Second)
}

// takeNoticeOnce returns false when what it read has changed before it could write.
func (s *Service) takeNoticeOnce(ctx context.Context, n provider.Notice) (bool, error) {
	use := useOf("notice\x00" + n.ReplayID)
	if _, err := s.store.CredentialUse(ctx, use); !errors.Is(err, sqldb.ErrNotFound) {
		return err == nil, err // seen before, or the storage does not answer
	}
	c := Change{Use: &CredentialUse{ID: use, ExpiresAt: n.KeepUntil}}
	entry := audit.Entry{Action: "identity.notice", Reason: string(n.Kind)}
	var i Identity
	var owner User
	if n.Subject != "" {
		lookup, err := s.lookup(n.Issuer, n.Subject)
		if err != nil {
			return false, err
		}
		i, owner, err = s.store.IdentityBy(ctx, lookup)
		if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
			return false, err
		}
	}
	entry.Target = owner.ID
	c.Audit = []audit.Entry{entry}
	// A notice that was held back for longer than the user needed to sign in again is void.
	here := owner.State == UserActive || (owner.State == UserLocked || owner.State == UserNoLogin) && n.Kind == provider.NoticeAccountDeleted
	if !here || n.At.Before(i.UsedAt) {
		return s.store.Apply(ctx, c)
	}
	return s.actOnNotice(ctx, n, c, i, owner)
}

// noticed tells the team's services what a provider told, with what it does.
func (s *Service) noticed(n provider.Notice, i Identity, user string, after UserState) func(context.Context, *sqldb.Tx) error {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		return s.events.Emit(ctx, tx, EventNotice, user, noticeEvent{User: user, Provider: i.Provider, Kind: string(n.Kind), State: after})
	}
}

func (s *Service) actOnNotice(ctx context.Context, n provider.Notice, c Change, i Identity, owner User) (bool, error) {
	now := s.now()
	switch n.Kind {
	case provider.NoticeConsentRevoked, provider.NoticeAccountDeleted: // L22, L23
		all, err := s.store.IdentitiesOf(ctx, owner.ID, maxIdentities)
		if err != nil {
			return false, err
		}
		c.EndAll = &EndAll{UserID: owner.ID, Reason: ReasonUnlinked, At: now, Proven: i.ID}
		if len(all) > 1 {
			c.Unlink = &Unlinking{ID: i.ID, UserID: i.UserID, At: now}
			break
		}
		c.EndAll.Proven = "" // there is no way left by which any of them could have come
		if n.Kind == provider.NoticeAccountDeleted {
			// First, and the notice is remembered after it: what is cut off between
			// the two is delivered again, and finds the erasure begun.
			if _, err := s.requestErasure(ctx, owner.ID, "the account at the provider was deleted"); err != nil {
				return false, err
			}
			return s.store.Apply(ctx, Change{Use: c.Use, Audit: c.Audit, Within: s.noticed(n, i, owner.ID, UserDeleting)})
		}
		// The only way in is gone. It stays linked, so that a renewed consent opens
		// the account again; after noLoginKeep the account is erased.
		c.State = []StateChange{{UserID: owner.ID, From: UserActive, To: UserNoLogin, At: now}}
	case provider.NoticeSessionsRevoked, provider.NoticeTokensRevoked, provider.NoticeAccountDisabled, provider.NoticeCredentialChange:
		c.EndAll = &EndAll{UserID: owner.ID, Reason: ReasonUnlinked, At: now, Proven: i.ID}
	case provider.NoticeEmailDisabled, provider.NoticeEmailEnabled:
		p, err := s.profile(ctx, i)
		if err != nil {
			return false, err
		}
		before := i.Sealed
		p.EmailOff = n.Kind == provider.NoticeEmailDisabled
		if err := s.seal(ctx, &i, p); err != nil {
			return false, err
		}
		c.Used, c.UsedFrom = &i, before
	}
	after := owner.State
	if len(c.State) > 0 {
		after = c.State[0].To
	}
	c.Within = s.noticed(n, i, owner.ID, after)
	if c.EndAll == nil {
		return s.store.Apply(ctx, c)
	}
	return s.changeWithSessions(ctx, owner.ID, c)
}
