package identity

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"landline/internal/rest"
)

// The first launch is the request that everybody makes at the same moment, when
// an app becomes known. Most are alike: a small body of plain members. Those are
// read and answered here, without the reflection of huma, which costs as much as
// the database does. Whatever is out of the ordinary, and everything that is wrong,
// is left to huma, so that there is one validation and one text for each fault.
const (
	maxPlainBody = 4 << 10
	bodyPatience = 5 * time.Second // huma's own (Operation.BodyReadTimeout)
)

var plainBodies = sync.Pool{New: func() any { return new([maxPlainBody]byte) }}

// registerPlainly is a middleware of register-installation.
func (s *Service) registerPlainly(c huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(c)
	if !plainRequest(r) {
		next(c)
		return
	}
	buf := plainBodies.Get().(*[maxPlainBody]byte)
	defer plainBodies.Put(buf)
	if err := c.SetReadDeadline(time.Now().Add(bodyPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		next(c)
		return
	}
	n, err := io.ReadFull(r.Body, buf[:r.ContentLength])
	in := registerInput{IdempotencyKey: r.Header.Get("Idempotency-Key")}
	if err != nil || !in.Body.readPlain(string(buf[:n])) {
		again := io.Reader(bytes.NewReader(bytes.Clone(buf[:n])))
		if err != nil {
			again = io.MultiReader(again, endsWith{err})
		}
		r.Body = readBefore{again, r.Body}
		next(c)
		return
	}
	out, err := s.handleRegister(r.Context(), &in)
	if err != nil {
		rest.Fail(c, err)
		return
	}
	setFields(w.Header(), "Cache-Control", out.CacheControl, "Data-Subject", out.DataSubject, "Content-Type", "application/json")
	w.WriteHeader(out.Status)
	w.Write(out.Body.append(buf[:0])) //nolint:errcheck // a caller that has gone misses nothing
}

// endsWith is a reader that has come to err.
type endsWith struct{ err error }

func (e endsWith) Read([]byte) (int, error) { return 0, e.err }

// readBefore is a body that reads again what has been read of another.
type readBefore struct {
	io.Reader
	io.Closer
}

// plainRequest is true of requests that huma reads as JSON and answers in JSON, whatever else they hold.
func plainRequest(r *http.Request) bool {
	if r.ContentLength <= 0 || r.ContentLength > maxPlainBody || r.URL.RawQuery != "" {
		return false
	}
	types, accept := r.Header["Content-Type"], r.Header["Accept"]
	if len(types) != 1 || types[0] != "application/json" && types[0] != "application/json; charset=utf-8" {
		return false
	}
	return len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == "application/json")
}

// readPlain reads a body all of whose members are known, given once, within their
// bounds, and written without escapes in ASCII. It returns false for any other,
// good or bad, and may have set some members then.
func (b *registerBody) readPlain(text string) bool {
	p := plainJSON{rest: text}
	seen := 0
	ok := p.object(func(name string) bool {
		switch name {
		case "installation_id":
			return p.once(&seen, 0) && p.text(&b.InstallationID, 64)
		case "installation_secret":
			return p.once(&seen, 1) && p.text(&b.InstallationSecret, 128)
		case "work":
			return p.once(&seen, 2) && p.text(&b.Work, 64)
		case "reinstalled":
			return p.once(&seen, 3) && p.boolean(&b.Reinstalled)
		case "app":
			b.App = &appWire{}
			return p.once(&seen, 4) && b.App.readPlain(&p)
		}
		return false
	})
	return ok && p.end()
}

func (a *appWire) readPlain(p *plainJSON) bool {
	seen := 0
	return p.object(func(name string) bool {
		switch name {
		case "version":
			return p.once(&seen, 0) && p.text(&a.Version, 64)
		case "build":
			return p.once(&seen, 1) && p.number(&a.Build)
		case "platform":
			return p.once(&seen, 2) && p.text(&a.Platform, 32)
		case "os":
			return p.once(&seen, 3) && p.text(&a.OS, 64)
		case "device":
			return p.once(&seen, 4) && p.text(&a.Device, 128)
		case "locale":
			return p.once(&seen, 5) && p.text(&a.Locale, 64)
		}
		return false
	})
}

