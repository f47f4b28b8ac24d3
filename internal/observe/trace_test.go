package observe

import (
	"context"
	"strings"
	"testing"
)

const (
	tid = "4bf92f3577b34da6a3ce929d0e0e4736"
	sid = "00f067aa0ba902b7"
)

func TestParseTraceparent(t *testing.T) {
	for _, c := range []struct {
		in          string
		sampled, ok bool
	}{
		{"00-" + tid + "-" + sid + "-01", true, true},
		{"00-" + tid + "-" + sid + "-00", false, true},
		{"00-" + tid + "-" + sid + "-03", true, true}, // further flags are ignored
		{"00-" + tid + "-" + sid + "-fe", false, true},
		{"01-" + tid + "-" + sid + "-01", true, true},
		{"cc-" + tid + "-" + sid + "-01-what-the-future-brings", true, true},
		{"cc-" + tid + "-" + sid + "-01-", true, true},
		{"cc-" + tid + "-" + sid + "-01.what", false, false},
		{"cc-" + tid + "-" + sid + "-011", false, false},
		{"00-" + tid + "-" + sid + "-01-", false, false},
		{"00-" + tid + "-" + sid + "-01 ", false, false},
		{" 00-" + tid + "-" + sid + "-01", false, false},
		{"ff-" + tid + "-" + sid + "-01", false, false},
		{"FF-" + tid + "-" + sid + "-01", false, false},
		{"0g-" + tid + "-" + sid + "-01", false, false},
		{"00-" + strings.ToUpper(tid) + "-" + sid + "-01", false, false},
		{"00-" + tid + "-" + strings.ToUpper(sid) + "-01", false, false},
		{"00-" + strings.Repeat("0", 32) + "-" + sid + "-01", false, false},
		{"00-" + tid + "-" + strings.Repeat("0", 16) + "-01", false, false},
		{"00-" + tid + "-" + sid + "-0", false, false},
		{"00-" + tid + "-" + sid + "-0x", false, false},
		{"00-" + tid + "-" + sid + "-0A", false, false},
		{"00-" + tid + "-" + sid, false, false},
		{"00_" + tid + "-" + sid + "-01", false, false},
		{"00-" + tid + "_" + sid + "-01", false, false},
		{"00-" + tid + "-" + sid + "_01", false, false},
		{"00-" + tid[:31] + "-" + sid + "-01", false, false},
		{"00-" + tid[:31] + "." + "-" + sid + "-01", false, false},
		{"", false, false},
		{"-", false, false},
	} {
		traceID, spanID, sampled, ok := ParseTraceparent(c.in)
		wantTrace, wantSpan := "", ""
		if c.ok {
			wantTrace, wantSpan = tid, sid
		}
		if ok != c.ok || sampled != c.sampled || traceID != wantTrace || spanID != wantSpan {
			t.Errorf("ParseTraceparent(%q) = %q, %q, %v, %v", c.in, traceID, spanID, sampled, ok)
		}
	}
}

func TestParseSentryTrace(t *testing.T) {
	for _, c := range []struct {
		in          string
		sampled, ok bool
	}{
		{tid + "-" + sid + "-1", true, true},
		{tid + "-" + sid + "-0", false, true},
		{tid + "-" + sid, false, true},
		{" \t" + tid + "-" + sid + "-1 ", true, true},
		{tid + "-" + sid + "-2", false, false},
		{tid + "-" + sid + "-", false, false},
		{tid + "-" + sid + "-11", false, false},
		{tid + "-" + sid + "_1", false, false},
		{tid + "_" + sid + "-1", false, false},
		{tid, false, false},
		{strings.ToUpper(tid) + "-" + sid, false, false},
		{strings.Repeat("0", 32) + "-" + sid, false, false},
		{tid + "-" + strings.Repeat("0", 16), false, false},
		{"", false, false},
	} {
		traceID, spanID, sampled, ok := ParseSentryTrace(c.in)
		if ok != c.ok || sampled != c.sampled || ok && (traceID != tid || spanID != sid) || !ok && traceID+spanID != "" {
			t.Errorf("ParseSentryTrace(%q) = %q, %q, %v, %v", c.in, traceID, spanID, sampled, ok)
		}
	}
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add("00-" + tid + "-" + sid + "-01")
	f.Add("cc-" + tid + "-" + sid + "-01-x")
	f.Add("ff-" + tid + "-" + sid + "-01")
	f.Fuzz(func(t *testing.T, s string) {
		traceID, spanID, sampled, ok := ParseTraceparent(s)
		checkParsed(t, traceID, spanID, sampled, ok)
		if ok && strings.HasPrefix(s, "00") && s[:53] != Traceparent(traceID, spanID, sampled)[:53] {
			t.Errorf("%q was read as %s, %s", s, traceID, spanID)
		}
	})
}

