package dpop

import (
	"errors"
	"testing"
)

func TestCheckBinding(t *testing.T) {
	proof, none := &Proof{Thumbprint: "key-1"}, (*Proof)(nil)
	for _, c := range []struct {
		scheme, jkt string
		proof       *Proof
		want        Code
	}{
		{"Bearer", "", none, ""},
		{"bearer", "", proof, ""},
		{"DPoP", "key-1", proof, ""},
		{"dpop", "key-1", proof, ""},
		{"Bearer", "key-1", none, InvalidToken},
		{"Bearer", "key-1", proof, InvalidToken},
		{"DPoP", "", proof, InvalidToken},
		{"DPoP", "key-2", proof, InvalidToken},
		{"DPoP", "key-", proof, InvalidToken},
		{"DPoP", "key-1", none, InvalidProof},
		{"Basic", "", none, InvalidToken},
		{"", "key-1", proof, InvalidToken},
	} {
		err := CheckBinding(c.scheme, c.jkt, c.proof)
		if codeOf(err) != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestCheckGrant(t *testing.T) {
	proof := &Proof{Thumbprint: "key-1"}
	if err := errors.Join(CheckGrant("", nil), CheckGrant("", proof), CheckGrant("key-1", proof)); err != nil {
		t.Error(err)
	}
	if err := CheckGrant("key-1", nil); codeOf(err) != InvalidProof {
		t.Error(err)
	}
	err := CheckGrant("key-2", proof)
	if code, _, ok := TokenError(err); !ok || code != "invalid_grant" {
		t.Errorf("%v is answered %s", err, code)
	}
}

func TestChallenges(t *testing.T) {
	for want, err := range map[string]error{
		`DPoP algs="ES256 EdDSA"`: nil,
		`DPoP error="use_dpop_nonce", error_description="it has no nonce", algs="ES256 EdDSA"`:             &Error{Code: UseNonce, Detail: "it has no nonce"},
		`DPoP error="invalid_token", error_description="bound to another key", algs="ES256 EdDSA"`:         &Error{Code: InvalidToken, Detail: "bound to another key"},
		`DPoP error="invalid_dpop_proof", error_description="a quote and a line", algs="ES256 EdDSA"`:      &Error{Code: InvalidProof, Detail: "a \"quote\\ and\n a line"},
		`DPoP error="invalid_dpop_proof", error_description="its typ is not dpop+jwt", algs="ES256 EdDSA"`: errors.Join(invalid("its typ is not dpop+jwt")),
	} {
		if got := Challenge(err, "", "ES256 EdDSA"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got := Challenge(nil, `Fli"ghts`, "ES256"); got != `DPoP realm="Flights", algs="ES256"` {
		t.Error(got)
	}
	if code, _, ok := TokenError(&Error{Code: UseNonce}); !ok || code != "use_dpop_nonce" {
		t.Error(code, ok)
	}
	if _, _, ok := TokenError(errors.New("x")); ok {
		t.Error("any error is told to the client")
	}
}