// plainJSON reads the part of JSON (RFC 8259) that needs no care.
type plainJSON struct{ rest string }

func (p *plainJSON) space() {
	for p.rest != "" && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\t' || p.rest[0] == '\r') {
		p.rest = p.rest[1:]
	}
}

func (p *plainJSON) next(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plainJSON) end() bool {
	p.space()
	return p.rest == ""
}

// once is false when bit was set before.
func (p *plainJSON) once(seen *int, bit uint) bool {
	before := *seen
	*seen |= 1 << bit
	return before != *seen
}

// object calls member for each name, to read the value.
func (p *plainJSON) object(member func(name string) bool) bool {
	if !p.next('{') {
		return false
	}
	if p.next('}') {
		return true
	}
	for {
		var name string
		if !p.text(&name, 64) || !p.next(':') || !member(name) {
			return false
		}
		if !p.next(',') {
			return p.next('}')
		}
	}
}

func (p *plainJSON) text(to *string, most int) bool {
	if !p.next('"') {
		return false
	}
	for i := range len(p.rest) {
		switch c := p.rest[i]; {
		case c == '"':
			*to, p.rest = p.rest[:i], p.rest[i+1:]
			return i <= most
		case c < 0x20 || c >= 0x7f || c == '\\':
			return false
		}
	}
	return false
}

func (p *plainJSON) boolean(to *bool) bool {
	p.space()
	rest, yes := strings.CutPrefix(p.rest, "true")
	if !yes {
		var no bool
		if rest, no = strings.CutPrefix(p.rest, "false"); !no {
			return false
		}
	}
	*to, p.rest = yes, rest
	return true
}

func (p *plainJSON) number(to *int64) bool {
	p.space()
	digits := 0
	for digits < len(p.rest) && p.rest[digits] >= '0' && p.rest[digits] <= '9' {
		digits++
	}
	if digits == 0 || digits > 15 || digits > 1 && p.rest[0] == '0' { // huma compares as floating point numbers, which hold 15 digits
		return false
	}
	n, err := strconv.ParseInt(p.rest[:digits], 10, 64)
	*to, p.rest = n, p.rest[digits:]
	return err == nil
}

// append is b as encoding/json writes it, with the line feed of an Encoder.
func (b *registeredBody) append(to []byte) []byte {
	i, s := &b.Installation, &b.Session
	to = appendJSON(append(to, `{"installation":{"id":`...), i.ID)
	if i.Secret != "" {
		to = appendJSON(append(to, `,"secret":`...), i.Secret)
	}
	to = appendJSONTime(append(to, `,"created_at":`...), i.CreatedAt)
	to = appendJSON(append(to, `},"user":{"id":`...), b.User.ID)
	to = appendJSON(append(to, `,"kind":`...), string(b.User.Kind))
	to = appendJSONTime(append(to, `,"created_at":`...), b.User.CreatedAt)
	to = appendJSON(append(to, `},"session":{"id":`...), s.ID)
	to = appendJSON(append(to, `,"access_token":`...), s.AccessToken)
	to = appendJSON(append(to, `,"token_type":`...), s.TokenType)
	to = strconv.AppendInt(append(to, `,"expires_in":`...), s.ExpiresIn, 10)
	to = appendJSON(append(to, `,"refresh_token":`...), s.RefreshToken)
	to = strconv.AppendInt(append(to, `,"refresh_expires_in":`...), s.RefreshExpiresIn, 10)
	return append(to, "}}\n"...)
}

func appendJSONTime(to []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(to, '"'), time.RFC3339Nano), '"')
}
