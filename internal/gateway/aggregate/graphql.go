package aggregate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"landline/internal/problem"
)

// Operation is one operation of a persisted GraphQL document.
type Operation struct {
	Name string // "" for the only, nameless one
	Type string // query, mutation or subscription
	Hash string // SHA-256 of the document, 64 hex digits in lower case
	head []byte // {"query":"…","operationName":"…"
}

// Request is the body of a GraphQL request (GraphQL over HTTP); variables is a
// JSON object or nil.
func (o *Operation) Request(variables []byte) []byte {
	b := make([]byte, 0, len(o.head)+len(variables)+16)
	b = append(b, o.head...)
	if len(variables) > 0 {
		b = append(append(b, `,"variables":`...), variables...)
	}
	return append(b, '}')
}

// Persisted is an allow-list of GraphQL documents.
type Persisted struct {
	byHash     map[string][]*Operation
	byName     map[string][]*Operation
	operations int
}

// Bounds of an allow-list.
const (
	maxDocuments = 20000
	maxDocument  = 256 << 10
)

// ParsePersisted reads an allow-list. Each source is one of
//   - a GraphQL document,
//   - an Apollo persisted query manifest (format apollo-persisted-query-manifest,
//     version 1), whose ids must be the SHA-256 of the bodies,
//   - an object of documents by their SHA-256, as Relay's compiler writes it.
func ParsePersisted(sources []string) (*Persisted, error) {
	p := &Persisted{byHash: map[string][]*Operation{}, byName: map[string][]*Operation{}}
	for i, s := range sources {
		if err := p.add(s); err != nil {
			if len(sources) > 1 {
				err = fmt.Errorf("source %d: %w", i+1, err)
			}
			return nil, err
		}
	}
	if p.operations == 0 {
		return nil, errors.New("there is no GraphQL document in it")
	}
	return p, nil
}

func (p *Persisted) add(source string) error {
	trimmed := strings.TrimLeft(strings.TrimPrefix(source, "\ufeff"), " \t\r\n")
	if !strings.HasPrefix(trimmed, "{") || !json.Valid([]byte(trimmed)) {
		return p.document(source, "")
	}
	var manifest struct {
		Format     string `json:"format"`
		Version    int    `json:"version"`
		Operations []struct {
			ID   string `json:"id"`
			Body string `json:"body"`
		} `json:"operations"`
	}
	if err := json.Unmarshal([]byte(trimmed), &manifest); err == nil && manifest.Format != "" {
		if manifest.Format != "apollo-persisted-query-manifest" || manifest.Version != 1 {
			return fmt.Errorf("a manifest of format %q, version %d is not known; known is apollo-persisted-query-manifest, version 1", manifest.Format, manifest.Version)
		}
		for _, o := range manifest.Operations {
			if err := p.document(o.Body, o.ID); err != nil {
				return err
			}
		}
		return nil
	}
	var byHash map[string]string
	if err := json.Unmarshal([]byte(trimmed), &byHash); err != nil {
		return errors.New("it is neither a GraphQL document, nor a manifest, nor an object of documents by their SHA-256")
	}
	for _, hash := range sortedKeys(byHash) {
		if err := p.document(byHash[hash], hash); err != nil {
			return err
		}
	}
	return nil
}

func hashOf(document string) string {
	sum := sha256.Sum256([]byte(document))
	return hex.EncodeToString(sum[:])
}

func (p *Persisted) document(text, id string) error {
	if len(text) > maxDocument {
		return fmt.Errorf("a document is longer than %d bytes", maxDocument)
	}
	if !utf8.ValidString(text) {
		return errors.New("a document is not UTF-8")
	}
	hash := hashOf(text)
	if id != "" && !strings.EqualFold(id, hash) {
		return fmt.Errorf("the document with the id %.80q has the SHA-256 %s: ids must be the SHA-256 of the document", id, hash)
	}
	if p.byHash[hash] != nil {
		return nil
	}
	if len(p.byHash) >= maxDocuments {
		return fmt.Errorf("there are more than %d documents", maxDocuments)
	}
	operations, err := parseDocument(text)
	if err != nil {
		return fmt.Errorf("document %s: %w", hash[:12], err)
	}
	for i := range operations {
		o := &operations[i]
		o.Hash = hash
		o.head = appendText([]byte(`{"query":`), text)
		if o.Name != "" {
			o.head = appendText(append(o.head, `,"operationName":`...), o.Name)
		}
		p.byHash[hash] = append(p.byHash[hash], o)
		p.byName[o.Name] = append(p.byName[o.Name], o)
		p.operations++
	}
	return nil
}

