package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// handlePush takes an authorization request from the client itself, so that it
// neither passes through the browser nor can be changed there (RFC 9126 §2.1).
func (s *Service) handlePush(w http.ResponseWriter, r *http.Request) {
	form, by, ok := s.called(w, r)
	if !ok {
		return
	}
	switch {
	case by.client == nil:
		refuse(w, tokenRefusal{Error: "invalid_client", Description: "client_id is missing or not known", status: http.StatusUnauthorized})
		return
	case form.Get("request_uri") != "":
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "request_uri cannot be pushed"})
		return
	}
	form.Set("client_id", by.ID)
	req, fault := s.parseAuth(form)
	if fault != nil {
		refuse(w, tokenRefusal{Error: fault.Code, Description: fault.Description})
		return
	}
	handle, err := s.keepPushed(r.Context(), req.raw)
	if err != nil {
		problem.Write(w, r, retryable(err))
		return
	}
	answerJSON(w, http.StatusCreated, noStore, pushAnswer{RequestURI: pushedPrefix + handle, ExpiresIn: seconds(pushedLife)})
}

const (
	kindPushed   = "oauth.par"
	pushedLife   = 5 * time.Minute
	pushedPrefix = "urn:ietf:params:oauth:request_uri:"
	fieldPushed  = "identity.oauth_pushed"
)

// keepPushed keeps a request, sealed because its login_hint may be an address, and
// returns what it is found by.
func (s *Service) keepPushed(ctx context.Context, raw string) (handle string, err error) {
	handle = rand.Text() + rand.Text()
	key, err := s.blind("oauth par\x00" + handle)
	if err != nil {
		return "", err
	}
	sealed, err := s.keys.Seal(ctx, redirectSubject, fieldPushed, []byte(raw))
	if err != nil {
		return "", err
	}
	done, err := s.store.Apply(ctx, Change{Challenges: []Challenge{{ID: key, Kind: kindPushed, State: sealed, ExpiresAt: s.now().Add(pushedLife)}}})
	if err == nil && !done {
		err = errors.New("identity: a request_uri was made twice")
	}
	return handle, err
}

// pushed replaces a request_uri by what was pushed under it (RFC 9126 §4). It
// returns a fault for one that is not known, or not the client's.
func (s *Service) pushed(ctx context.Context, in url.Values) (url.Values, *authFault, error) {
	handle, ok := strings.CutPrefix(in.Get("request_uri"), pushedPrefix)
	if !ok || len(in["request_uri"]) != 1 {
		return in, nil, nil
	}
	gone := &authFault{Code: "invalid_request", Description: "request_uri is not known, or no longer: begin again in the app"}
	key, err := s.blind("oauth par\x00" + handle)
	if err != nil {
		return nil, nil, err
	}
	ch, err := s.store.Challenge(ctx, key)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && (ch.Kind != kindPushed || !s.now().Before(ch.ExpiresAt)) {
		return nil, gone, nil
	}
	if err != nil {
		return nil, nil, err
	}
	raw, err := s.keys.Open(ctx, redirectSubject, fieldPushed, ch.State)
	if errors.Is(err, secret.ErrTampered) { // of a version that did not seal it
		return nil, gone, nil
	}
	if err != nil {
		return nil, nil, err
	}
	out, err := url.ParseQuery(string(raw))
	if err != nil || out.Get("client_id") != in.Get("client_id") {
		return nil, gone, nil
	}
	return out, nil, nil
}
