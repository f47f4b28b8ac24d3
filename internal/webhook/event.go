package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Bounds on an event.
const (
	MaxData    = 20_000 // bytes of data as JSON; the specification advises less than 20 kB
	maxType    = 100
	maxSubject = 128
)

// ownTypes is what types that this package emits itself begin with.
const ownTypes = "webhook."

// PingType is the type of the event that Ping sends.
const PingType = ownTypes + "ping"

// Event is what a capability emits.
type Event struct {
	// Type is lower-case words joined by dots: "user.merged". It fixes the shape of Data.
	Type string

	// Subject is the id of the user that the event is about, of whom order is
	// kept: where two become one, the one that goes on. "" for none.
	Subject string

	// Data becomes a JSON object of at most MaxData bytes; nil is {}. It holds
	// ids and what changed, no personal data: receivers ask for the rest.
	Data any

	// Final says that the event tells of the subject's end: EraseSubject leaves
	// it, because services must hear of it in order to erase as well.
	Final bool
}

// EventType describes a type of event for operators and documents.
type EventType struct {
	Name string // "user.merged"
	Doc  string
}

var typeForm = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)

func (e Event) check() error {
	switch {
	case !typeForm.MatchString(e.Type) || len(e.Type) > maxType:
		return fmt.Errorf("webhook: the type %q must be at most %d bytes of lower-case words joined by dots, for example user.merged", e.Type, maxType)
	case strings.HasPrefix(e.Type, ownTypes):
		return fmt.Errorf("webhook: types that begin with %s are this package's own", ownTypes)
	case len(e.Subject) > maxSubject:
		return fmt.Errorf("webhook: the subject of %s has %d bytes, at most %d", e.Type, len(e.Subject), maxSubject)
	case e.Final && e.Subject == "":
		return fmt.Errorf("webhook: %s is final but has no subject", e.Type)
	}
	return nil
}

// payload is the body of a delivery. Its first three members are those of the
// specification; the others are additions, which it allows.
type payload struct {
	Type      string          `json:"type"`
	Timestamp string          `json:"timestamp"` // of the event, RFC 3339 in UTC
	Data      json.RawMessage `json:"data"`
	Subject   string          `json:"subject,omitempty"`
	Sequence  int64           `json:"sequence,omitempty"` // grows with every event of the subject
}

func (e Event) data() (json.RawMessage, error) {
	if e.Data == nil {
		return json.RawMessage("{}"), nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e.Data); err != nil {
		return nil, fmt.Errorf("webhook: data of %s: %w", e.Type, err)
	}
	text := bytes.TrimSpace(b.Bytes())
	switch {
	case len(text) > MaxData:
		return nil, fmt.Errorf("webhook: data of %s has %d bytes, at most %d: send ids, receivers ask for the rest", e.Type, len(text), MaxData)
	case text[0] != '{':
		return nil, fmt.Errorf("webhook: data of %s must be a JSON object", e.Type)
	}
	return text, nil
}

func (e Event) body(data json.RawMessage, at time.Time, sequence int64) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(payload{e.Type, at.UTC().Format("2006-01-02T15:04:05.000Z"), data, e.Subject, sequence})
	return strings.TrimSuffix(b.String(), "\n"), err
}

// patternForm is a type, or words followed by .*, or * alone.
var patternForm = regexp.MustCompile(`^(\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+)$`)

// matches reports whether a pattern of events selects a type: "user.merged"
// itself, "user.*" everything below user, "*" everything.
func matches(pattern, eventType string) bool {
	if pattern == "*" {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}
