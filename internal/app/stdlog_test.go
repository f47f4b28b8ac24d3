package app

import (
	"log/slog"
	"strings"
	"testing"
)

func TestStandardLogQuotesNobody(t *testing.T) {
	var out strings.Builder
	w := standardLog{slog.New(slog.NewJSONHandler(&out, nil))}
	line := "Unsolicited response received on idle HTTP channel starting with \"{\\\"name\\\":\\\"Ada\\\"}\"; err=<nil>\n"
	if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := out.String(); !strings.Contains(got, "Unsolicited response") || strings.Contains(got, "Ada") {
		t.Error(got)
	}
}
