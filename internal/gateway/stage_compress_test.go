package gateway

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"landline/internal/config"
	"landline/internal/module"
)

// decoded is a body without its Content-Encoding.
func decoded(t testing.TB, encoding, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	switch encoding {
	case "gzip":
		gz, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = gz
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("decode %s: %v", encoding, err)
	}
	return string(plain)
}

// document is JSON of about n bytes that compresses the way answers of services do.
func document(n int) string {
	var b strings.Builder
	b.WriteString(`{"data":[`)
	for i := 0; b.Len() < n; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"flt_%08x","number":"LO%d","status":"on_time","gate":"%c%d"}`, i*2654435761, 100+i, 'A'+i%6, i%40)
	}
	b.WriteString(`]}`)
	return b.String()
}

func TestCompression(t *testing.T) {
	long := document(20_000)
	type answer struct {
		status int
		header map[string]string
		body   string
		flush  bool
	}
	for name, c := range map[string]struct {
		answer   answer
		accept   string
		request  []string
		encoding string // of what comes
		vary     bool
		header   map[string]string // "" = absent
	}{
		"zstd goes first":            {answer{}, "gzip, zstd", nil, "zstd", true, map[string]string{"Content-Length": ""}},
		"gzip":                       {answer{}, "gzip, deflate, br", nil, "gzip", true, nil},
		"as the client weighs it":    {answer{}, "zstd;q=0.5, gzip;q=0.8", nil, "gzip", true, nil},
		"refused":                    {answer{}, "gzip;q=0, zstd;q=0.000", nil, "", true, map[string]string{"Content-Length": fmt.Sprint(len(long))}},
		"any":                        {answer{}, "*", nil, "gzip", true, nil},
		"none":                       {answer{}, "", nil, "", true, nil},
		"of unknown length":          {answer{flush: true}, "zstd", nil, "zstd", true, nil},
		"a short answer":             {answer{body: `{"a":1}`}, "zstd", nil, "", false, map[string]string{"Content-Length": "7"}},
		"an error":                   {answer{status: 404}, "gzip", nil, "gzip", true, nil},
		"an image":                   {answer{header: map[string]string{"Content-Type": "image/png", "Etag": `"v1"`}}, "gzip", nil, "", false, map[string]string{"Etag": `"v1"`}},
		"a drawing is text":          {answer{header: map[string]string{"Content-Type": "image/svg+xml"}}, "gzip", nil, "gzip", true, nil},
		"a video":                    {answer{header: map[string]string{"Content-Type": "video/mp4"}}, "gzip", nil, "", false, nil},
		"lines":                      {answer{header: map[string]string{"Content-Type": "application/x-ndjson"}, flush: true}, "gzip", nil, "", false, nil},
		"encoded already":            {answer{header: map[string]string{"Content-Encoding": "br"}}, "gzip", nil, "br", false, nil},
		"no-transform":               {answer{header: map[string]string{"Cache-Control": "max-age=5, no-transform"}}, "gzip", nil, "", false, nil},
		"a digest over the bytes":    {answer{header: map[string]string{"Content-Digest": "sha-256=:x:"}}, "gzip", nil, "", false, nil},
		"a range":                    {answer{status: 206, header: map[string]string{"Content-Range": "bytes 0-19999/30000"}}, "gzip", nil, "", false, nil},
		"a range that was not taken": {answer{}, "gzip", []string{"Range", "bytes=0-5"}, "", true, nil},
		"a strong ETag becomes weak": {answer{header: map[string]string{"Etag": `"v1"`, "Accept-Ranges": "bytes"}}, "gzip", nil, "gzip", true, map[string]string{"Etag": `W/"v1"`, "Accept-Ranges": ""}},
		"a weak one stays":           {answer{header: map[string]string{"Etag": `W/"v1"`}}, "gzip", nil, "gzip", true, map[string]string{"Etag": `W/"v1"`}},
		"Vary is added to":           {answer{header: map[string]string{"Vary": "Accept-Language"}}, "gzip", nil, "gzip", true, map[string]string{"Vary": "Accept-Language, Accept-Encoding"}},
		"not twice":                  {answer{header: map[string]string{"Vary": "accept-encoding"}}, "gzip", nil, "gzip", true, map[string]string{"Vary": "accept-encoding"}},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.answer.body
			if want == "" {
				want = long
			}
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for name, value := range c.answer.header {
					w.Header().Set(name, value)
				}
				if !c.answer.flush {
					w.Header().Set("Content-Length", fmt.Sprint(len(want)))
				}
				if c.answer.status != 0 {
					w.WriteHeader(c.answer.status)
				}
				io.WriteString(w, want[:len(want)/2])
				if c.answer.flush {
					http.NewResponseController(w).Flush()
				}
				io.WriteString(w, want[len(want)/2:])
			})
			h := proxy(t, url)
			req := h.request(http.MethodGet, "/x", nil, c.request...)
			if c.accept != "" {
				req.Header.Set("Accept-Encoding", c.accept)
			}
			res, body := h.do(req)
			if got := res.Header.Get("Content-Encoding"); got != c.encoding {
				t.Fatalf("encoding %q, want %q", got, c.encoding)
			}
			if got := decoded(t, c.encoding, body); got != want {
				t.Errorf("the body is another: %d bytes, want %d", len(got), len(want))
			}
			if got := hasToken(res.Header["Vary"], "Accept-Encoding"); got != c.vary {
				t.Errorf("Vary: %v", res.Header["Vary"])
			}
			for name, want := range c.header {
				if got := strings.Join(res.Header[name], ", "); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestCompressionOffAndConditionals(t *testing.T) {
	body := document(5000)
	var ifMatch, ifNoneMatch string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		ifMatch, ifNoneMatch = r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	})
	h := proxy(t, url)
	res, _ := h.get("/x", "Accept-Encoding", "gzip")
	if res.Header.Get("Etag") != `W/"v1"` {
		t.Fatalf("ETag %s", res.Header.Get("Etag"))
	}
	if res, _ = h.get("/x", "Accept-Encoding", "gzip", "If-None-Match", `W/"v1"`); res.StatusCode != 304 || ifNoneMatch != `W/"v1"` {
		t.Errorf("If-None-Match with the weak ETag: %d", res.StatusCode)
	}
	if res, _ = h.get("/x", "Accept-Encoding", "gzip", "If-Match", `"other", W/"v1"`); res.StatusCode != 200 || ifMatch != `"other", "v1"` {
		t.Errorf("If-Match with the weak ETag: %d, the service got %s", res.StatusCode, ifMatch)
	}
	if res, got := h.get("/x", "Accept-Encoding", "gzip", "Range", "bytes=10-19"); res.StatusCode != 206 || got != body[10:20] {
		t.Errorf("a range: %d %q", res.StatusCode, got)
	}
	res, _ = h.do(h.request(http.MethodHead, "/x", nil, "Accept-Encoding", "gzip"))
	if res.StatusCode != 200 || res.Header.Get("Content-Encoding") != "" || res.ContentLength != int64(len(body)) {
		t.Errorf("HEAD: %d %v", res.StatusCode, res.Header)
	}
	off := proxy(t, url, func(s *Settings) { s.Features["all"].Compression = compressionOff })
	if res, got := off.get("/x", "Accept-Encoding", "gzip", "If-Match", `W/"v1"`); res.Header.Get("Content-Encoding") != "" || len(res.Header["Vary"]) > 0 || got == body || ifMatch != `W/"v1"` {
		t.Errorf("off: %d %v, the service got If-Match %s", res.StatusCode, res.Header, ifMatch)
	}
}

func TestCompressedPiecesArriveWhenTheyAreFlushed(t *testing.T) {
	for _, encoding := range []string{"gzip", "zstd"} {
		t.Run(encoding, func(t *testing.T) {
			go1 := make(chan struct{})
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, `{"first":1,`)
				http.NewResponseController(w).Flush()
				<-go1
				io.WriteString(w, `"second":2}`)
			})
			h := proxy(t, url)
			res, err := h.client.Do(h.request(http.MethodGet, "/x", nil, "Accept-Encoding", encoding))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var r io.Reader
			if encoding == "gzip" {
				if r, err = gzip.NewReader(res.Body); err != nil {
					t.Fatal(err)
				}
			} else {
				z, err := zstd.NewReader(res.Body, zstd.WithDecoderConcurrency(1))
				if err != nil {
					t.Fatal(err)
				}
				defer z.Close()
				r = z
			}
			first := make([]byte, 11)
			if _, err := io.ReadFull(r, first); err != nil || string(first) != `{"first":1,` {
				t.Fatalf("%q %v", first, err)
			}
			close(go1)
			rest, err := io.ReadAll(r)
			if err != nil || string(rest) != `"second":2}` {
				t.Errorf("%q %v", rest, err)
			}
		})
	}
}

func TestAnAnswerCutShortStaysCutShortWhenCompressed(t *testing.T) {
	for name, sent := range map[string]int{"a long one": 30_000, "one below the least size": 100} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "50000")
				io.WriteString(w, document(60_000)[:sent])
			})
			h := proxy(t, url)
			res, err := h.client.Do(h.request(http.MethodGet, "/x", nil, "Accept-Encoding", "zstd"))
			if err != nil {
				return // also plain enough
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err == nil && res.StatusCode != http.StatusBadGateway {
				t.Error("half an answer passes for a whole one")
			}
		})
	}
}

func TestJitterForKnownCallers(t *testing.T) {
	bodies := []string{}
	for i := range 40 {
		bodies = append(bodies, document(3000)+fmt.Sprint(i%10, strings.Repeat("y", i/10)))
	}
	n := 0
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, bodies[n%len(bodies)])
	})
	h := proxy(t, url, func(s *Settings) { s.Features["all"].Auth = module.AuthNone })
	for _, encoding := range []string{"gzip", "zstd"} {
		spread := func(header ...string) int {
			sizes := map[int]bool{}
			for n = range bodies {
				res, body := h.get("/x", append(header, "Accept-Encoding", encoding)...)
				if got := decoded(t, res.Header.Get("Content-Encoding"), body); got != bodies[n] {
					t.Fatalf("%s: the body is another", encoding)
				}
				sizes[len(body)] = true
			}
			return len(sizes)
		}
		n = 0
		_, one := h.get("/x", "Authorization", "Bearer good", "Accept-Encoding", encoding)
		_, two := h.get("/x", "Authorization", "Bearer good", "Accept-Encoding", encoding)
		if len(one) != len(two) {
			t.Errorf("%s: the same answer has another size when it is asked again: averages tell", encoding)
		}
		if plain, known := spread(), spread("Authorization", "Bearer good"); known < 15 || known <= plain {
			t.Errorf("%s: %d sizes without a token, %d with", encoding, plain, known)
		}
	}
}

func TestQualities(t *testing.T) {
	for text, want := range map[string]string{
		"zstd;q=1.0": "zstd", "gzip;q=0.001": "gzip", "gzip; Q=0.5 , zstd; q=0.5": "zstd", "identity": "", "br": "", "gzip;q=nonsense": "", "gzip;q=1.0001": "",
		"*;q=0": "", "gzip;q=0, *": "", "*, zstd": "zstd", ",,": "", "zstd;q=0.3,*;q=0.4": "gzip",
	} {
		if got := acceptedEncoding([]string{text}); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// encodedBody encodes for a request.
func encodedBody(t testing.TB, encoding string, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if encoding == "zstd" {
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecompression(t *testing.T) {
	var got []byte
	var header http.Header
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		got, header = body, r.Header.Clone()
		w.WriteHeader(http.StatusNoContent)
	})
	h := proxy(t, url, func(s *Settings) {
		s.Features["all"].Decompress, s.Features["all"].MaxBody = true, config.Bytes(8<<20)
	})
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(rand.IntN(64)) + ' '
	}
	text := []byte(document(200_000))
	zeros := make([]byte, 64<<20)
	truncated := encodedBody(t, "gzip", text)
	for name, c := range map[string]struct {
		encoding string
		body     []byte
		status   int
		code     string
		want     []byte
	}{
		"gzip":                     {"gzip", encodedBody(t, "gzip", text), 204, "", text},
		"zstd":                     {"zstd", encodedBody(t, "zstd", text), 204, "", text},
		"upper case":               {"GZIP", encodedBody(t, "gzip", noise), 204, "", noise},
		"plain":                    {"", text, 204, "", text},
		"identity":                 {"identity", text, 204, "", text},
		"two members":              {"gzip", append(encodedBody(t, "gzip", []byte("a")), encodedBody(t, "gzip", []byte("b"))...), 204, "", []byte("ab")},
		"a bomb of gzip":           {"gzip", encodedBody(t, "gzip", zeros), 413, "body_too_large", nil},
		"a bomb of zstd":           {"zstd", encodedBody(t, "zstd", zeros), 413, "body_too_large", nil},
		"a bomb below max_body":    {"zstd", encodedBody(t, "zstd", zeros[:6<<20]), 413, "body_too_large", nil},
		"more than max_body":       {"gzip", encodedBody(t, "gzip", bytes.Repeat(noise, 40)), 413, "body_too_large", nil},
		"cut short":                {"gzip", truncated[:len(truncated)/2], 400, "invalid_request", nil},
		"not gzip at all":          {"gzip", text, 400, "invalid_request", nil},
		"not zstd at all":          {"zstd", text, 400, "invalid_request", nil},
		"another encoding":         {"br", text, 415, "media_type_unsupported", nil},
		"two encodings":            {"gzip, gzip", text, 415, "media_type_unsupported", nil},
		"encoded, but without any": {"gzip", nil, 204, "", []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			got = nil
			req := h.request(http.MethodPost, "/x", bytes.NewReader(c.body), "Content-Type", "application/json")
			if c.encoding != "" {
				req.Header.Set("Content-Encoding", c.encoding)
			}
			res, body := h.do(req)
			if res.StatusCode != c.status || c.code != "" && !strings.Contains(body, c.code) {
				t.Fatalf("%d %s, want %d %s", res.StatusCode, body, c.status, c.code)
			}
			if c.status == 415 && res.Header.Get("Accept-Encoding") != "zstd, gzip" {
				t.Errorf("Accept-Encoding %q (RFC 7694)", res.Header.Get("Accept-Encoding"))
			}
			if c.status == 204 && !bytes.Equal(got, c.want) {
				t.Errorf("the service got %d bytes, want %d", len(got), len(c.want))
			}
			if enc := header.Get("Content-Encoding"); c.status == 204 && c.body != nil && enc != "" && enc != "identity" {
				t.Errorf("the service is told %s", enc)
			}
		})
	}
}

func TestBodiesPassEncodedWithoutDecompress(t *testing.T) {
	body := encodedBody(t, "gzip", []byte(document(2000)))
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, body) || r.Header.Get("Content-Encoding") != "gzip" || r.ContentLength != int64(len(body)) {
			t.Errorf("%d bytes, %v, %v", len(got), err, r.Header)
		}
	})
	h := proxy(t, url)
	if res, _ := h.do(h.request(http.MethodPost, "/x", bytes.NewReader(body), "Content-Encoding", "gzip")); res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func BenchmarkCompress(b *testing.B) {
	for _, encoding := range []string{"zstd", "gzip", ""} {
		for _, size := range []int{2_000, 30_000} {
			body := []byte(document(size))
			b.Run(fmt.Sprintf("%s/%d", encoding, size), func(b *testing.B) {
				handler := compressStage()(func(_ *Exchange, w http.ResponseWriter, _ *http.Request) error {
					w.Header()["Content-Type"] = []string{"application/json"}
					_, err := w.Write(body)
					return err
				})
				r, err := http.NewRequest(http.MethodGet, "/", nil)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Accept-Encoding", encoding)
				var sink countingSink
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					sink = countingSink{h: http.Header{}}
					if err := handler(&Exchange{}, &sink, r); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(body))/float64(sink.n), "ratio")
			})
		}
	}
}

type countingSink struct {
	h http.Header
	n int
}

func (s *countingSink) Header() http.Header         { return s.h }
func (s *countingSink) WriteHeader(int)             {}
func (s *countingSink) Write(p []byte) (int, error) { s.n += len(p); return len(p), nil }
