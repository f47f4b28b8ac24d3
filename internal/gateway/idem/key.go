package idem

import (
	"errors"
	"strings"

	"github.com/dunglas/httpsfv"
)

// MaxKey is the longest key, in bytes, without quotes.
const MaxKey = 255

// ErrKey is returned by ParseKey; its text is fit for clients.
var ErrKey = errors.New(`send one key of 1 to 255 visible ASCII characters, as a string ("8e03978e-40d5-43dd-bc93-6894a57f9324") or without the quotes`)

// ParseKey reads the value of an Idempotency-Key header: an RFC 9651 String,
// whose parameters are ignored and which may hold spaces, or, since most clients send it so, the bare
// text. A bare key has visible ASCII characters but no quote and no comma: a
// comma is what two header lines become when a proxy joins them. Quoted and
// bare spellings of a key are the same key.
func ParseKey(s string) (string, error) {
	s = strings.Trim(s, " \t")
	key, least := s, byte('!')
	if strings.HasPrefix(s, `"`) {
		least = ' '
		if inner := s[1:]; len(inner) > 0 && strings.IndexByte(inner, '"') == len(inner)-1 && strings.IndexByte(inner, '\\') < 0 {
			key = inner[:len(inner)-1] // the usual case, without the general parser
		} else {
			item, err := httpsfv.UnmarshalItem([]string{s})
			if err != nil {
				return "", ErrKey
			}
			text, ok := item.Value.(string)
			if !ok {
				return "", ErrKey
			}
			key = text
		}
	} else if strings.ContainsAny(s, `",`) {
		return "", ErrKey
	}
	if len(key) == 0 || len(key) > MaxKey {
		return "", ErrKey
	}
	for i := range len(key) {
		if key[i] < least || key[i] > '~' {
			return "", ErrKey
		}
	}
	return key, nil
}
