package problem

import (
	"net/http"
	"time"
)

// Code is the stable name of a kind of failure. Clients switch on it.
type Code string

// Action is what the client can do about it.
type Action string

// The actions a client knows.
const (
	Retry          Action = "retry"
	Reauthenticate Action = "reauthenticate"
	UpdateApp      Action = "update_app"
	FixRequest     Action = "fix_request"
	ContactSupport Action = "contact_support"
)

// A Kind is one row of the catalogue.
type Kind struct {
	Code       Code
	Status     int
	Action     Action
	Title      string        // one sentence, the same for every occurrence
	Cause      string        // for the reference page: what leads here
	WayOut     string        // for the reference page: what the app or the operator does
	RetryAfter time.Duration // what Retry-After says when the Error does not
}

// The codes. See the catalogue below for what each means.
const (
	InvalidRequest            Code = "invalid_request"
	UnknownField              Code = "unknown_field"
	ClientHeaderInvalid       Code = "client_header_invalid"
	ClientHeaderRequired      Code = "client_header_required"
	IdempotencyKeyMissing     Code = "idempotency_key_missing"
	IdempotencyKeyInvalid     Code = "idempotency_key_invalid"
	ContractViolation         Code = "contract_violation"
	PersistedQueryUnknown     Code = "persisted_query_unknown"
	TokenMissing              Code = "token_missing"
	TokenInvalid              Code = "token_invalid"
	TokenExpired              Code = "token_expired"
	SessionRevoked            Code = "session_revoked"
	AccountDeleted            Code = "account_deleted"
	APIKeyMissing             Code = "api_key_missing"
	APIKeyInvalid             Code = "api_key_invalid"
	InstallationProofInvalid  Code = "installation_proof_invalid"
	ReauthenticationRequired  Code = "insufficient_user_authentication"
	CredentialInvalid         Code = "credential_invalid" // #nosec G101 -- names of errors
	CredentialUsed            Code = "credential_used"    // #nosec G101 -- names of errors
	AccountLocked             Code = "account_locked"
	WorkRequired              Code = "proof_of_work_required"
	DeviceProofInvalid        Code = "device_proof_invalid"
	DeviceProofRequired       Code = "device_proof_required"
	DeletionPending           Code = "deletion_pending"
	AccountRequired           Code = "account_required"
	InsufficientScope         Code = "insufficient_scope"
	Forbidden                 Code = "forbidden"
	AppVersionUnsupported     Code = "app_version_unsupported"
	RouteNotFound             Code = "route_not_found"
	NotFound                  Code = "not_found"
	MethodNotAllowed          Code = "method_not_allowed"
	APIVersionEnded           Code = "api_version_ended"
	IdempotencyInFlight       Code = "idempotency_in_flight"
	IdempotencyOutcomeUnknown Code = "idempotency_outcome_unknown"
	IdentityInUse             Code = "identity_in_use"
	AccountExistsElsewhere    Code = "account_exists_other_provider"
	LastIdentity              Code = "last_identity"
	TooManyAccounts           Code = "too_many_accounts"
	TooManyInstallations      Code = "too_many_installations"
	MergePolicy               Code = "merge_policy"
	AccountGone               Code = "account_gone"
	Conflict                  Code = "conflict"
	WrongUser                 Code = "wrong_user"
	BodyTooLarge              Code = "body_too_large"
	HeaderTooLarge            Code = "header_too_large"
	URITooLong                Code = "uri_too_long"
	MediaTypeUnsupported      Code = "media_type_unsupported"
	WrongRegion               Code = "wrong_region"
	IdempotencyKeyReused      Code = "idempotency_key_reused"
	RateLimited               Code = "rate_limited"
	QuotaExceeded             Code = "quota_exceeded"
	Internal                  Code = "internal"
	UpstreamInvalid           Code = "upstream_invalid"
	UpstreamUnreachable       Code = "upstream_unreachable"
	UpstreamTimeout           Code = "upstream_timeout"
	FeatureUnavailable        Code = "feature_unavailable"
	FeatureDisabled           Code = "feature_disabled"
	Maintenance               Code = "maintenance"
	Overloaded                Code = "overloaded"
	StorageUnavailable        Code = "storage_unavailable"
	ProviderUnavailable       Code = "provider_unavailable"
	Draining                  Code = "draining"
	RequestTimeout            Code = "request_timeout"
	ConfigInvalid             Code = "config_invalid"
)

