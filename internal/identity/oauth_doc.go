package identity

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
)

// The OAuth endpoints are plain handlers, because RFCs fix their bodies; these
// are their places in the OpenAPI document.

const formType = "application/x-www-form-urlencoded"

func textDoc(description string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: description}
}

func formDoc(required []string, members map[string]*huma.Schema) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{formType: {
		Schema: &huma.Schema{Type: huma.TypeObject, Required: required, Properties: members},
	}}}
}

func answerDoc(description string, members map[string]*huma.Schema) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{"application/json": {
		Schema: &huma.Schema{Type: huma.TypeObject, Properties: members},
	}}}
}

func notNowDoc() *huma.Response {
	return &huma.Response{Description: "Not now: repeat with the same token after Retry-After. A problem document without the member error.",
		Content: map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Type: huma.TypeObject}}}}
}

func tokenDoc() *huma.Operation {
	return &huma.Operation{
		Method: http.MethodPost, Path: tokenPath, OperationID: "refresh-token", Tags: []string{"oauth"}, Security: module.Public,
		Summary: "Refresh a session, or get tokens for a code or another token (RFC 6749, RFC 7636, RFC 8693)",
		RequestBody: formDoc([]string{"grant_type"}, map[string]*huma.Schema{
			"grant_type":           {Type: huma.TypeString, Enum: []any{grantRefresh, grantCode, grantExchange}},
			"refresh_token":        textDoc("The last refresh token that the app stored."),
			"client_id":            textDoc("The client; with refresh_token an app may leave it out."),
			"client_secret":        textDoc("Of a confidential client that does not send it as Authorization: Basic."),
			"scope":                textDoc("May be left out; cannot be widened."),
			"code":                 textDoc("From /oauth/authorize; good once, for 60 seconds."),
			"redirect_uri":         textDoc("That the code was asked for with."),
			"code_verifier":        textDoc("PKCE (RFC 7636)."),
			"subject_token":        textDoc("Access token to exchange (RFC 8693)."),
			"subject_token_type":   textDoc(typeAccessToken),
			"audience":             textDoc("For which service the new token is; left out: for this app."),
			"requested_token_type": textDoc(typeAccessToken),
		}),
		Responses: map[string]*huma.Response{
			"200": answerDoc("New tokens. The header Refresh-Replay says concurrent or lost-response when an earlier answer seems to have been lost.", map[string]*huma.Schema{
				"access_token": textDoc(""), "token_type": textDoc("Bearer, or DPoP for a token that is bound to a key (RFC 9449)."), "expires_in": {Type: huma.TypeInteger, Description: "Seconds."},
				"refresh_token": textDoc("To be used next."), "refresh_expires_in": {Type: huma.TypeInteger, Description: "Seconds."}, "scope": textDoc(""),
				"id_token": textDoc("With the scope openid."), "issued_token_type": textDoc("With token exchange."),
			}),
			"400": answerDoc("The session is over, or the request is wrong.", map[string]*huma.Schema{
				"error": textDoc("RFC 6749 §5.2, for example invalid_grant."), "error_description": textDoc(""),
				"reason": textDoc("Why, for example session_revoked or refresh_token_reused."), "recovery": textDoc("installation_proof: the installation's credential opens a new session."),
			}),
			"401": answerDoc("invalid_client: the client did not authenticate as it must.", map[string]*huma.Schema{"error": textDoc("")}),
			"429": notNowDoc(), "503": notNowDoc(),
		},
	}
}

func pushDoc() *huma.Operation {
	return &huma.Operation{
		Method: http.MethodPost, Path: pushedPath, OperationID: "push-authorization-request", Tags: []string{"oauth"}, Security: module.Public,
		Summary:     "Push an authorization request (RFC 9126)",
		RequestBody: formDoc([]string{"response_type", "redirect_uri", "code_challenge", "code_challenge_method"}, map[string]*huma.Schema{"response_type": textDoc("code"), "redirect_uri": textDoc("One of the client's."), "scope": textDoc(""), "state": textDoc(""), "code_challenge": textDoc("RFC 7636."), "code_challenge_method": textDoc("S256"), "client_id": textDoc("Of a client that does not authenticate otherwise.")}),
		Responses: map[string]*huma.Response{
			"201": answerDoc("Send the user to /oauth/authorize with client_id and request_uri.", map[string]*huma.Schema{"request_uri": textDoc(""), "expires_in": {Type: huma.TypeInteger, Description: "Seconds."}}),
			"400": answerDoc("As /oauth/authorize would refuse it.", map[string]*huma.Schema{"error": textDoc(""), "error_description": textDoc("")}),
			"401": answerDoc("invalid_client.", map[string]*huma.Schema{"error": textDoc("")}), "503": notNowDoc(),
		},
	}
}

func introspectDoc() *huma.Operation {
	return &huma.Operation{
		Method: http.MethodPost, Path: "/oauth/introspect", OperationID: "introspect-token", Tags: []string{"oauth"}, Security: module.Public,
		Summary:     "Ask what a token is good for (RFC 7662); for clients that authenticate",
		RequestBody: formDoc([]string{"token"}, map[string]*huma.Schema{"token": textDoc("A refresh or access token."), "token_type_hint": textDoc("Not needed.")}),
		Responses: map[string]*huma.Response{
			"200": answerDoc("What is known, or active false alone.", map[string]*huma.Schema{"active": {Type: huma.TypeBoolean}, "scope": textDoc(""), "client_id": textDoc(""), "sub": textDoc(""), "exp": {Type: huma.TypeInteger}}),
			"401": answerDoc("invalid_client.", map[string]*huma.Schema{"error": textDoc("")}), "503": notNowDoc(),
		},
	}
}

func userInfoDoc(method string) *huma.Operation {
	return &huma.Operation{
		Method: method, Path: userInfoPath, OperationID: strings.ToLower(method) + "-userinfo", Tags: []string{"oauth"}, Security: module.Account,
		Summary: "Read who signed in (OpenID Connect Core §5.3); needs the scope openid",
		Responses: map[string]*huma.Response{
			"200": answerDoc("email and name as far as the scope includes email and profile.", map[string]*huma.Schema{"sub": textDoc(""), "email": textDoc(""), "email_verified": {Type: huma.TypeBoolean}, "name": textDoc("")}),
		},
	}
}

func revokeDoc() *huma.Operation {
	return &huma.Operation{
		Method: http.MethodPost, Path: "/oauth/revoke", OperationID: "revoke-token", Tags: []string{"oauth"}, Security: module.Public,
		Summary:     "End the session of a token (RFC 7009)",
		RequestBody: formDoc([]string{"token"}, map[string]*huma.Schema{"token": textDoc("A refresh or access token."), "token_type_hint": textDoc("Not needed.")}),
		Responses: map[string]*huma.Response{
			"200": {Description: "The session has ended, or there was none."},
			"503": notNowDoc(),
		},
	}
}

func documentDoc(path, id, summary string) *huma.Operation {
	return &huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: id, Tags: []string{"oauth"}, Security: module.Public, Summary: summary,
		Responses: map[string]*huma.Response{"200": answerDoc("The document.", nil)},
	}
}
