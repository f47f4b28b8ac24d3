package config_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"landline/internal/config"
)

// FuzzLoad holds LoadBytes to its promises on any bytes: it ends, it does not
// panic, its faults have positions inside the file, its messages are one line,
// and what it accepts prints and loads again.
func FuzzLoad(f *testing.F) {
	for _, c := range faultCases {
		f.Add([]byte(c.file))
	}
	f.Add([]byte("shop: &a\n  name: x\n  <<: [*b, {c: d}]\n  body: |+\n    x\n\n  tags: >-\n    y\n"))
	f.Add([]byte("'a\n\n b': \"\\u00e9\\\n  x\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return // TestBounds has the large ones
		}
		s := newShop()
		err := load(s, string(data))
		if err == nil {
			accepted(t, s, data)
			return
		}
		var faults config.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("not Faults: %v", err)
		}
		rows := bytes.Count(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\n")) + bytes.Count(data, []byte("\r")) + 1
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > rows || fault.Col < 1 || fault.Col > len(data)+1 {
				t.Errorf("position %d:%d outside of %d lines", fault.Line, fault.Col, rows)
			}
			if fault.Message == "" || strings.ContainsAny(fault.String(), "\n\r") || !utf8.ValidString(fault.String()) {
				t.Errorf("bad text %q", fault.String())
			}
			if strings.Contains(fault.String(), testVars["SECRET"]) {
				t.Errorf("a value from outside shows in %q", fault.String())
			}
		}
		if s.Count != 3 || s.Night != nil || s.Token != "" {
			t.Error("values changed though there are faults")
		}
	})
}

func accepted(t *testing.T, s *shop, data []byte) {
	s.Token, s.Secrets = "", nil
	if s.Name == "" {
		return // no shop section, or one without keys
	}
	text := written(t, config.Print, sections(s))
	again := newShop()
	if err := load(again, text); err != nil {
		t.Fatalf("%q printed does not load: %v\n%s", data, err, text)
	}
	if diff := sameShop(s, again); diff != "" {
		t.Fatalf("%q printed loads as something else: %s\n%s", data, diff, text)
	}
}