// Catalogue lists every code, by status. It is the source of docs/reference/errors.md.
var Catalogue = []Kind{
	{InvalidRequest, 400, FixRequest, "The request is not valid.", "A member, parameter or header is missing, has the wrong type or is out of range; detail and errors name it.", "Correct what detail names. Retrying the same request cannot succeed.", 0},
	{UnknownField, 400, FixRequest, "The request has a member that this endpoint does not know.", "A misspelt member, or one of a newer API version.", "Remove or rename the member that errors names.", 0},
	{ClientHeaderInvalid, 400, FixRequest, "The Landline-Client header is malformed.", "The header is not an RFC 9651 dictionary, or a known key has the wrong type.", "Send for example: Landline-Client: app=\"com.example.flights\", version=\"4.2.0\", build=1042, platform=ios.", 0},
	{ClientHeaderRequired, 400, FixRequest, "This feature needs the Landline-Client header.", "The feature is configured with client_header: required and the request has none.", "Send the header on every request; the SDKs do.", 0},
	{IdempotencyKeyMissing, 400, FixRequest, "This call needs an Idempotency-Key.", "The route requires a key so that a retry cannot execute twice.", "Make one key per user action (a UUID), store it with the queued request, and send it on every try.", 0},
	{IdempotencyKeyInvalid, 400, FixRequest, "The Idempotency-Key is malformed.", "The key is empty, longer than 255 bytes, sent twice, or has characters outside visible ASCII.", "Send one RFC 9651 string or bare token, for example a UUID.", 0},
	{ContractViolation, 400, FixRequest, "The request does not match the API's contract.", "The body, a parameter or a header differs from the route's OpenAPI document.", "Correct the field that detail names.", 0},
	{PersistedQueryUnknown, 400, FixRequest, "This GraphQL document is not on the list of persisted ones.", "The SHA-256 in extensions.persistedQuery, or the document itself, is not among the documents of the route.", "Register the app's documents with the route before the app is released.", 0},
	{TokenMissing, 401, Reauthenticate, "An access token is needed.", "The route is not public and the request has no Authorization header.", "Register the installation (POST /v1/installations) or sign in, then send the access token.", 0},
	{TokenInvalid, 401, Reauthenticate, "The access token is not valid.", "The Authorization header does not verify: wrong scheme, signature, issuer, audience or type. A bad header is refused on public routes too.", "Get a new token; if the refresh token is refused as well, re-attach the installation or sign in.", 0},
	{TokenExpired, 401, Retry, "The access token has expired.", "Its lifetime (15 minutes by default) is over.", "Refresh it at /oauth/token, then repeat the request.", 0},
	{SessionRevoked, 401, Reauthenticate, "The session has ended.", "The user signed out, an operator ended the session, or a stolen refresh token was detected.", "Re-attach the installation or sign in again. Keep local data.", 0},
	{AccountDeleted, 401, Reauthenticate, "The account has been deleted.", "The user or an operator deleted it.", "Remove the account from the device; register the installation anew.", 0},
	{InstallationProofInvalid, 401, FixRequest, "The installation's credential does not verify.", "The proof has a wrong signature, audience or time, or names another key.", "Make a fresh proof; correct the device's clock by the Date header of this answer.", 0},
	{ReauthenticationRequired, 401, Reauthenticate, "This needs a fresh sign-in.", "The call changes how the account is reached, and the user proved themselves too long ago, or with too weak a method; WWW-Authenticate says what is needed (RFC 9470).", "Let the user sign in again (POST /v1/auth/sign-in), then repeat the call with the new token.", 0},
	{APIKeyMissing, 401, FixRequest, "This needs an API key.", "The feature is configured with api_key: required and the request has none.", "Send the key in the header that detail names. An operator makes keys with POST /admin/v1/api-keys.", 0},
	{APIKeyInvalid, 401, FixRequest, "The API key is not valid.", "The key is not known, has been ended by an operator, or has expired; or the request has more than one.", "Ask the operator for a new key.", 0},
	{CredentialInvalid, 403, Reauthenticate, "The credential is not accepted.", "The provider's token does not verify, the code is wrong or the password does not match; detail says no more than the caller may know.", "Ask the user, or the provider, for a new credential. The session that made the call stays as it is.", 0},
	{CredentialUsed, 403, Reauthenticate, "The credential has been used before.", "Tokens and codes of providers are good for one sign-in. The installation that used it gets the same answer again until it signs out; another one never does.", "Ask the provider for a new one.", 0},
	{AccountLocked, 403, ContactSupport, "The account is locked.", "An operator locked it.", "Show the user how to reach support.", 0},
	{DeletionPending, 403, FixRequest, "The account is about to be deleted.", "Its user asked for it, and the time in which that can be undone is not over; erase_at says when it is.", "Ask the user whether to keep the account; then repeat the sign-in with undo_deletion: the same credential is good for it on this installation.", 0},
	{WorkRequired, 403, FixRequest, "A new installation must show a proof of work.", "The server asks new installations for work, so that scripts cannot make them by the million; bits says how much.", "Find a text with which the hash begins with that many zero bits (see POST /v1/installations), and send it in work with the same Idempotency-Key.", 0},
	{DeviceProofInvalid, 403, FixRequest, "The device proof is not accepted.", "The evidence does not verify, answers another challenge, or was used before; detail names the part.", "Get a new challenge and make fresh evidence. What was proven before stays.", 0},
	{DeviceProofRequired, 403, FixRequest, "This needs a proof of the app and the device.", "The feature is configured with device_proof, and the access token does not say that the installation has proven enough; level says what is asked for.", "Prove the device (POST /v1/installations/device-proof), refresh, then repeat the call.", 0},
	{AccountRequired, 403, Reauthenticate, "This needs a signed-in account.", "The user is anonymous and the feature is for accounts.", "Offer sign-in; anonymous data is carried over.", 0},
	{InsufficientScope, 403, FixRequest, "The access token is not good for this.", "The token was issued to an OAuth client with a scope that does not cover the route; WWW-Authenticate names the scope that is needed (RFC 6750 §3.1).", "Ask for the scope at /oauth/authorize, if the client may have it.", 0},
	{Forbidden, 403, ContactSupport, "This is not allowed.", "The user or operator lacks the right.", "Ask for the right, or use another account.", 0},
	{AppVersionUnsupported, 403, UpdateApp, "This version of the app is no longer supported.", "The app is older than the minimum version.", "Show the update screen with store_url.", 0},
	{RouteNotFound, 404, FixRequest, "There is no such route.", "No feature has a route for this method and path.", "Check the path and the API version.", 0},
	{NotFound, 404, FixRequest, "There is no such thing.", "The id does not exist or is not visible to this user.", "Refresh the list that the id came from.", 0},
	{MethodNotAllowed, 405, FixRequest, "The path exists, but not with this method.", "Another method is needed; the Allow header lists them.", "Use a method of the Allow header.", 0},
	{AccountGone, 410, FixRequest, "The account that this write was made for is gone.", "The account was deleted, by its user or an operator. Nothing was written, and nothing is made anew.", "Drop the write and everything else that is queued for this account; then as for account_deleted.", 0},
	{APIVersionEnded, 410, UpdateApp, "This API version has ended.", "The version was switched off after its announced sunset.", "Update the app.", 0},
	{IdempotencyInFlight, 409, Retry, "The first request with this key is still being worked on.", "A retry arrived before the first attempt was answered.", "Wait for Retry-After, then send the same request with the same key.", time.Second},
	{IdempotencyOutcomeUnknown, 409, ContactSupport, "It is not known whether the first request with this key took effect.", "The first attempt was cut off after it may have reached the upstream, and the route is configured with unknown_outcome: conflict.", "Look up the result before trying again with a new key.", 0},
	{IdentityInUse, 409, FixRequest, "This identity belongs to another account.", "The sign-in method is already linked elsewhere.", "Sign in with it instead of linking it: POST /v1/auth/sign-in takes conflict_token in place of the credential, which is spent. Where the server merges accounts, POST /v1/auth/link with conflict_token and confirm makes the other account part of this one.", 0},
	{AccountExistsElsewhere, 409, FixRequest, "There is an account with another sign-in method.", "The e-mail address belongs to an account that signs in otherwise; methods names how.", "Sign in with one of these methods and send pending_link; this one is then attached.", 0},
	{LastIdentity, 409, FixRequest, "This is the account's only way to sign in.", "Removing it would lock the user out.", "Link another way to sign in first, or delete the account.", 0},
	{TooManyAccounts, 409, FixRequest, "Too many accounts are signed in on this installation.", "An installation carries at most 20; sessions lists them.", "Let the user choose one, and repeat the sign-in with the same credential and end_session naming it.", 0},
	{TooManyInstallations, 409, FixRequest, "The account is signed in on too many installations.", "An account has at most 20 sessions at a time; sessions lists them.", "Let the user choose one, and repeat the sign-in with the same credential and end_session naming it.", 0},
	{MergePolicy, 409, FixRequest, "These users cannot become one.", "A capability refuses the merge, because what it keeps of both does not go together; collection and reason say which and why. Nothing was moved.", "Sign in with keep_anonymous, and the anonymous user's data stays on the installation; or keep using it as it is.", 0},
	{Conflict, 409, FixRequest, "The change conflicts with the current state.", "Another change came first, or a unique value is taken.", "Read the current state and decide again.", 0},
	{WrongUser, 412, FixRequest, "This request was made for another user.", "Expect-User names another user than the token; nothing was executed.", "Keep the request queued for the user it was made for.", 0},
	{BodyTooLarge, 413, FixRequest, "The request body is too large.", "The body exceeds the feature's limit.", "Send less, or use an upload.", 0},
	{URITooLong, 414, FixRequest, "The request URI is too long.", "The path and query exceed the listener's limit.", "Move data into the body.", 0},
	{MediaTypeUnsupported, 415, FixRequest, "The media type is not supported.", "The Content-Type is missing or is not one that the endpoint reads.", "Send the documented Content-Type.", 0},
	{WrongRegion, 421, Retry, "This user's data lives in another region.", "The request reached a region that does not hold the user.", "Send it to the region that the Region header names.", 0},
	{IdempotencyKeyReused, 422, FixRequest, "The Idempotency-Key was used for another request.", "The same key came with another payload.", "Use a new key for a new action.", 0},
	{HeaderTooLarge, 431, FixRequest, "The request header is too large.", "The header fields exceed the listener's limit.", "Send fewer or smaller headers and cookies.", 0},
	{RateLimited, 429, Retry, "Too many requests.", "A rate limit of the feature is used up; RateLimit-Policy names it.", "Wait for Retry-After.", time.Second},
	{QuotaExceeded, 429, Retry, "The quota is used up.", "A long-term quota is used up.", "Wait for Retry-After.", time.Minute},
	{Internal, 500, ContactSupport, "Something went wrong on our side.", "An unexpected fault; the log holds its cause under trace_id.", "Report trace_id.", 0},
	{UpstreamInvalid, 502, Retry, "The service behind this feature gave an invalid answer.", "The upstream broke HTTP, cut its answer short or lied about its length.", "Retry; the operator finds the cause in the log.", time.Second},
	{UpstreamUnreachable, 502, Retry, "The service behind this feature cannot be reached.", "The connection was refused or reset, or the name does not resolve.", "Retry; the operator checks the upstream's targets.", time.Second},
	{FeatureUnavailable, 503, Retry, "This feature is out of order for the moment.", "Its breaker is open because the upstream keeps failing; other features work.", "Wait for Retry-After, show a stored copy meanwhile.", time.Second},
	{FeatureDisabled, 503, Retry, "This feature is switched off.", "A flag turned it off.", "Hide the feature; check again later.", time.Minute},
	{Maintenance, 503, Retry, "This is under maintenance.", "An operator announced maintenance.", "Show the message; check again after Retry-After.", time.Minute},
	{Overloaded, 503, Retry, "The server is overloaded.", "More requests than can be served in time; this one was turned away early.", "Wait for Retry-After with jitter.", time.Second},
	{StorageUnavailable, 503, Retry, "The storage does not answer.", "The database is down, full or too slow; nothing was written.", "Retry after Retry-After; writes are safe to repeat with the same Idempotency-Key.", time.Second},
	{ProviderUnavailable, 503, Retry, "The sign-in provider does not answer.", "The provider is down, or its keys cannot be read; nothing is accepted unverified.", "Try again after Retry-After with the same credential.", 5 * time.Second},
	{Draining, 503, Retry, "This node is shutting down.", "The node is being replaced.", "Retry; another node answers.", time.Second},
	{UpstreamTimeout, 504, Retry, "The service behind this feature did not answer in time.", "The upstream took longer than the feature's timeout.", "Retry; with an Idempotency-Key if it writes.", time.Second},
	{RequestTimeout, 408, Retry, "The request did not arrive in time.", "The client sent its body too slowly.", "Retry on a better connection.", time.Second},
	{ConfigInvalid, 422, FixRequest, "The configuration is not valid.", "A reload found faults; nothing was changed.", "Correct every fault that errors lists, each with line and column.", 0},
}

var byCode = func() map[Code]Kind {
	m := make(map[Code]Kind, len(Catalogue))
	for _, k := range Catalogue {
		if _, twice := m[k.Code]; twice || http.StatusText(k.Status) == "" {
			panic("problem: bad catalogue row " + k.Code)
		}
		m[k.Code] = k
	}
	return m
}()

// Lookup returns the row of code; an unknown code gives the row of Internal.
func Lookup(code Code) Kind {
	if k, ok := byCode[code]; ok {
		return k
	}
	return byCode[Internal]
}
