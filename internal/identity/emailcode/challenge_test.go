package emailcode

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/config"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// keys are as the key ring of the server.
type keys struct{ version int }

func (k keys) MAC(data []byte) (int, []byte, error) {
	h := hmac.New(sha256.New, fmt.Appendf(nil, "key %d", k.version))
	h.Write(data)
	return k.version, h.Sum(nil), nil
}

func (k keys) VerifyMAC(version int, data, mac []byte) bool {
	_, want, _ := keys{version}.MAC(data)
	return version <= k.version && hmac.Equal(want, mac)
}

func request(installation string) Request {
	a, _ := ParseAddress("ann@example.com")
	return Request{Purpose: "sign_in", Address: a, Installation: installation}
}

func issue(t testing.TB, q Request) (Challenge, string) {
	t.Helper()
	c, code, err := NewRules(DefaultConfig()).New(keys{1}, q, Strangers{}, start)
	if err != nil {
		t.Fatal(err)
	}
	return c, code
}

// wrong is a code of the same length that is not code.
func wrong(code string) string {
	return string('0'+(code[0]-'0'+1)%10) + code[1:]
}

func TestCodeIsAcceptedOnceAsPeopleTypeIt(t *testing.T) {
	for name, spell := range map[string]func(string) string{
		"plain": func(s string) string { return s }, "spaced": func(s string) string { return " " + s[:3] + " " + s[3:] + "\n" }, "dashed": func(s string) string { return s[:3] + "-" + s[3:] },
		"arabic": func(s string) string { return strings.Map(func(r rune) rune { return r - '0' + '\u0660' }, s) },
		"wide":   func(s string) string { return strings.Map(func(r rune) rune { return r - '0' + '\uff10' }, s) },
	} {
		c, code := issue(t, request("ins_1"))
		if len(code) != 6 || strings.Trim(code, "0123456789") != "" {
			t.Fatalf("code %q", code)
		}
		c, out := c.Verify(keys{2}, "ins_1", spell(code), start.Add(time.Minute)) // the key was changed meanwhile
		if !out.OK() || c.State != Used || c.Left() != 0 {
			t.Errorf("%s: %s %+v", name, out, c)
		}
		if _, out := c.Verify(keys{2}, "ins_1", code, start.Add(time.Minute)); out != Spent {
			t.Errorf("%s: a second time: %s", name, out)
		}
	}
}

func TestWhatIsStoredTellsNeitherCodeNorAddress(t *testing.T) {
	c, code := issue(t, request("ins_1"))
	text, err := json.Marshal(c)
	if err != nil || strings.Contains(string(text), code) || strings.Contains(string(text), "ann") {
		t.Fatalf("%s %v", text, err)
	}
	var back Challenge
	if err := json.Unmarshal(text, &back); err != nil || back.Address != "" {
		t.Errorf("%+v %v", back, err)
	}
	if back.Address = c.Address; !reflect.DeepEqual(back, c) {
		t.Errorf("%+v", back)
	}
	for name, change := range map[string]func(*Challenge){ // a row that was moved or edited is worth nothing
		"purpose": func(c *Challenge) { c.Purpose = "delete" }, "address": func(c *Challenge) { c.Address = "eve@example.com" },
		"installation": func(c *Challenge) { c.Installation = "ins_2" }, "id": func(c *Challenge) { c.ID = "other" }, "mac": func(c *Challenge) { c.MAC[0] ^= 1 },
	} {
		moved := c
		moved.MAC = slices.Clone(c.MAC)
		change(&moved)
		if _, out := moved.Verify(keys{1}, moved.Installation, code, start); out != Wrong {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func TestDecoyBehavesAsACode(t *testing.T) {
	q := request("ins_1")
	q.Decoy = true
	decoy, code := issue(t, q)
	real, realCode := issue(t, request("ins_1"))
	if decoy.Digits != real.Digits || decoy.Left() != real.Left() || len(decoy.MAC) != len(real.MAC) {
		t.Errorf("%+v, %+v", decoy, real)
	}
	if _, out := decoy.Verify(keys{1}, "ins_1", code, start); out != Wrong {
		t.Errorf("its own code: %s", out)
	}
	for range 7 {
		var a, b Outcome
		decoy, a = decoy.Verify(keys{1}, "ins_1", wrong(code), start)
		real, b = real.Verify(keys{1}, "ins_1", wrong(realCode), start)
		if a != b || decoy.Left() != real.Left() || decoy.State != real.State {
			t.Errorf("%s and %s", a, b)
		}
	}
	if real.State != Dead || decoy.State != Dead || real.Wrong != 5 {
		t.Errorf("after seven wrong guesses: %+v", real)
	}
}

// A code against a model: random guesses from two installations over time.
func TestCodeKeepsItsRules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, code := issue(t, request("ins_1"))
		now, guesses, spent := start, 0, false
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 240).Draw(rt, "seconds")) * time.Second)
			from := rapid.SampledFrom([]string{"ins_1", "ins_1", "ins_2", ""}).Draw(rt, "from")
			input := rapid.SampledFrom([]string{code, wrong(code), wrong(wrong(code)), "", "12345", "abcdef", code + "0", strings.Repeat("1", 100)}).Draw(rt, "input")
			want := Wrong
			switch {
			case from != "ins_1":
				want = Foreign
			case input != code && (len(input) != 6 || input == "abcdef"):
				want = Malformed
			case spent || guesses == 5:
				want = Spent
			case now.Sub(start) >= 10*time.Minute:
				want = TooLate
			case input == code:
				want, spent = Accepted, true
			default:
				guesses++
			}
			var got Outcome
			before := c
			if c, got = c.Verify(keys{1}, from, input, now); got != want {
				rt.Fatalf("%q from %q after %s: %s, want %s", input, from, now.Sub(start), got, want)
			}
			if (got == Foreign || got == Malformed || got == TooLate || got == Spent) && !reflect.DeepEqual(before, c) {
				rt.Fatalf("%s changed the code", got)
			}
			if left := c.Left(); spent && left != 0 || !spent && left != 5-guesses {
				rt.Fatalf("%d guesses left", left)
			}
		}
	})
}

