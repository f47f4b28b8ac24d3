package identity

import "strings"

// Authentication context classes, from the weakest. phr is of OpenID Connect
// Extended Authentication Profile ACR Values 1.0: resistant to phishing.
const (
	acrBasic = "1"
	acrPhr   = "phr"
)

var supportedACR = []string{acrPhr, acrBasic}

// acrOf is the class that the methods of a session (RFC 8176) amount to, "" for
// an installation whose user has proven nothing but the installation.
func acrOf(methods string) string {
	acr := ""
	for _, m := range strings.Fields(methods) {
		switch m {
		case "hwk", "swk", "phr", "passkey":
			return acrPhr
		case methodKey, methodSecret:
		default:
			acr = acrBasic
		}
	}
	return acr
}

// acrMeets reports whether have is one of the wanted classes or stronger than one.
func acrMeets(have string, wanted []string) bool {
	for _, w := range wanted {
		if w == have || have == acrPhr && w == acrBasic {
			return true
		}
	}
	return len(wanted) == 0
}
