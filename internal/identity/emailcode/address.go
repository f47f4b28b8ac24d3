package emailcode

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Address is a mail address in its spellings.
type Address struct {
	Display string // as typed, in NFC, the domain in Unicode and lower case
	Mail    string // where mail goes: Display with the domain in ASCII (RFC 5890)
	Key     string // what is compared: Mail in lower case
}

// AddressError is a text that is no address. Its text may be shown.
type AddressError struct{ Detail string }

func (e *AddressError) Error() string { return "address: it " + e.Detail }

const (
	maxAddress = 254 // bytes (RFC 5321 §4.5.3.1.3 less the angle brackets)
	maxLocal   = 64
)

// domains follows UTS #46, non-transitional, with the lengths of DNS.
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.CheckHyphens(true),
	idna.CheckJoiners(true), idna.Transitional(false), idna.VerifyDNSLength(true))

// ParseAddress reads what a person typed. It accepts dot-atoms (RFC 5322 §3.2.3)
// with the letters of RFC 6532 at a registered domain; no quoted local parts, no
// address literals, no names. Two addresses are the same when they differ in case
// alone: no provider's dots and no +tags are taken away, because only the provider
// knows what they mean. Errors are of type *AddressError.
func ParseAddress(text string) (Address, error) {
	text = strings.TrimSpace(text)
	if len(text) > 2*maxAddress || !utf8.ValidString(text) {
		return Address{}, &AddressError{fmt.Sprintf("has more than %d bytes, or is not UTF-8", maxAddress)}
	}
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return Address{}, &AddressError{"has no @"}
	}
	local, err := localPart(text[:at])
	if err != nil {
		return Address{}, err
	}
	ascii, shown, err := domainPart(text[at+1:])
	if err != nil {
		return Address{}, err
	}
	a := Address{Display: local + "@" + shown, Mail: local + "@" + ascii, Key: fold(local) + "@" + ascii}
	if len(a.Mail) > maxAddress || len(a.Key) > maxAddress || len(a.Display) > 2*maxAddress {
		return Address{}, &AddressError{fmt.Sprintf("has more than %d bytes", maxAddress)}
	}
	return a, nil
}

func localPart(text string) (string, error) {
	local := norm.NFC.String(text)
	if local == "" || len(local) > maxLocal {
		return "", &AddressError{fmt.Sprintf("has %d bytes before the @, wanted 1 to %d", len(local), maxLocal)}
	}
	if local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", &AddressError{"has a dot where none can be"}
	}
	for i, r := range local {
		switch {
		case r < utf8.RuneSelf:
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~.", r) {
				return "", &AddressError{fmt.Sprintf("has the character %q before the @", r)}
			}
		case !unicode.In(r, unicode.L, unicode.N, unicode.M), i == 0 && unicode.Is(unicode.M, r):
			return "", &AddressError{fmt.Sprintf("has the character %q before the @", r)}
		}
	}
	return local, nil
}

func domainPart(text string) (ascii, shown string, err error) {
	wrong := &AddressError{"does not end with a domain such as example.com"}
	if text == "" || strings.HasSuffix(text, ".") || strings.ContainsAny(text, "[]:\\") {
		return "", "", wrong
	}
	if ascii, err = domains.ToASCII(text); err != nil || strings.HasSuffix(ascii, ".") {
		return "", "", wrong
	}
	ascii = strings.ToLower(ascii)
	dot := strings.LastIndexByte(ascii, '.')
	if dot < 1 || strings.Trim(ascii[dot+1:], "0123456789") == "" {
		return "", "", wrong
	}
	if shown, err = domains.ToUnicode(ascii); err != nil {
		return "", "", wrong
	}
	if again, err := domains.ToASCII(shown); err != nil || again != ascii {
		return "", "", wrong // a domain that cannot be typed as it is shown
	}
	return ascii, shown, nil
}

// fold writes a local part in lower case, but turns no letter into an ASCII one
// that was none: İ is not i, and addresses that differ in that are two.
func fold(local string) string {
	return norm.NFC.String(strings.Map(func(r rune) rune {
		lower := unicode.ToLower(r)
		if r >= utf8.RuneSelf && lower < utf8.RuneSelf {
			return r
		}
		return lower
	}, local))
}
