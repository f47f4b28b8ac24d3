package identity

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"landline/internal/id"
	"landline/internal/secret"
)

// A refresh token is v1.<session id>.<number>.<mac>. The last part is base64url
// of the key version, four bytes big-endian, and 16 bytes of HMAC-SHA-256 over
// session and number. It is made anew whenever it is sent, so the database holds
// nothing of it, a repeat can be answered with the same token, and one that was
// not made here is told without the database.
const (
	refreshPrefix = "v1."
	refreshMAC    = 16
	maxRefresh    = 128 // bytes of the longest token there can be
)

// refreshToken is a parsed token. Nothing is proven by parsing.
type refreshToken struct {
	session string
	counter int64
	version int
	mac     [refreshMAC]byte
}

// parseRefreshToken reads s, which may be anything. It accepts exactly the texts
// that formatRefreshToken makes.
func parseRefreshToken(s string) (t refreshToken, ok bool) {
	if len(s) > maxRefresh {
		return t, false
	}
	rest, ok := strings.CutPrefix(s, refreshPrefix)
	if !ok {
		return t, false
	}
	session, rest, ok := strings.Cut(rest, ".")
	if !ok || id.Check(id.Session, session) != nil {
		return t, false
	}
	digits, tail, ok := strings.Cut(rest, ".")
	if !ok || digits == "" || digits[0] < '1' || digits[0] > '9' {
		return t, false
	}
	counter, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || counter == math.MaxInt64 { // the successor must be a number too
		return t, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(tail)
	if err != nil || len(raw) != 4+refreshMAC || strings.ContainsAny(tail, "\r\n") {
		return t, false
	}
	version := binary.BigEndian.Uint32(raw)
	if version > math.MaxInt32 {
		return t, false
	}
	t = refreshToken{session: session, counter: counter, version: int(version)}
	copy(t.mac[:], raw[4:])
	return t, true
}

func formatRefreshToken(t refreshToken) string {
	var raw [4 + refreshMAC]byte
	binary.BigEndian.PutUint32(raw[:], uint32(t.version)) // #nosec G115 -- key versions are small and positive
	copy(raw[4:], t.mac[:])
	var room [maxRefresh]byte
	out := append(append(append(room[:0], refreshPrefix...), t.session...), '.')
	out = append(strconv.AppendInt(out, t.counter, 10), '.')
	return string(base64.RawURLEncoding.AppendEncode(out, raw[:]))
}

func refreshMessage(session string, counter int64) []byte {
	m := make([]byte, 0, 96)
	m = append(append(append(m, "refresh token\x00"...), session...), 0)
	return strconv.AppendInt(m, counter, 10)
}

// refreshTokens makes and verifies refresh tokens with the keys of the ring.
type refreshTokens struct{ keys *secret.Ring }

// current returns the newest refresh token of s.
func (r refreshTokens) current(s Session) (string, error) {
	mac, err := r.keys.MACWith(purposeRefresh, s.KeyVersion, refreshMessage(s.ID, s.Current))
	if err != nil {
		return "", err
	}
	t := refreshToken{session: s.ID, counter: s.Current, version: s.KeyVersion}
	copy(t.mac[:], mac)
	return formatRefreshToken(t), nil
}

// verify is true for a token that was made here. It does no I/O.
func (r refreshTokens) verify(text string) (refreshToken, bool) {
	t, ok := parseRefreshToken(text)
	if !ok {
		return t, false
	}
	mac, err := r.keys.MACWith(purposeRefresh, t.version, refreshMessage(t.session, t.counter))
	return t, err == nil && hmac.Equal(mac[:refreshMAC], t.mac[:])
}

// early is true for a token whose key another node may have made a moment ago.
func (r refreshTokens) early(text string) bool {
	t, ok := parseRefreshToken(text)
	return ok && r.keys.Ahead(purposeRefresh, t.version)
}
