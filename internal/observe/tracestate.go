package observe

import "strings"

const (
	maxStateMembers = 32
	maxState        = 512 // bytes passed on
	longState       = 128 // members over this size are dropped first
)

// Tracestate joins and checks the values of a request's tracestate headers
// (https://www.w3.org/TR/trace-context/#tracestate-header). It returns what may
// be passed on: "" when the list breaks the grammar, has a key twice or more
// than 32 members; members are left out as the standard says (§3.3.1.5) when
// they exceed 512 bytes together.
func Tracestate(headers []string) string {
	var members []string
	keys := map[string]bool{}
	size := -1
	for _, h := range headers {
		if len(h) > 16<<10 {
			return ""
		}
		for member := range strings.SplitSeq(h, ",") {
			member = strings.Trim(member, " \t")
			if member == "" {
				continue
			}
			key, value, found := strings.Cut(member, "=")
			if !found || !stateKey(key) || !stateValue(value) || keys[key] || len(members) == maxStateMembers {
				return ""
			}
			keys[key] = true
			members = append(members, member)
			size += 1 + len(member)
		}
	}
	for i := len(members) - 1; i >= 0 && size > maxState; i-- {
		if len(members[i]) > longState {
			size -= 1 + len(members[i])
			members = append(members[:i], members[i+1:]...)
		}
	}
	for size > maxState {
		last := len(members) - 1
		size -= 1 + len(members[last])
		members = members[:last]
	}
	return strings.Join(members, ",")
}

// stateKey knows "simple-key" and "tenant@system" of Trace Context level 2.
func stateKey(key string) bool {
	tenant, system, multi := strings.Cut(key, "@")
	if !multi {
		return stateName(key, 256, true)
	}
	return stateName(tenant, 241, true) && stateName(system, 14, false)
}

func stateName(s string, max int, digitFirst bool) bool {
	if s == "" || len(s) > max {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
		case c >= '0' && c <= '9':
			if i == 0 && !digitFirst {
				return false
			}
		case i > 0 && strings.IndexByte("_-*/", c) >= 0:
		default:
			return false
		}
	}
	return true
}

func stateValue(s string) bool {
	if s == "" || len(s) > 256 || s[len(s)-1] == ' ' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return true
}
