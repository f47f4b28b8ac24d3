package identity

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/id"
	"landline/internal/module"
	"landline/internal/problem"
)

const maxCredential = 64 << 10 // bytes of a body with a credential

// verifier turns what a client sent into a proven credential, or refuses it.
type verifier interface {
	verify(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error)
}

type signInInput struct{ Body signInBody }
type linkInput struct{ Body linkBody }
type unlinkInput struct{ Body unlinkBody }
type emailCodeInput struct{ Body emailCodeBody }
type signUpInput struct{ Body signUpBody }
type passkeyOptionsInput struct{ Body passkeyOptionsBody }

type conflictsInput struct {
	Cursor string `query:"cursor" maxLength:"64"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
}

// output is an answer about the user named in Data-Subject.
type output[T any] struct {
	CacheControl string `header:"Cache-Control"`
	DataSubject  string `header:"Data-Subject" doc:"The user that the answer is about."`
	Body         T
}

func (s *Service) signInRoutes(api huma.API) {
	op := func(method, path, id, summary string, security []map[string][]string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"identity"}, Security: security,
			MaxBodyBytes: maxCredential, Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusServiceUnavailable}}
	}
	signIn := op(http.MethodPost, "/v1/auth/sign-in", "sign-in", "Sign in, or make the anonymous user an account", module.SignedIn)
	signIn.Description = "One call with one credential: when nobody has it, the installation's anonymous user becomes an account and keeps its id; when an account has it, the session becomes that account's and the anonymous user's data is carried over. Repeating it with the same credential from the same installation gets the same answer."
	huma.Register(api, signIn, s.handleSignIn)
	if s.config.EmailCode.On {
		code := op(http.MethodPost, "/v1/auth/email-code", "send-email-code", "Send a code to an e-mail address", module.SignedIn)
		code.Description = "The answer is the same whether anybody has the address. The code is good for this installation alone."
		code.DefaultStatus = http.StatusAccepted
		huma.Register(api, code, s.handleEmailCode)
	}
	if s.config.Password.On {
		signUp := op(http.MethodPost, "/v1/auth/sign-up", "sign-up", "Set a password for an address and sign in with it", module.SignedIn)
		signUp.Description = "Needs the code that POST /v1/auth/email-code sent to the address. The same call sets a new password for an account that has one."
		huma.Register(api, signUp, s.handleSignUp)
	}
	if s.passkeys != nil {
		options := op(http.MethodPost, "/v1/auth/passkey-options", "passkey-options", "Begin to sign in with a passkey, or to register one", module.SignedIn)
		options.Description = "options go to the platform as they are. Its answer is the member passkey of /v1/auth/sign-in (a registration makes the anonymous user an account) or of /v1/auth/link."
		huma.Register(api, options, s.handlePasskeyOptions)
	}
	huma.Register(api, op(http.MethodPost, "/v1/auth/link", "link", "Add a way to sign in", module.Account), s.handleLink)
	unlink := op(http.MethodPost, "/v1/auth/unlink", "unlink", "Remove a way to sign in", module.Account)
	unlink.DefaultStatus = http.StatusNoContent
	huma.Register(api, unlink, s.handleUnlink)
	huma.Register(api, op(http.MethodGet, "/v1/me/merge-conflicts", "list-merge-conflicts", "List records that lost when users were merged", module.SignedIn), s.handleConflicts)
}

// verify has the credential checked by its provider.
func (s *Service) verify(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error) {
	v, ok := s.verifiers[c.Provider]
	if !ok {
		return Proven{}, invalid("provider", "is not offered by this server")
	}
	proven, err := v.verify(ctx, p, c)
	if err == nil && proven.Profile.Name == "" {
		proven.Profile.Name = c.Name
	}
	return proven, err
}

func (s *Service) handleSignIn(ctx context.Context, in *signInInput) (*output[signedInBody], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if in.Body.PendingLink != "" { // before anything is done
		if _, err := s.pendingLink(ctx, p.InstallationID, in.Body.PendingLink); err != nil {
			return nil, err
		}
	}
	var proven Proven
	if in.Body.ConflictToken != "" {
		proven, err = s.conflicting(ctx, p, in.Body.Provider, in.Body.ConflictToken)
	} else {
		proven, err = s.verify(ctx, p, in.Body.CredentialWire)
	}
	if err != nil {
		return nil, err
	}
	got, err := s.signIn(ctx, p, proven, SignInOptions{Undo: in.Body.UndoDeletion, KeepAnonymous: in.Body.KeepAnonymous, EndSession: in.Body.EndSession})
	if err != nil {
		return nil, err
	}
	if in.Body.PendingLink != "" {
		now := *p
		now.UserID, now.SessionID, now.Anonymous, now.AuthTime = got.User.ID, got.Session.ID, false, got.Session.AuthTime
		if err := s.attachPending(ctx, &now, in.Body.PendingLink); err != nil {
			return nil, err
		}
	}
	return signedIn(got), nil
}

func signedIn(got SignedIn) *output[signedInBody] {
	out := &output[signedInBody]{CacheControl: noStore, DataSubject: got.User.ID, Body: signedInBody{
		User:    userWire{ID: got.User.ID, Kind: got.User.Kind, CreatedAt: got.User.CreatedAt},
		Session: tokensWireOf(got.Session.ID, got.Tokens),
	}}
	if m := got.Merged; m != nil {
		out.Body.Merged = mergedWireOf(*m)
	}
	return out
}

func (s *Service) handleEmailCode(ctx context.Context, in *emailCodeInput) (*output[emailCodeAnswer], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	sent, err := s.SendCode(ctx, p, in.Body.Email, in.Body.Locale)
	return &output[emailCodeAnswer]{noStore, p.UserID, emailCodeAnswer{ExpiresIn: seconds(sent.ExpiresIn), ResendAfter: seconds(sent.ResendAfter)}}, err
}

func (s *Service) handleSignUp(ctx context.Context, in *signUpInput) (*output[signedInBody], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	got, err := s.SignUp(ctx, p, CredentialWire{Email: in.Body.Email, Code: in.Body.Code, Password: in.Body.Password, Name: in.Body.Name},
		SignInOptions{Undo: in.Body.UndoDeletion, KeepAnonymous: in.Body.KeepAnonymous, EndSession: in.Body.EndSession})
	if err != nil {
		return nil, err
	}
	return signedIn(got), nil
}

func (s *Service) handlePasskeyOptions(ctx context.Context, in *passkeyOptionsInput) (*output[passkeyOptionsAnswer], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	options, err := s.PasskeyOptions(ctx, p, in.Body.Ceremony == "registration", in.Body.Name)
	return &output[passkeyOptionsAnswer]{noStore, p.UserID, passkeyOptionsAnswer{Options: options}}, err
}

func tokensWireOf(session string, t Tokens) tokensWire {
	return tokensWire{ID: session, AccessToken: t.Access, TokenType: tokenType(t.Bound), ExpiresIn: seconds(t.AccessFor),
		RefreshToken: t.Refresh, RefreshExpiresIn: seconds(t.RefreshFor)}
}

func (s *Service) handleLink(ctx context.Context, in *linkInput) (*output[linkedBody], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.fresh(p); err != nil { // before the credential is spent
		return nil, err
	}
	var i Identity
	var body linkedBody
	if in.Body.ConflictToken != "" {
		var m UserMerge
		if i, m, err = s.MergeAccount(ctx, p, in.Body.Provider, in.Body.ConflictToken, in.Body.Confirm); err != nil {
			return nil, err
		}
		body.Merged = mergedWireOf(m)
	} else {
		proven, err := s.verify(ctx, p, in.Body.CredentialWire)
		if err != nil {
			return nil, err
		}
		if i, err = s.Link(ctx, p, proven); err != nil {
			return nil, err
		}
	}
	w, err := s.identityWireOf(ctx, i)
	body.ID, body.Provider, body.Email, body.EmailVerified, body.Name, body.CreatedAt, body.UsedAt = w.ID, w.Provider, w.Email, w.EmailVerified, w.Name, w.CreatedAt, w.UsedAt
	return &output[linkedBody]{noStore, p.UserID, body}, err
}

func mergedWireOf(m UserMerge) *mergedWire {
	return &mergedWire{ID: m.ID, From: m.From, Into: m.Into, State: m.State, Records: m.Records, Conflicts: m.Conflicts}
}

func (s *Service) handleUnlink(ctx context.Context, in *unlinkInput) (*emptyOutput, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if id.Check(prefixIdentity, in.Body.IdentityID) != nil {
		return nil, invalid("identity_id", "is not the id of a way to sign in")
	}
	return &emptyOutput{CacheControl: noStore}, s.Unlink(ctx, p, in.Body.IdentityID)
}

func (s *Service) handleConflicts(ctx context.Context, in *conflictsInput) (*output[conflictsBody], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if in.Cursor != "" && id.Check(prefixConflict, in.Cursor) != nil {
		return nil, problem.New(problem.InvalidRequest, "query.cursor: is not the cursor of an earlier page")
	}
	all, err := s.store.Conflicts(ctx, p.UserID, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	body := conflictsBody{Data: make([]conflictWire, 0, len(all))}
	for _, c := range all {
		w, err := s.conflictWireOf(ctx, c)
		if err != nil {
			return nil, err
		}
		body.Data = append(body.Data, w)
	}
	if len(all) == in.Limit {
		body.Page.Next = &all[len(all)-1].ID
	}
	return &output[conflictsBody]{noStore, p.UserID, body}, nil
}

func (s *Service) conflictWireOf(ctx context.Context, c MergeConflict) (conflictWire, error) {
	record, err := s.keys.Open(ctx, c.UserID, fieldConflict, c.Sealed)
	return conflictWire{ID: c.ID, MergeID: c.MergeID, Collection: c.Collection, Key: c.Key, Record: json.RawMessage(record), CreatedAt: c.CreatedAt}, err
}

// identitiesOf lists how the account can be reached, with what is known of each.
func (s *Service) identitiesOf(ctx context.Context, user string) ([]identityWire, error) {
	all, err := s.store.IdentitiesOf(ctx, user, maxIdentities)
	if err != nil {
		return nil, err
	}
	out := make([]identityWire, 0, len(all))
	for _, i := range all {
		wire, err := s.identityWireOf(ctx, i)
		if err != nil {
			return nil, err
		}
		out = append(out, wire)
	}
	return out, nil
}

func (s *Service) identityWireOf(ctx context.Context, i Identity) (identityWire, error) {
	p, err := s.profile(ctx, i)
	return identityWire{ID: i.ID, Provider: i.Provider, Email: p.Email, EmailVerified: i.EmailVerified, Name: p.Name, CreatedAt: i.CreatedAt, UsedAt: i.UsedAt}, err
}
