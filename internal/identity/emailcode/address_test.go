package emailcode

import (
	"errors"
	"net/mail"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAddresses(t *testing.T) {
	for text, want := range map[string]Address{
		"ann@example.com":             {"ann@example.com", "ann@example.com", "ann@example.com"},
		"  Ann.Lee+x@Example.COM\t":   {"Ann.Lee+x@example.com", "Ann.Lee+x@example.com", "ann.lee+x@example.com"},
		"a.n.n@gmail.com":             {"a.n.n@gmail.com", "a.n.n@gmail.com", "a.n.n@gmail.com"},
		"o'brien/x@sub.example.co.uk": {"o'brien/x@sub.example.co.uk", "o'brien/x@sub.example.co.uk", "o'brien/x@sub.example.co.uk"},
		"ann@bücher.example":          {"ann@bücher.example", "ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"},
		"ann@XN--BCHER-KVA.example":   {"ann@bücher.example", "ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"},
		"ann@faß.de":                  {"ann@faß.de", "ann@xn--fa-hia.de", "ann@xn--fa-hia.de"},
		"Łukasz@example.com":          {"Łukasz@example.com", "Łukasz@example.com", "łukasz@example.com"},
		"zo\u0308e@example.com":       {"zöe@example.com", "zöe@example.com", "zöe@example.com"},
		"用户@例え.jp":                    {"用户@例え.jp", "用户@xn--r8jz45g.jp", "用户@xn--r8jz45g.jp"},
		"ann@ｅｘａｍｐｌｅ.com":             {"ann@example.com", "ann@example.com", "ann@example.com"},
		"\u212ate@example.com":        {"Kte@example.com", "Kte@example.com", "kte@example.com"}, // the Kelvin sign is a K to Unicode, and to us who send there
		"\u0130an@example.com":        {"\u0130an@example.com", "\u0130an@example.com", "\u0130an@example.com"},
		"\u017fam@example.com":        {"\u017fam@example.com", "\u017fam@example.com", "\u017fam@example.com"},
	} {
		if got, err := ParseAddress(text); err != nil || got != want {
			t.Errorf("%q: %+v %v, want %+v", text, got, err, want)
		}
	}
}

func TestTextsThatAreNoAddress(t *testing.T) {
	for _, text := range []string{"", "ann", "@example.com", "ann@", "ann@localhost", "ann@example.com.", "ann@.com", "ann@example..com", "ann@exa mple.com",
		".ann@example.com", "ann.@example.com", "a..b@example.com", `"a b"@example.com`, "a b@example.com", "a@b@example.com", "ann@[127.0.0.1]", "ann@127.0.0.1",
		"ann@example.com\r\nBcc: eve@example.net", "a\nb@example.com", "ann@-example.com", "ann@exam_ple.com", "Ann <ann@example.com>", "ann@example.com, eve@example.com",
		"a\u200bnn@example.com", "a\u202enn@example.com", "\u0301ann@example.com", "ann@exa\u200dmple.com", "ann\x00@example.com", "\xffann@example.com", "ann＠example.com",
		strings.Repeat("a", 65) + "@example.com", "ann@" + strings.Repeat("a", 64) + ".com", "ann@" + strings.Repeat("abcdefgh.", 30) + "com", "ann@xn--a.com", "😀@example.com"} {
		a, err := ParseAddress(text)
		var wrong *AddressError
		if err == nil || !errors.As(err, &wrong) {
			t.Errorf("%q is %+v, %v", text, a, err)
		}
	}
}

// checkAddress is what holds for every address that is accepted.
func checkAddress(t interface{ Fatalf(string, ...any) }, text string) {
	a, err := ParseAddress(text)
	if err != nil {
		return
	}
	for name, spelling := range map[string]string{"display": a.Display, "mail": a.Mail, "key": a.Key} {
		again, err := ParseAddress(spelling)
		if err != nil || again.Key != a.Key {
			t.Fatalf("%q: the %s form %q is another address: %+v %v", text, name, spelling, again, err)
		}
	}
	if again, _ := ParseAddress(a.Mail); again.Mail != a.Mail || again.Display != a.Display {
		t.Fatalf("%q: not stable: %+v %+v", text, a, again)
	}
	if parsed, err := mail.ParseAddress(a.Mail); err != nil || parsed.Address != a.Mail {
		t.Fatalf("%q: mail to %q cannot be sent: %v", text, a.Mail, err)
	}
	if len(a.Key) > maxAddress || strings.ContainsAny(a.Key, " \r\n\t<>,;\"") {
		t.Fatalf("%q: key %q", text, a.Key)
	}
}

func TestSpellingsOfAnAddressAreOneAddress(t *testing.T) {
	letters := []rune("abzAZ019.+-_ąŁßſıİKΣσς用Éé\u0301\u0307ǅﬁ")
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringOfN(rapid.RuneFrom(letters), 1, 20, -1).Draw(t, "local")
		domain := rapid.StringOfN(rapid.RuneFrom(letters), 1, 20, -1).Draw(t, "domain")
		checkAddress(t, local+"@"+domain+".com")
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{"ann@example.com", "Łukasz@bücher.example", "ann@XN--BCHER-KVA.example", "\u212ate@faß.de", "a\u0307@例え.jp", `"a"@b.c`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkAddress(t, text) })
}
