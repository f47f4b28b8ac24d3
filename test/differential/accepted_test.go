package differential

import (
	"slices"
	"strings"
)

// difference is one fact that is not the same on both sides.
type difference struct {
	c               *testCase
	key             string
	nginx, landline string
	theirs, ours    facts
}

func (d *difference) is(keys ...string) bool { return slices.Contains(keys, d.key) }

// refused reports whether landline answered with a problem of its own.
func (d *difference) refused(status string) bool {
	return d.ours["client.status"] == status && d.ours["upstream.requests"] == "0" && d.ours["client.field.content-type"] == "application/problem+json"
}

// refusedByNginx reports whether only nginx refused the request.
func (d *difference) refusedByNginx() bool {
	return d.theirs["client.status"] == "400" && d.theirs["upstream.requests"] == "0" && d.ours["upstream.requests"] == "1"
}

// repeats reports whether the request has one of the fields more than once.
func (d *difference) repeats(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return len(values(d.c.Fields, name)) > 1 })
}

// acceptedDifference is a difference that is meant. Its reason stands under its
// name in docs/reference/gateway/differences.md.
type acceptedDifference struct {
	name   string
	covers func(d *difference) bool
}

// accepted is the name of the rule that covers d, "" if there is none.
func (d *difference) accepted() string {
	for _, rule := range acceptedDifferences {
		if rule.covers(d) {
			return rule.name
		}
	}
	return ""
}

