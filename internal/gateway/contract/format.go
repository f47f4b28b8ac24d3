package contract

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"strings"
)

// formats are the formats of strings that are checked; others say nothing.
var formats = map[string]func(b []byte) bool{
	"date-time":     isDateTime,
	"date":          isDate,
	"time":          isTime,
	"uuid":          isUUID,
	"email":         isEmail,
	"uri":           isURI,
	"url":           isURI,
	"uri-reference": isURIReference,
	"hostname":      isHostname,
	"ipv4":          func(b []byte) bool { a, err := netip.ParseAddr(string(b)); return err == nil && a.Is4() },
	"ipv6": func(b []byte) bool {
		a, err := netip.ParseAddr(string(b))
		return err == nil && a.Is6() && a.Zone() == ""
	},
	"byte": isBase64,
}

func number(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}

// isDate is full-date of RFC 3339.
func isDate(b []byte) bool {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return false
	}
	year, ok1 := number(b[:4])
	month, ok2 := number(b[5:7])
	day, ok3 := number(b[8:])
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 {
		return false
	}
	days := [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days = 29
	}
	return day >= 1 && day <= days
}

// isTime is full-time of RFC 3339; a second 60 is a leap second at the end of a UTC day.
func isTime(b []byte) bool {
	if len(b) < 9 || b[2] != ':' || b[5] != ':' {
		return false
	}
	hour, ok1 := number(b[:2])
	minute, ok2 := number(b[3:5])
	second, ok3 := number(b[6:8])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 60 {
		return false
	}
	b = b[8:]
	if b[0] == '.' {
		i := 1
		for i < len(b) && b[i]-'0' <= 9 {
			i++
		}
		if i == 1 {
			return false
		}
		b = b[i:]
	}
	offset := 0
	switch {
	case len(b) == 1 && (b[0] == 'Z' || b[0] == 'z'):
	case len(b) == 6 && (b[0] == '+' || b[0] == '-') && b[3] == ':':
		h, ok1 := number(b[1:3])
		m, ok2 := number(b[4:])
		if !ok1 || !ok2 || h > 23 || m > 59 {
			return false
		}
		if offset = h*60 + m; b[0] == '-' {
			offset = -offset
		}
	default:
		return false
	}
	if second < 60 {
		return true
	}
	const day = 24 * 60
	return ((hour*60+minute-offset)%day+day)%day == day-1
}

// isDateTime is date-time of RFC 3339.
func isDateTime(b []byte) bool {
	return len(b) > 11 && (b[10] == 'T' || b[10] == 't') && isDate(b[:10]) && isTime(b[11:])
}

// isUUID is the text form of RFC 9562, of any version.
func isUUID(b []byte) bool {
	if len(b) != 36 {
		return false
	}
	for i, c := range b {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// isEmail is a practical address: something, @, a host name.
func isEmail(b []byte) bool {
	s := string(b)
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > 64 || len(s) > 254 || strings.ContainsAny(s, " \t\r\n<>") {
		return false
	}
	local := s[:at]
	if local[0] == '.' || local[at-1] == '.' || strings.Contains(local, "..") || strings.ContainsAny(local, `@,;:\"()[]`) {
		return false
	}
	return isHostname(b[at+1:])
}

// isHostname is RFC 1123: labels of letters, digits and -.
func isHostname(b []byte) bool {
	if len(b) == 0 || len(b) > 253 {
		return false
	}
	for label := range strings.SplitSeq(string(b), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

func isURI(b []byte) bool {
	u, ok := parseURI(b)
	return ok && u.IsAbs()
}

func isURIReference(b []byte) bool {
	_, ok := parseURI(b)
	return ok
}

func parseURI(b []byte) (*url.URL, bool) {
	for _, c := range b {
		if c <= ' ' || c >= 0x7F || strings.IndexByte("\\^`{|}<>\"", c) >= 0 {
			return nil, false
		}
	}
	u, err := url.Parse(string(b))
	return u, err == nil
}

func isBase64(b []byte) bool {
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		if _, err := enc.DecodeString(string(b)); err == nil {
			return true
		}
	}
	return false
}
