package identity

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"

	"landline/internal/problem"
)

// handlePush takes an authorization request from the client itself, so that it
// neither passes through the browser nor can be changed there (RFC 9126 §2.1).
func (s *Service) handlePush(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(w, r)
	if !ok {
		return
	}
	by, refused, err := s.callerOf(r, form)
	switch {
	case err != nil:
		problem.Write(w, r, retryable(err))
		return
	case refused != nil:
		refuse(w, *refused)
		return
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
	handle := rand.Text() + rand.Text()
	key, err := s.blind("oauth par\x00" + handle)
	if err == nil {
		var state []byte
		if state, err = json.Marshal(req.raw); err == nil {
			ok, err = s.store.Apply(r.Context(), Change{Challenges: []Challenge{{ID: key, Kind: kindPushed, State: state, ExpiresAt: s.now().Add(pushedLife)}}})
			if err == nil && !ok {
				err = errors.New("identity: a request_uri was made twice")
			}
		}
	}
	if err != nil {
		problem.Write(w, r, retryable(err))
		return
	}
	answerJSON(w, http.StatusCreated, noStore, pushAnswer{RequestURI: pushedPrefix + handle, ExpiresIn: seconds(pushedLife)})
}
