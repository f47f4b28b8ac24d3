package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	strict "github.com/go-jose/go-jose/v4/json"
)

// NoticeKind is what a notice says.
type NoticeKind string

// The kinds. What they ask for is in docs/reference/sign-in-providers.md.
const (
	NoticeConsentRevoked   NoticeKind = "consent_revoked"            // Apple: the user cut the app off
	NoticeAccountDeleted   NoticeKind = "account_deleted"            // the account at the provider is gone
	NoticeEmailDisabled    NoticeKind = "email_disabled"             // Apple: the relay forwards no more
	NoticeEmailEnabled     NoticeKind = "email_enabled"              // Apple: it does again
	NoticeSessionsRevoked  NoticeKind = "sessions_revoked"           // end the user's sessions
	NoticeTokensRevoked    NoticeKind = "tokens_revoked"             // all provider tokens of the user are void
	NoticeTokenRevoked     NoticeKind = "token_revoked"              // one is: see TokenAlg and Token
	NoticeAccountDisabled  NoticeKind = "account_disabled"           // Detail hijacking, bulk-account or none
	NoticeAccountEnabled   NoticeKind = "account_enabled"            // usable again
	NoticeCredentialChange NoticeKind = "credential_change_required" // #nosec G101 -- watch for suspicious activity
	NoticeVerification     NoticeKind = "verification"               // a test; Detail is its state
	NoticeUnknown          NoticeKind = "unknown"                    // see Type: to be stored, and answered 200
)

// Notices are kept from being replayed for as long as they are taken.
const (
	noticeAge       = 30 * 24 * time.Hour
	maxNotice       = 64 << 10 // bytes of a request
	maxEvents       = 16       // of one token
	maxNoticeDetail = 1 << 10
)

// Notice is one verified event that a provider tells. It is personal data.
type Notice struct {
	Provider string
	Kind     NoticeKind
	Type     string // as the provider wrote it
	Issuer   string // canonical; (Issuer, Subject) is the identity
	Subject  string // "" where the event has none: NoticeVerification, NoticeTokenRevoked
	ClientID string // the audience that is ours
	At       time.Time
	JTI      string

	// ReplayID is to be stored until KeepUntil, with the effect: providers deliver
	// more than once. Events of one token have different ids.
	ReplayID  string
	KeepUntil time.Time

	Email        string // Apple's, at email_disabled and email_enabled
	PrivateEmail bool
	Detail       string // reason or state
	TokenAlg     string // of NoticeTokenRevoked: prefix (16 characters), hash_base64_sha512_sha512
	Token        string // the prefix or hash of the refresh token
	Raw          json.RawMessage
}

// noticeRules are how a provider's notices are checked.
type noticeRules struct {
	keys    keySource
	issuers []string
	read    func(*noticeClaims, []string) ([]Notice, error)
}

// noticeClaims are those of RFC 8417 §2.2, and Apple's.
type noticeClaims struct {
	Issuer    string            `json:"iss"`
	Audience  audience          `json:"aud"`
	IssuedAt  numericDate       `json:"iat"`
	Expires   numericDate       `json:"exp"`
	At        numericDate       `json:"toe"`
	ID        string            `json:"jti"`
	SubjectID setSubject        `json:"sub_id"`
	Events    strict.RawMessage `json:"events"`
}

var noticeTypes = []string{"", "JWT", "secevent+jwt"}

// Notices verifies the body of a request to a notice endpoint: Apple's
// {"payload": "<JWS>"} or a security event token (RFC 8417, pushed by RFC 8935).
// The endpoint answers 200 after all notices are stored, those of NoticeUnknown
// too; on ErrRefused 400, for Google with SETCode; on others 503. The errors are
// *Error.
func (p *Provider) Notices(ctx context.Context, body []byte) ([]Notice, error) {
	if p.notices == nil {
		return nil, p.from(misconfigured(nil, ReasonUnsupported, "this provider sends no notices"))
	}
	notices, err := p.readNotices(ctx, body)
	count(p.set.metrics.notices, p.name, err)
	if err != nil {
		return nil, p.from(err)
	}
	return notices, nil
}

