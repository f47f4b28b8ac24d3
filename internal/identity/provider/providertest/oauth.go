package providertest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Code returns an authorization code as an app's SDK would get it: for a client,
// with or without a redirect_uri and a PKCE challenge (S256; "" = none). The
// claims are of the ID token that it is exchanged for, over those of SetUser.
func (i *Issuer) Code(clientID, redirectURI, challenge string, claims map[string]any) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	code := newCode()
	i.codes[code] = grant{clientID, redirectURI, challenge, maps.Clone(claims)}
	return code
}

func (i *Issuer) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	i.mu.Lock()
	_, known := i.clients[q.Get("client_id")]
	denied := i.denied
	i.mu.Unlock()
	to, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || !known || to.Scheme == "" || q.Get("response_type") != "code" {
		http.Error(w, "unknown client_id, bad redirect_uri or response_type", http.StatusBadRequest)
		return
	}
	answer := url.Values{"state": {q.Get("state")}, "iss": {i.url}}
	if denied != "" {
		answer.Set("error", denied)
	} else {
		answer.Set("code", i.Code(q.Get("client_id"), q.Get("redirect_uri"), q.Get("code_challenge"), map[string]any{"nonce": q.Get("nonce")}))
	}
	if q.Get("response_mode") == "form_post" {
		answer.Set("user", `{"name":{"firstName":"Ada","lastName":"Lovelace"},"email":"ada@example.com"}`)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = formPost.Execute(w, map[string]any{"To": to.String(), "Values": answer}) // the client may have gone
		return
	}
	query := to.Query()
	for name, values := range answer {
		query[name] = values
	}
	to.RawQuery = query.Encode()
	http.Redirect(w, r, to.String(), http.StatusFound) // #nosec G710 -- who asks is on this machine, and is a test
}

var formPost = template.Must(template.New("").Parse(`<!doctype html><title>Signed in</title>
<form method="post" action="{{.To}}">{{range $name, $values := .Values}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">{{end}}{{end}}<button>Go on</button></form>
<script>document.forms[0].submit()</script>`))

func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	clientID, ok := i.authenticate(w, r)
	if !ok {
		return
	}
	code := r.PostForm.Get("code")
	i.mu.Lock()
	g, found := i.codes[code]
	delete(i.codes, code) // used up, also by a request that fails
	public := i.clients[clientID] == Client{}
	i.mu.Unlock()
	verifier := r.PostForm.Get("code_verifier")
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	switch {
	case r.PostForm.Get("grant_type") != "authorization_code":
		writeError(w, http.StatusBadRequest, "unsupported_grant_type")
	case !found || g.client != clientID || g.redirectURI != r.PostForm.Get("redirect_uri"),
		g.challenge != "" && g.challenge != challenge, g.challenge == "" && (verifier != "" || public):
		writeError(w, http.StatusBadRequest, "invalid_grant")
	default:
		writeJSON(w, http.StatusOK, map[string]any{
			"access_token": "access-" + rand.Text(), "token_type": "Bearer", "expires_in": 3600,
			"refresh_token": "refresh-" + rand.Text(), "id_token": i.IDToken(clientID, g.claims),
		})
	}
}

func (i *Issuer) serveRevoke(w http.ResponseWriter, r *http.Request) {
	if _, ok := i.authenticate(w, r); !ok {
		return
	}
	i.mu.Lock()
	i.revoked = append(i.revoked, r.PostForm.Get("token"))
	i.mu.Unlock()
	w.WriteHeader(http.StatusOK) // for tokens that are not known too
}

// authenticate knows client_secret_basic, client_secret_post, Apple's and none.
func (i *Issuer) authenticate(w http.ResponseWriter, r *http.Request) (string, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if r.Method != http.MethodPost || r.ParseForm() != nil {
		writeError(w, http.StatusBadRequest, "invalid_request")
		return "", false
	}
	i.mu.Lock()
	i.forms[Endpoint(r.URL.Path)] = maps.Clone(r.PostForm)
	i.mu.Unlock()
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, password, basic := r.BasicAuth(); basic {
		var err1, err2 error
		id, err1 = url.QueryUnescape(user)
		secret, err2 = url.QueryUnescape(password)
		if err1 != nil || err2 != nil || r.PostForm.Has("client_secret") {
			writeError(w, http.StatusBadRequest, "invalid_request")
			return "", false
		}
	}
	i.mu.Lock()
	c, known := i.clients[id]
	i.mu.Unlock()
	right := subtle.ConstantTimeCompare([]byte(secret), []byte(c.Secret)) == 1
	if c.AppleKey != nil {
		right = i.appleSecret(c, id, secret)
	}
	if !known || !right {
		writeError(w, http.StatusUnauthorized, "invalid_client")
		return "", false
	}
	return id, true
}

// appleSecret checks what Apple checks of a client secret.
func (i *Issuer) appleSecret(c Client, id, secret string) bool {
	jws, err := jose.ParseSignedCompact(secret, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || jws.Signatures[0].Protected.KeyID != c.AppleKeyID {
		return false
	}
	payload, err := jws.Verify(c.AppleKey)
	if err != nil {
		return false
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return false
	}
	now := i.clock.Now().Unix()
	return claims.Issuer == c.AppleTeam && claims.Subject == id && strings.TrimSuffix(claims.Audience, "/") == i.url &&
		claims.IssuedAt <= now && claims.Expires > now && claims.Expires-claims.IssuedAt <= 15777000
}

func writeError(w http.ResponseWriter, status int, code string) {
	writeJSON(w, status, map[string]string{"error": code, "error_description": "the stand-in refuses it"})
}
