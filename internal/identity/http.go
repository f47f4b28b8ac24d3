package identity

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/id"
	"landline/internal/module"
	"landline/internal/problem"
)

const (
	registerPath = "/v1/installations"
	maxRegister  = 32 << 10 // bytes of the body
	noStore      = "no-store"
)

// Bounds of an Idempotency-Key that opens an installation for as long as it is kept.
const (
	minBootstrapKey = 16
	maxBootstrapKey = 255
)

type registerInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"Needed when the body has no credential: 16 to 255 characters that nobody can guess, such as a random UUID, stored before the first try and sent on every one. For seven days it opens the installation it made."`
	Body           registerBody
}

type registerOutput struct {
	Status       int
	CacheControl string `header:"Cache-Control"`
	DataSubject  string `header:"Data-Subject" doc:"The user that the answer is about."`
	Body         registeredBody
}

type meOutput struct {
	CacheControl string `header:"Cache-Control"`
	DataSubject  string `header:"Data-Subject" doc:"The user that the answer is about."`
	Body         meBody
}

type emptyOutput struct {
	CacheControl string `header:"Cache-Control"`
}

func (s *Service) installationRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "register-installation", Method: http.MethodPost, Path: registerPath, Tags: []string{"identity"},
		Summary:     "Create an installation or come back as one",
		Description: "Idempotent: repeats and parallel calls with the same Idempotency-Key, key or credential get the same installation, user and session, 201 the first time and 200 after. A credential that is not the installation's makes a new installation.",
		Security:    module.Public, MaxBodyBytes: maxRegister, DefaultStatus: http.StatusOK,
		Responses: map[string]*huma.Response{"201": {Description: "The installation is new."}},
		Errors:    []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusServiceUnavailable}, Middlewares: huma.Middlewares{s.registerPlainly},
	}, s.handleRegister)
}

func (s *Service) accountRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "get-me", Method: http.MethodGet, Path: "/v1/me", Tags: []string{"identity"}, Summary: "Read the own account",
		Security: module.SignedIn, Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, s.handleMe)
	s.lifeRoutes(api)
}

func (s *Service) handleRegister(ctx context.Context, in *registerInput) (*registerOutput, error) {
	r, err := s.registration(ctx, in)
	if err != nil {
		return nil, err
	}
	got, err := s.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	out := &registerOutput{Status: http.StatusOK, CacheControl: noStore, DataSubject: got.User.ID}
	if got.Created {
		out.Status = http.StatusCreated
	}
	out.Body = registeredBody{
		Installation: installationWire{ID: got.Installation.ID, Secret: got.Secret, CreatedAt: got.Installation.CreatedAt},
		User:         userWire{ID: got.User.ID, Kind: got.User.Kind, CreatedAt: got.User.CreatedAt},
		Session:      tokensWireOf(got.Session.ID, got.Tokens),
	}
	return out, nil
}

// registration checks the combination of credentials and verifies a proof.
func (s *Service) registration(ctx context.Context, in *registerInput) (r Registration, err error) {
	b := &in.Body
	r = Registration{InstallationID: b.InstallationID, Secret: b.InstallationSecret, Reinstalled: b.Reinstalled, Work: b.Work, ClientID: s.clientOf(ctx), Limited: true}
	if r.App, err = appInfo(ctx, b.App); err != nil {
		return r, err
	}
	switch {
	case b.InstallationID != "" && id.Check(id.Installation, b.InstallationID) != nil:
		return r, invalid("installation_id", "is not an installation's id")
	case b.InstallationSecret != "" && b.Proof != "":
		return r, invalid("proof", "send installation_secret or proof, not both")
	case b.InstallationSecret != "" && b.InstallationID == "":
		return r, invalid("installation_id", "is needed with installation_secret")
	case b.InstallationSecret != "" && !secretForm(b.InstallationSecret):
		return r, invalid("installation_secret", "is not the secret of an answer: 43 characters of base64url")
	case b.InstallationID != "" && b.InstallationSecret == "" && b.Proof == "":
		return r, invalid("installation_secret", "is needed with installation_id, or proof: an id alone opens nothing")
	case len(b.PublicKey) > 0 && b.Proof == "":
		return r, invalid("proof", "is needed with public_key")
	case b.Proof != "" && len(b.PublicKey) == 0 && b.InstallationID == "":
		return r, invalid("public_key", "is needed with proof when there is no installation_id")
	case b.Proof != "":
		return r, s.takeProof(&r, b)
	case b.InstallationSecret != "":
		return r, nil
	}
	r.IdempotencyKey, err = bootstrapKey(in.IdempotencyKey)
	return r, err
}

func (s *Service) takeProof(r *Registration, b *registerBody) error {
	var key PublicKey
	if len(b.PublicKey) > 0 {
		var err error
		if key, err = parsePublicKey(b.PublicKey); err != nil {
			return invalid("public_key", err.Error())
		}
	}
	proof, err := parseProof(b.Proof, http.MethodPost, s.app.PublicURL+registerPath, s.now())
	if err != nil {
		return invalidProof(err.Error())
	}
	if key.JWK != "" && !key.same(proof.Key.Thumbprint) {
		return invalidProof("its jwk is not public_key")
	}
	r.Proof = proof
	return nil
}

// bootstrapKey reads an Idempotency-Key: an RFC 9651 string or a bare token.
func bootstrapKey(header string) (string, error) {
	key := strings.TrimSpace(header)
	if key == "" {
		return "", problem.New(problem.IdempotencyKeyMissing, "a first launch needs an Idempotency-Key, or public_key and proof, so that a repeat finds what the first try made")
	}
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(key[1 : len(key)-1])
	}
	if len(key) < minBootstrapKey || len(key) > maxBootstrapKey {
		return "", problem.New(problem.IdempotencyKeyInvalid, "the Idempotency-Key of a first launch has 16 to 255 characters, such as a random UUID; this has %d", len(key))
	}
	for i := range len(key) {
		if key[i] < 0x21 || key[i] > 0x7e {
			return "", problem.New(problem.IdempotencyKeyInvalid, "an Idempotency-Key has visible ASCII characters alone")
		}
	}
	return key, nil
}

func secretForm(s string) bool {
	raw, err := decode64(s)
	return err == nil && len(raw) == 32
}

// clientOf is the OAuth client that the app says it is, if it is configured, or the app's own.
func (s *Service) clientOf(ctx context.Context) string {
	if name := module.ClientFrom(ctx).App; name != "" {
		if c := s.clients[name]; c != nil && !c.ThirdParty && !c.Confidential() {
			return name
		}
	}
	return s.app.ID
}

// appInfo prefers the body, which is said once, to the header, which is said always.
func appInfo(ctx context.Context, w *appWire) (AppInfo, error) {
	var a AppInfo
	if w != nil {
		a = AppInfo{Version: w.Version, Build: w.Build, Platform: w.Platform, OS: w.OS, Device: w.Device, Locale: w.Locale}
		for _, f := range []struct{ name, text string }{
			{"version", a.Version}, {"platform", a.Platform}, {"os", a.OS}, {"device", a.Device}, {"locale", a.Locale},
		} {
			if strings.ContainsFunc(f.text, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
				return a, invalid("app."+f.name, "has a control character")
			}
		}
	}
	c := module.ClientFrom(ctx)
	return a.merge(AppInfo{Version: clip(c.Version, 64), Build: max(0, c.Build), Platform: clip(c.Platform, 32),
		OS: clip(c.OS, 64), Device: clip(c.Device, 128), Locale: clip(c.Locale, 64)}), nil
}

// clip bounds text of the Landline-Client header, whose own limit is looser.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

func invalid(member, message string) error {
	return problem.New(problem.InvalidRequest, "body.%s: %s", member, message)
}

func (s *Service) handleMe(ctx context.Context, _ *struct{}) (*meOutput, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	a, err := s.Me(ctx, p)
	if err != nil {
		return nil, err
	}
	app := appWireOf(a.Installation.App)
	identities, err := s.identitiesOf(ctx, a.User.ID)
	if err != nil {
		return nil, err
	}
	profile, err := s.ownProfile(ctx, a.User.ID)
	if err != nil {
		return nil, err
	}
	var expires *time.Time
	if a.User.Kind == Anonymous {
		until, err := s.anonymousUntil(ctx, a.User.ID)
		if err != nil {
			return nil, err
		}
		expires = &until
	}
	return &meOutput{CacheControl: noStore, DataSubject: a.User.ID, Body: meBody{
		ID: a.User.ID, Kind: a.User.Kind, CreatedAt: a.User.CreatedAt, ExpiresAt: expires,
		Installation: installationWire{ID: a.Installation.ID, CreatedAt: a.Installation.CreatedAt, App: &app},
		Session:      sessionWire{ID: a.Session.ID, CreatedAt: a.Session.CreatedAt, ExpiresAt: a.Session.RefreshExpiresAt()},
		Profile:      profile, Identities: identities,
	}}, nil
}

// principal fails closed should the gateway ever route a signed-in operation without one.
func principal(ctx context.Context) (*module.Principal, error) {
	if p := module.PrincipalFrom(ctx); p != nil {
		return p, nil
	}
	return nil, problem.New(problem.TokenMissing, "")
}

func appWireOf(a AppInfo) appWire {
	return appWire{Version: a.Version, Build: a.Build, Platform: a.Platform, OS: a.OS, Device: a.Device, Locale: a.Locale}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
