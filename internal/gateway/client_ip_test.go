package gateway

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"landline/internal/observe"
)

// shown is what both ways of writing a line have of an address.
func shown(t *testing.T, c *ClientIPLog, address string) string {
	t.Helper()
	var out bytes.Buffer
	lines := observe.LinesOf(observe.NewLogger(&out, slog.LevelInfo, false))
	fast := accessLine{line: lines.Begin(time.Now(), slog.LevelWarn, "request")}
	fast.address("client_ip", c, address)
	fast.line.End()
	var line struct {
		IP string `json:"client_ip"`
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%s: %v", out.Bytes(), err)
	}
	slow, text := accessLine{}, ""
	slow.address("client_ip", c, address)
	if len(slow.attrs) > 0 {
		text = slow.attrs[0].Value.String()
	}
	if text != line.IP {
		t.Errorf("%q is %q one way and %q the other", address, line.IP, text)
	}
	return text
}

func TestWhatTheAccessLogKeepsOfAddresses(t *testing.T) {
	for address, want := range map[string][2]string{ // truncated, full
		"203.0.113.77":           {"203.0.113.0", "203.0.113.77"},
		"2001:db8:1:2:3:4:5:6":   {"2001:db8:1::", "2001:db8:1:2:3:4:5:6"},
		"::ffff:203.0.113.77":    {"203.0.113.0", "::ffff:203.0.113.77"},
		"fe80::1%eth0":           {"fe80::", "fe80::1%eth0"},
		"@":                      {"", "@"}, // a Unix socket's peer
		"":                       {"", ""},
		"203.0.113.77, 10.0.0.1": {"", "203.0.113.77, 10.0.0.1"},
	} {
		var log ClientIPLog
		for _, c := range []*ClientIPLog{nil, &log} {
			if got := shown(t, c, address); got != want[0] {
				t.Errorf("by default %q is kept as %q, want %q", address, got, want[0])
			}
		}
		for mode, want := range map[ClientIPMode]string{ClientIPTruncated: want[0], ClientIPFull: want[1], ClientIPNone: ""} {
			log.Set(mode)
			if got := shown(t, &log, address); got != want {
				t.Errorf("%s: %q is kept as %q, want %q", mode, address, got, want)
			}
		}
	}
}

func TestHeaderExceeds(t *testing.T) {
	h := map[string][]string{"A": {"12345", "6"}, "Long-Name": {strings.Repeat("x", 100)}}
	size := 1 + 5 + 4 + 1 + 1 + 4 + 9 + 100 + 4
	if headerExceeds(h, size) || !headerExceeds(h, size-1) || !headerExceeds(h, 0) {
		t.Error("the size is not counted")
	}
}
