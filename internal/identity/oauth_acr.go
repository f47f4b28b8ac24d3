package identity

import (
	"strings"

	"landline/internal/module"
)

// acrOf is the class that the methods of a session (RFC 8176) amount to, "" for
// an installation whose user has proven nothing but the installation.
func acrOf(methods string) string {
	acr := ""
	for _, m := range strings.Fields(methods) {
		switch m {
		case "hwk", "swk", "phr", "passkey":
			return module.ACRPhr
		case methodKey, methodSecret:
		default:
			acr = module.ACRBasic
		}
	}
	return acr
}
