package differential

import (
	"fmt"
	"strings"
)

// written are the cases that a generator would seldom hit.
func written() []*testCase {
	plain := answer{Pieces: []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}}
	get := func(name, target string, fields ...field) *testCase {
		return &testCase{Name: name, Method: "GET", Target: target, Fields: fields, Framing: "none", Answer: plain}
	}
	says := func(name string, pieces ...string) *testCase {
		c := get(name, "/v1/written")
		c.Answer = answer{Pieces: pieces}
		return c
	}
	method := func(name, m string) *testCase {
		c := get(name, "/v1/written")
		c.Method = m
		return c
	}
	large := strings.Repeat("0123456789abcdef", 5<<16) // 5 MiB
	var many []field
	for i := range 90 {
		many = append(many, field{fmt.Sprintf("X-Many-%d", i), strings.Repeat("v", i)})
	}
	early := &testCase{Name: "refused before its body", Method: "POST", Target: "/v1/written", Framing: "length", Body: "never sent", Expect: true,
		Fields: []field{{"Connection", "close"}},
		Answer: answer{Pieces: []string{"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"}, Early: true}, Note: "early"}
	return []*testCase{
		method("a method in lower case", "patch"),
		method("a method with a dot", "X.Y"),
		method("TRACE", "TRACE"),
		get("the root", "/"),
		get("only slashes", "///"),
		get("an empty query", "/v1?"),
		get("a query of question marks", "/v1???"),
		get("absolute form", "http://api.example.test/v1/absolute?x=%2F"),
		get("a fragment", "/v1/a#b"),
		get("a path that is escaped and not", "/v1/%2F%2f/ż%2F|%2f"),
		get("a backslash", "/v1/a\\b"),
		get("a long query", "/v1?q="+strings.Repeat("%20x", 1500)),
		get("many fields", "/v1/written", many...),
		get("twenty cookies", "/v1/written", field{"Cookie", strings.Repeat("k=v; ", 500) + "last=1"}),
		{Name: "a large upload", Method: "PUT", Target: "/v1/written", Framing: "length", Body: large, Answer: plain},
		{Name: "a large chunked upload", Method: "PUT", Target: "/v1/written", Framing: "chunked", Body: large, Answer: plain},
		{Name: "a DELETE with a body", Method: "DELETE", Target: "/v1/written", Framing: "length", Body: "{}", Answer: plain},
		{Name: "a GET with a body", Method: "GET", Target: "/v1/written", Framing: "length", Body: "{}", Answer: plain},
		early,
		says("a large download", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(large)), large),
		says("a large chunked download", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked(large, nil, 70001, "")),
		says("chunk sizes with zeros and capitals", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "000A\r\n0123456789\r\n00\r\n\r\n"),
		says("a coding in capitals", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", "2\r\nok\r\n0\r\n\r\n"),
		says("HTTP/1.0 with a length", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
		says("HTTP/1.0 that stays open", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
		says("no reason and no space", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
		says("HTML without a type", "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"),
		says("an empty type", "HTTP/1.1 200 OK\r\nContent-Type:\r\nContent-Length: 2\r\n\r\nok"),
		says("thirty cookies", "HTTP/1.1 200 OK\r\n"+strings.Repeat("Set-Cookie: a=1\r\n", 30)+"Content-Length: 0\r\n\r\n"),
		says("an answer in two pieces", "HTTP/1.1 200 OK\r\nContent-Le", "ngth: 2\r\n\r\no", "k"),
	}
}