func (p *Provider) readNotices(ctx context.Context, body []byte) ([]Notice, error) {
	if len(body) > maxNotice {
		return nil, refuse(ReasonTooLarge, "the body has more than %d bytes", maxNotice)
	}
	text := string(bytes.TrimSpace(body))
	if strings.HasPrefix(text, "{") {
		var wrapped appleNotice
		if object(body, &wrapped) != nil || wrapped.Payload == "" {
			return nil, refuse(ReasonMalformed, `the body is not {"payload": "<JWS>"}`)
		}
		text = wrapped.Payload
	}
	o, err := open(text, p.rules.algorithms, noticeTypes)
	if err != nil {
		return nil, err
	}
	var c noticeClaims
	if strict.Unmarshal(o.payload, &c) != nil || c.Events == nil {
		return nil, refuse(ReasonMalformed, "the payload is not a JSON object with events")
	}
	clientID, err := p.checkNotice(&c)
	if err != nil {
		return nil, err
	}
	notices, err := p.notices.read(&c, p.notices.issuers)
	if err != nil {
		return nil, err
	}
	if err := o.verify(ctx, p.notices.keys, c.IssuedAt.time()); err != nil {
		return nil, err
	}
	for i := range notices {
		p.complete(&notices[i], i, &c, o, clientID)
	}
	return notices, nil
}

// checkNotice returns our client id. A token may be for several of them.
func (p *Provider) checkNotice(c *noticeClaims) (string, error) {
	now := p.set.clock.Now()
	at := slices.IndexFunc(c.Audience, func(a string) bool { return slices.Contains(p.rules.clientIDs, a) })
	switch {
	case !slices.Contains(p.notices.issuers, c.Issuer):
		return "", refuse(ReasonIssuer, "the notice is of another issuer")
	case at < 0 || len(c.Audience) > maxAudiences:
		return "", refuse(ReasonAudience, "the notice is for another app")
	case !c.IssuedAt.valid():
		return "", refuse(ReasonMalformed, "the notice lacks iat")
	case c.IssuedAt.time().After(now.Add(clockSkew)):
		return "", refuse(ReasonNotYet, "the notice was issued in the future")
	case !now.Before(c.IssuedAt.time().Add(noticeAge)):
		return "", refuse(ReasonTooOld, "the notice was issued more than %d days ago", noticeAge/(24*time.Hour))
	case c.Expires != 0 && !now.Before(c.Expires.time().Add(clockSkew)):
		return "", refuse(ReasonExpired, "the notice has expired")
	case len(c.ID) > 255:
		return "", refuse(ReasonMalformed, "the notice's jti has more than 255 characters")
	}
	return c.Audience[at], nil
}

// complete adds what all events of a token share.
func (p *Provider) complete(n *Notice, index int, c *noticeClaims, o *opened, clientID string) {
	n.Provider, n.Issuer, n.ClientID, n.JTI = p.name, p.rules.issuers[0], clientID, c.ID
	n.KeepUntil = c.IssuedAt.time().Add(noticeAge)
	if n.At.IsZero() {
		n.At = c.IssuedAt.time()
	}
	jti := c.ID
	if jti == "" {
		jti = o.signed()
	}
	n.ReplayID = o.replayID(c.Issuer, "notice\x00"+strconv.Itoa(index)+"\x00"+n.Type+"\x00"+jti)
	n.Detail = clipTo(n.Detail, maxNoticeDetail)
	if !plausibleEmail(n.Email) {
		n.Email = ""
	}
}

// appleNotices reads the events claim: a JSON object, or a string that holds one;
// a list is taken as well.
func appleNotices(c *noticeClaims, _ []string) ([]Notice, error) {
	raw := []byte(c.Events)
	var text string
	if strict.Unmarshal(raw, &text) == nil {
		raw = []byte(text)
	}
	var list []strict.RawMessage
	if strict.Unmarshal(raw, &list) != nil {
		list = []strict.RawMessage{raw}
	}
	if len(list) == 0 || len(list) > maxEvents {
		return nil, refuse(ReasonMalformed, "the notice has no event, or more than %d", maxEvents)
	}
	kinds := map[string]NoticeKind{
		"consent-revoked": NoticeConsentRevoked, "email-disabled": NoticeEmailDisabled, "email-enabled": NoticeEmailEnabled,
		"account-delete": NoticeAccountDeleted, "account-deleted": NoticeAccountDeleted, // Apple documents both
	}
	var notices []Notice
	for _, one := range list {
		var e appleEvent
		if strict.Unmarshal(one, &e) != nil || e.Type == "" || len(e.Type) > 255 {
			return nil, refuse(ReasonMalformed, "an event of the notice has no type")
		}
		n := Notice{Kind: kinds[e.Type], Type: e.Type, Email: e.Email, PrivateEmail: bool(e.PrivateEmail), At: eventTime(e.At), Raw: json.RawMessage(one)}
		if n.Kind == "" {
			n.Kind = NoticeUnknown
		}
		subject, ok := subjectText(e.Subject)
		if !ok && n.Kind != NoticeUnknown {
			return nil, refuse(ReasonSubject, "an event of the notice has no usable sub")
		}
		n.Subject = subject
		notices = append(notices, n)
	}
	return notices, nil
}