func TestSlotsAreApart(t *testing.T) {
	c, _ := issue(t, request("ins_1"))
	if c.Slot() != Slot("sign_in", "ann@example.com", "ins_1") {
		t.Error("not its own slot")
	}
	seen := map[string]bool{}
	for _, s := range []string{Slot("a", "b", "c"), Slot("ab", "", "c"), Slot("a", "bc", ""), Slot("", "ab", "c"), Slot("a", "b", "d")} {
		if seen[s] {
			t.Error("two uses share a slot")
		}
		seen[s] = true
	}
}

type noKeys struct{}

var errNoKeys = errors.New("no key")

func (noKeys) MAC([]byte) (int, []byte, error)    { return 0, nil, errNoKeys }
func (noKeys) VerifyMAC(int, []byte, []byte) bool { return false }

func TestFailureOfTheKeysIsTold(t *testing.T) {
	if _, code, err := NewRules(DefaultConfig()).New(noKeys{}, request("ins_1"), Strangers{}, start); !errors.Is(err, errNoKeys) || code != "" {
		t.Errorf("%q %v", code, err)
	}
}

func FuzzVerify(f *testing.F) {
	c, code := issue(f, request("ins_1"))
	f.Add(code)
	f.Add("123 456")
	f.Add("\u0661\u0662\u0663-\uff11\uff12\uff13")
	f.Fuzz(func(t *testing.T, input string) {
		after, out := c.Verify(keys{1}, "ins_1", input, start)
		clean, _ := cleanCode(input)
		if out.OK() != (clean == code) || out == Wrong && after.Wrong != 1 || out == Malformed && after.Wrong != 0 {
			t.Errorf("%q: %s", input, out)
		}
	})
}

func TestConfiguration(t *testing.T) {
	for yaml, fault := range map[string]string{
		"{}": "", "{digits: 8, attempts: 3, lifetime: 5m}": "", "{digits: 4}": "6 to 8", "{attempts: 100}": "3 to 10", "{lifetime: 2h}": "30m",
		"{resend: 1s}": "10s", "{sends: 0}": "3 to 100", "{wrong: 1000}": "5 to 200", "{stranger_sends: 1}": "4 to 200",
	} {
		cfg := DefaultConfig()
		err := config.LoadBytes("landline.yaml", []byte("email_code: "+yaml), []config.Section{{Key: "email_code", Ptr: &cfg, Doc: "…"}}, config.SystemEnv())
		if fault == "" && err != nil || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%s: %v, want a fault about %q", yaml, err, fault)
		}
	}
}