// Find returns the operation of a document by its hash; name may be empty when
// the document has one operation. hash is 64 hex digits in any case.
func (p *Persisted) Find(hash, name string) (*Operation, error) {
	list := p.byHash[strings.ToLower(hash)]
	switch {
	case list == nil:
		return nil, ErrNotPersisted
	case name == "" && len(list) == 1:
		return list[0], nil
	case name == "":
		return nil, errors.New("operationName is needed: the document has several operations")
	}
	for _, o := range list {
		if o.Name == name {
			return o, nil
		}
	}
	return nil, errors.New("the document has no operation of this operationName")
}

// ErrNotPersisted says that a document is not on the allow-list.
var ErrNotPersisted = errors.New("the document is not on the list of persisted queries")

// Hash is the key under which a document is persisted.
func Hash(document string) string { return hashOf(document) }

// Named returns the one operation of that name in all documents.
func (p *Persisted) Named(name string) (*Operation, error) {
	switch list := p.byName[name]; len(list) {
	case 0:
		return nil, fmt.Errorf("there is no operation %q; there are %s", name, strings.Join(p.names(), ", "))
	case 1:
		return list[0], nil
	default:
		return nil, fmt.Errorf("%d documents have an operation %q: its name must be its own", len(list), name)
	}
}

func (p *Persisted) names() []string {
	names := sortedKeys(p.byName)
	return names[:min(len(names), 20)]
}

// GraphQLError is one error of a GraphQL answer: what of it concerns the app.
type GraphQLError struct {
	Path string // "flight.gate", "" for the whole
	Code string // extensions.code, "" if there is none
}

// Bounds of what is taken from errors.
const (
	maxErrors     = 16
	maxErrorBytes = 128
)

// SplitGraphQL takes a GraphQL answer apart: its data, and its errors. data is
// nil for null and for none; ok is false when raw is no GraphQL answer. raw must be valid JSON.
func SplitGraphQL(raw []byte) (data []byte, errs []GraphQLError, ok bool) {
	raw = trim(raw)
	if raw[0] != '{' {
		return nil, nil, false
	}
	data, hasData := find(raw, []string{"data"})
	list, hasErrors := find(raw, []string{"errors"})
	if hasData && data[0] == 'n' {
		data = nil
	}
	if hasErrors && list[0] == '[' {
		for r := open(list); ; {
			item, more := r.item()
			if !more {
				break
			}
			if len(errs) < maxErrors {
				errs = append(errs, readError(item))
			}
		}
	}
	if hasData && data != nil && data[0] != '{' {
		return nil, nil, false
	}
	return data, errs, data != nil || len(errs) > 0
}

func readError(item []byte) (e GraphQLError) {
	if item[0] != '{' {
		return e
	}
	if code, there := find(item, []string{"extensions", "code"}); there && code[0] == '"' && len(code) <= maxErrorBytes {
		e.Code = unquote(code)
	}
	path, there := find(item, []string{"path"})
	if !there || path[0] != '[' {
		return e
	}
	var steps []string
	for r := open(path); ; {
		step, more := r.item()
		if !more {
			break
		}
		if step[0] == '"' {
			steps = append(steps, unquote(step))
		} else {
			steps = append(steps, string(step))
		}
	}
	if e.Path = strings.Join(steps, "."); len(e.Path) > maxErrorBytes {
		e.Path = ""
	}
	return e
}

// GraphQLAnswer is the answer of a call to a GraphQL service that answered
// with that status.
func GraphQLAnswer(status int, raw []byte) Answer {
	data, errs, ok := SplitGraphQL(raw)
	switch {
	case !ok && status/100 != 2:
		return Answer{Failure: StatusFailure(status, 0)}
	case !ok:
		return Answer{Failure: InvalidFailure(errors.New("neither data nor errors"))}
	case data == nil:
		f := &Failure{Reason: reasonErrors, Cause: errors.New("errors only, " + strconv.Itoa(len(errs)))}
		for _, e := range errs {
			if e.Code != "" && !slices.Contains(f.Codes, e.Code) {
				f.Codes = append(f.Codes, e.Code)
			}
		}
		if len(f.Codes) > 0 {
			f.Cause = fmt.Errorf("errors only: %q", f.Codes)
		}
		return Answer{Failure: f}
	}
	return Answer{JSON: data, Partial: errs}
}

// graphqlCode is the problem that an answer of errors alone means: the codes
// that servers agree on.
func graphqlCode(codes []string) problem.Code {
	if len(codes) == 0 {
		return problem.UpstreamInvalid
	}
	switch codes[0] {
	case "NOT_FOUND":
		return problem.NotFound
	case "FORBIDDEN", "UNAUTHENTICATED", "UNAUTHORIZED":
		return problem.Forbidden
	case "BAD_USER_INPUT", "BAD_REQUEST":
		return problem.InvalidRequest
	case "CONFLICT":
		return problem.Conflict
	case "SERVICE_UNAVAILABLE":
		return problem.FeatureUnavailable
	}
	return problem.UpstreamInvalid
}
