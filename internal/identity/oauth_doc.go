package identity

import (
	"net/http"

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
		Method: http.MethodPost, Path: "/oauth/token", OperationID: "refresh-token", Tags: []string{"oauth"}, Security: module.Public,
		Summary: "Refresh a session (RFC 6749 §6)",
		RequestBody: formDoc([]string{"grant_type", "refresh_token"}, map[string]*huma.Schema{
			"grant_type":    {Type: huma.TypeString, Enum: []any{grantRefresh}},
			"refresh_token": textDoc("The last refresh token that the app stored."),
			"client_id":     textDoc("The session's client; may be left out."),
			"scope":         textDoc("May be left out; cannot be widened."),
		}),
		Responses: map[string]*huma.Response{
			"200": answerDoc("New tokens. The header Refresh-Replay says concurrent or lost-response when an earlier answer seems to have been lost.", map[string]*huma.Schema{
				"access_token": textDoc(""), "token_type": textDoc("Bearer"), "expires_in": {Type: huma.TypeInteger, Description: "Seconds."},
				"refresh_token": textDoc("To be used next."), "refresh_expires_in": {Type: huma.TypeInteger, Description: "Seconds."}, "scope": textDoc(""),
			}),
			"400": answerDoc("The session is over, or the request is wrong.", map[string]*huma.Schema{
				"error": textDoc("RFC 6749 §5.2, for example invalid_grant."), "error_description": textDoc(""),
				"reason": textDoc("Why, for example session_revoked or refresh_token_reused."), "recovery": textDoc("installation_proof: the installation's credential opens a new session."),
			}),
			"429": notNowDoc(), "503": notNowDoc(),
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