func FuzzParseSentryTrace(f *testing.F) {
	f.Add(tid + "-" + sid + "-1")
	f.Add(" " + tid + "-" + sid + "\t")
	f.Fuzz(func(t *testing.T, s string) {
		traceID, spanID, sampled, ok := ParseSentryTrace(s)
		checkParsed(t, traceID, spanID, sampled, ok)
	})
}

// checkParsed says what is true of every answer: it is nothing, or it makes a
// header that is read back the same.
func checkParsed(t *testing.T, traceID, spanID string, sampled, ok bool) {
	t.Helper()
	if !ok {
		if traceID != "" || spanID != "" || sampled {
			t.Errorf("refused, but gave %q, %q, %v", traceID, spanID, sampled)
		}
		return
	}
	a, b, c, again := ParseTraceparent(Traceparent(traceID, spanID, sampled))
	if !again || a != traceID || b != spanID || c != sampled {
		t.Errorf("%q, %q, %v does not survive being written and read", traceID, spanID, sampled)
	}
}

func TestNewIDsAreValidAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		tr, sp := NewTraceID(), NewSpanID()
		if a, b, sampled, ok := ParseTraceparent(Traceparent(tr, sp, true)); !ok || a != tr || b != sp || !sampled {
			t.Fatalf("%s, %s do not make a traceparent", tr, sp)
		}
		if seen[tr] || seen[sp] {
			t.Fatal("an id was made twice")
		}
		seen[tr], seen[sp] = true, true
	}
}

func TestTraceOnContext(t *testing.T) {
	if TraceID(context.Background()) != "" {
		t.Error("a bare context has a trace id")
	}
	ctx := WithTrace(context.Background(), tid, sid)
	if a, b, sampled := TraceOf(ctx); a != tid || b != sid || sampled || TraceID(ctx) != tid {
		t.Errorf("got %s, %s, %v", a, b, sampled)
	}
	if _, _, sampled := TraceOf(WithSampledTrace(ctx, tid, sid, true)); !sampled {
		t.Error("the sampled flag is lost")
	}
}

func TestTracestate(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	var many []string
	for i := range 33 {
		many = append(many, "k"+strings.Repeat("a", i)+"=1")
	}
	for _, c := range []struct {
		name string
		in   []string
		want string
	}{
		{"nothing", nil, ""},
		{"one", []string{"rojo=00f067aa0ba902b7"}, "rojo=00f067aa0ba902b7"},
		{"several lines are one list", []string{"a=1", "b=2"}, "a=1,b=2"},
		{"space and empty members", []string{" a=1 ,, \tb=2,"}, "a=1,b=2"},
		{"tenant", []string{"fw529a3039@dt=FfAAAAAAAA,1a-_*/=v"}, "fw529a3039@dt=FfAAAAAAAA,1a-_*/=v"},
		{"space inside a value", []string{"a=x y"}, "a=x y"},
		{"uppercase key", []string{"A=1"}, ""},
		{"no value", []string{"a"}, ""},
		{"empty value", []string{"a="}, ""},
		{"empty key", []string{"=1"}, ""},
		{"equals in value", []string{"a=1=2"}, ""},
		{"control character", []string{"a=\x01"}, ""},
		{"not ASCII", []string{"a=ż"}, ""},
		{"same key twice", []string{"a=1", "a=2"}, ""},
		{"one bad spoils all", []string{"a=1,B=2"}, ""},
		{"long key", []string{"k" + long(255) + "=1"}, "k" + long(255) + "=1"},
		{"too long a key", []string{"k" + long(256) + "=1"}, ""},
		{"too long a value", []string{"a=" + long(257)}, ""},
		{"long tenant", []string{"t" + long(240) + "@s" + long(13) + "=1"}, "t" + long(240) + "@s" + long(13) + "=1"},
		{"too long a system", []string{"t@s" + long(14) + "=1"}, ""},
		{"digit system", []string{"t@1=1"}, ""},
		{"32 members", []string{strings.Join(many[:20], ",")}, strings.Join(many[:20], ",")},
		{"33 members", many, ""},
		{"over 512 bytes the longest go first", []string{"a=" + long(200) + ",b=" + long(200) + ",c=" + long(60) + ",d=" + long(60)}, "a=" + long(200) + ",c=" + long(60) + ",d=" + long(60)},
		{"then those at the end", []string{"a=" + long(120) + ",b=" + long(120) + ",c=" + long(120) + ",d=" + long(120) + ",e=" + long(120)}, "a=" + long(120) + ",b=" + long(120) + ",c=" + long(120) + ",d=" + long(120)},
	} {
		if got := Tracestate(c.in); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzTracestate(f *testing.F) {
	f.Add("a=1,b=2", "c=3")
	f.Fuzz(func(t *testing.T, a, b string) {
		got := Tracestate([]string{a, b})
		if len(got) > 512 || strings.ContainsAny(got, "\r\n\x00") {
			t.Errorf("unsafe to send: %q", got)
		}
		if got != "" && Tracestate([]string{got}) != got {
			t.Errorf("%q is not stable", got)
		}
	})
}
