package identity

import (
	"strings"

	"landline/internal/module"
)

// methodFederated stands before the methods that a sign-in provider names.
const methodFederated = "fed"

// acrOf is the class that the methods of a session (RFC 8176) amount to, "" for
// an installation whose user has proven nothing but the installation. A
// provider's methods are of the sign-in there and say nothing of phishing: its
// swk may be a question that was pushed to a phone. They never amount to more than basic.
func acrOf(methods string) string {
	acr := ""
	federated := false
	for m := range strings.FieldsSeq(methods) {
		federated = federated || m == methodFederated
	}
	for m := range strings.FieldsSeq(methods) {
		switch m {
		case "hwk", "swk", "phr", "passkey":
			if !federated {
				return module.ACRPhr
			}
			acr = module.ACRBasic
		case methodKey, methodSecret:
		default:
			acr = module.ACRBasic
		}
	}
	return acr
}