// The first rule that covers a difference counts. Rules that cover whole
// exchanges come first.
var acceptedDifferences = []acceptedDifference{
	{"Paths with dot segments are refused", func(d *difference) bool { return d.refused("400") && hasDotSegment(d.c.Target) }},
	{"nginx takes an informational answer for the final one", func(d *difference) bool {
		return strings.Contains(d.c.Note, "after 103") && strings.HasPrefix(d.key, "client.")
	}},
	{"nginx refuses unusual methods", func(d *difference) bool {
		return d.refusedByNginx() && strings.Trim(d.c.Method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != ""
	}},
	{"nginx refuses repeated fields", func(d *difference) bool {
		return d.refusedByNginx() && d.repeats("If-Match", "If-None-Match", "If-Modified-Since", "If-Range", "Range")
	}},
	{"Errors are problems", func(d *difference) bool {
		return d.theirs["client.status"] == d.ours["client.status"] && d.refused(d.ours["client.status"]) && d.theirs["upstream.requests"] == "0"
	}},
	{"Paths are passed on in one form", func(d *difference) bool {
		return d.is("upstream.start") && d.landline == inOneForm(d.nginx)
	}},
	{"Landline says who asked", func(d *difference) bool {
		return d.is("upstream.field.x-forwarded-for", "upstream.field.x-forwarded-proto", "upstream.field.x-forwarded-host", "upstream.field.forwarded") && d.landline != ""
	}},
	{"Claims about the network are removed", func(d *difference) bool {
		return d.is("upstream.field.x-real-ip") && d.landline == ""
	}},
	{"Landline-* is ours", func(d *difference) bool {
		return d.is("upstream.field.landline-identity", "client.field.landline-degraded") && d.landline == ""
	}},
	{"Fields with an underscore end here", func(d *difference) bool {
		return d.is("upstream.field.x_under_score") && d.landline == ""
	}},
	{"Requests belong to a trace", func(d *difference) bool {
		switch d.key {
		case "upstream.field.traceparent", "client.field.landline-trace-id":
			return d.landline != "" && !strings.Contains(d.landline, "\n")
		case "upstream.field.tracestate":
			return d.landline == "" && len(values(d.c.Fields, "Traceparent")) != 1
		}
		return false
	}},
	{"Answers have Server-Timing", func(d *difference) bool {
		return d.is("client.field.server-timing") && strings.HasPrefix(d.landline, strings.TrimLeft(d.nginx+"\n", "\n")) && strings.Contains(d.landline, "traceparent;desc=")
	}},
	{"Answers have a Date", func(d *difference) bool { return d.is("client.field.date") && d.nginx == "" }},
	{"The reason phrase is the standard one", func(d *difference) bool { return d.is("client.reason") }},
	{"Connection concerns one connection", func(d *difference) bool {
		return d.is("client.field.connection") && (d.landline == "" || d.nginx == "keep-alive" && slices.Contains(values(d.c.Fields, "Connection"), "close"))
	}},
	{"A chunked request is the last on its connection", func(d *difference) bool {
		return d.is("client.field.connection") && d.c.Framing == "chunked" && d.landline == "close"
	}},
	{"Fields that Connection names end here", func(d *difference) bool {
		return d.is("upstream.field.x-drop", "client.field.x-private", "upstream.field.http2-settings") && d.landline == ""
	}},
	{"Hop-by-hop fields end here", func(d *difference) bool {
		return d.is("upstream.field.proxy-authorization", "upstream.field.proxy-connection", "upstream.field.trailer", "client.field.upgrade",
			"client.field.proxy-authenticate", "client.field.keep-alive") && d.landline == ""
	}},
	{"Trailers are passed on", func(d *difference) bool {
		return d.nginx == "" && d.is("upstream.trailer.x-checksum", "client.trailer.x-sum", "upstream.field.te", "client.field.trailer", "upstream.field.trailer")
	}},
	{"Expect is passed on", func(d *difference) bool {
		return d.c.Expect && (d.is("upstream.field.expect") && d.nginx == "" || d.is("client.interim") && d.landline == "" && d.c.Answer.Early)
	}},
	{"A write without a body says so", func(d *difference) bool {
		return d.c.Framing == "none" && (d.is("upstream.framing") && d.nginx == "none" && d.landline == "length" || d.is("upstream.field.content-length") && d.landline == "0")
	}},
	{"An empty body of a GET is not announced", func(d *difference) bool {
		return d.c.Framing != "none" && d.c.Body == "" && d.is("upstream.framing", "upstream.field.content-length") && d.ours["upstream.framing"] == "none"
	}},
	{"Pragma also says Cache-Control", func(d *difference) bool {
		return d.is("upstream.field.cache-control") && d.nginx == "" && d.landline == "no-cache" && len(values(d.c.Fields, "Pragma")) > 0
	}},
	{"A second User-Agent is dropped", func(d *difference) bool {
		return d.is("upstream.field.user-agent") && d.repeats("User-Agent") && strings.HasPrefix(d.nginx, d.landline+"\n")
	}},
	{"304 describes no body", func(d *difference) bool {
		return d.is("client.field.content-length", "client.field.content-type") && d.ours["client.status"] == "304" && d.landline == ""
	}},
	{"An empty Content-Type stays", func(d *difference) bool {
		_, there := d.ours[d.key]
		return d.is("client.field.content-type") && there && d.landline == "" && d.c.Name == "an empty type"
	}},
	{"A chunked request stays chunked", func(d *difference) bool {
		return d.c.Framing == "chunked" && d.is("upstream.framing", "upstream.field.content-length", "upstream.field.transfer-encoding") && d.ours["upstream.framing"] == "chunked"
	}},
	{"A short answer gets its length", func(d *difference) bool {
		return d.is("client.framing", "client.field.content-length", "client.field.transfer-encoding") &&
			d.theirs["client.framing"] == "chunked" && d.ours["client.framing"] == "length" && d.theirs["client.body"] == d.ours["client.body"]
	}},
}

func hasDotSegment(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	for segment := range strings.SplitSeq(strings.ReplaceAll(path, "\\", "/"), "/") {
		if plain := strings.ReplaceAll(strings.ToLower(segment), "%2e", "."); plain == "." || plain == ".." {
			return true
		}
	}
	return false
}

// inOneForm is what a request line's path becomes by RFC 3986 §6.2.2, written
// apart from the gateway's own code: escapes decoded where the character needs
// none, upper case digits, and what a path must not hold escaped.
func inOneForm(start string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
	const hex = "0123456789ABCDEF"
	method, rest, _ := strings.Cut(start, " ")
	target, version, _ := strings.Cut(rest, " ")
	path, query, asked := strings.Cut(target, "?")
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c, escaped := path[i], false
		if c == '%' && i+2 < len(path) {
			digits := strings.ToUpper(path[i+1 : i+3])
			c, escaped = byte(strings.IndexByte(hex, digits[0])<<4|strings.IndexByte(hex, digits[1])), true
			i += 2
		}
		if strings.IndexByte(plain, c) >= 0 || !escaped && strings.IndexByte("/:@!$&'()*+,;=[]", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	if asked {
		b.WriteString("?" + query)
	}
	return method + " " + b.String() + " " + version
}