// eventTime reads seconds, or milliseconds as Apple really sends them; zero when
// it is neither.
func eventTime(raw json.RawMessage) time.Time {
	f, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	switch {
	case err != nil || !(f > 0 && f < 1<<50):
		return time.Time{}
	case f > 1e11:
		return time.UnixMilli(int64(f)).UTC()
	}
	return time.Unix(int64(f), 0).UTC()
}

// riscKinds are the last parts of event types of RISC and of OAuth events.
var riscKinds = map[string]NoticeKind{
	"sessions-revoked": NoticeSessionsRevoked, "tokens-revoked": NoticeTokensRevoked, "token-revoked": NoticeTokenRevoked,
	"account-disabled": NoticeAccountDisabled, "account-enabled": NoticeAccountEnabled, "account-purged": NoticeAccountDeleted,
	"account-credential-change-required": NoticeCredentialChange, "verification": NoticeVerification,
}

// securityEvents reads the events claim of RFC 8417: an object of event types.
func securityEvents(c *noticeClaims, issuers []string) ([]Notice, error) {
	var events map[string]strict.RawMessage
	if strict.Unmarshal(c.Events, &events) != nil || len(events) == 0 || len(events) > maxEvents {
		return nil, refuse(ReasonMalformed, "events is not an object of 1 to %d event types", maxEvents)
	}
	var notices []Notice
	for _, typ := range sorted(events) {
		if len(typ) > 255 {
			return nil, refuse(ReasonMalformed, "an event type has more than 255 characters")
		}
		var e setEvent
		if strict.Unmarshal(events[typ], &e) != nil {
			return nil, refuse(ReasonMalformed, "an event is not an object")
		}
		n := Notice{Kind: NoticeUnknown, Type: typ, At: c.At.time(), Raw: json.RawMessage(events[typ]), Detail: e.Reason}
		if strings.HasPrefix(typ, "https://schemas.openid.net/secevent/") {
			if kind, ok := riscKinds[typ[strings.LastIndexByte(typ, '/')+1:]]; ok {
				n.Kind = kind
			}
		}
		if err := n.about(e, c.SubjectID, issuers); err != nil {
			return nil, err
		}
		notices = append(notices, n)
	}
	return notices, nil
}

// about fills in whom or what an event is about.
func (n *Notice) about(e setEvent, sub setSubject, issuers []string) error {
	if e.Subject != (setSubject{}) {
		sub = e.Subject
	}
	switch {
	case n.Kind == NoticeVerification:
		n.Detail = e.State
		return nil
	case n.Kind == NoticeTokenRevoked:
		n.TokenAlg, n.Token = sub.TokenAlg, sub.Token
		if n.Token == "" {
			n.TokenAlg, n.Token = e.TokenAlg, e.Token
		}
		if n.Token == "" || len(n.Token) > 1<<10 {
			return refuse(ReasonSubject, "an event does not say which token is meant")
		}
		if sub.Subject == "" || sub.Issuer != "" && !slices.Contains(issuers, sub.Issuer) {
			return nil // the token alone says it
		}
		var ok bool
		if n.Subject, ok = subjectText(sub.Subject); !ok {
			return refuse(ReasonSubject, "an event has no usable subject of this issuer")
		}
		return nil
	}
	if sub.Issuer != "" && !slices.Contains(issuers, sub.Issuer) {
		sub.Subject = "" // a subject of another issuer is no identity of ours
	}
	subject, ok := subjectText(sub.Subject)
	if !ok && n.Kind != NoticeUnknown {
		return refuse(ReasonSubject, "an event has no usable subject of this issuer")
	}
	n.Subject = subject
	return nil
}

func subjectText(s string) (string, bool) {
	quoted, err := json.Marshal(s)
	if err != nil {
		return "", false
	}
	return subjectOf(quoted)
}
