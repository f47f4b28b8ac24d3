package gateway

import (
	"net/http"
	"strings"
)

// compressStage compresses answers that are worth it, for clients that take it:
// text and JSON of at least minCompressed bytes that nobody has encoded yet.
// zstd goes before gzip where the client takes both alike.
//
// Left alone: event streams and other streams, images, video, archives and
// whatever else is no text; ranges and answers to requests for one; answers with
// no-transform, or with a digest over their bytes. An answer that is compressed
// has a weak ETag, because its bytes are others; If-Match with such an ETag is
// understood when it comes back. Every answer that could be compressed says
// Vary: Accept-Encoding.
//
// Answers to callers that are known have a random length within a few dozen
// bytes, so that an attacker who can put text into a page learns little about
// the secrets beside it from the compressed size (the BREACH attack).
func compressStage() Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if r.Header["If-Match"] != nil {
				r = strengthenIfMatch(r)
			}
			if r.Header["Upgrade"] != nil && r.ProtoMajor == 1 {
				return next(x, w, r)
			}
			cw := compressWriters.Get().(*compressWriter)
			cw.begin(x, w, r)
			finished := false
			defer func() {
				if !finished { // a panic: what there is of the answer is not whole
					cw.abandon()
				}
			}()
			err := next(x, cw, r)
			finished = true
			return cw.end(err)
		}
	}
}

// strengthenIfMatch takes the W/ off the ETags of If-Match: it was compression
// that put it there, and a weak ETag matches nothing (RFC 9110 §13.1.1).
func strengthenIfMatch(r *http.Request) *http.Request {
	weak := false
	values := make([]string, len(r.Header["If-Match"]))
	for i, v := range r.Header["If-Match"] {
		values[i] = v
		if strings.HasPrefix(v, `W/"`) || strings.Contains(v, `, W/"`) || strings.Contains(v, `,W/"`) {
			values[i], weak = strings.ReplaceAll(v, `W/"`, `"`), true
		}
	}
	if !weak {
		return r
	}
	again := *r
	again.Header = shallow(r.Header)
	again.Header["If-Match"] = values
	return &again
}

// Encodings of answers, as Content-Encoding names them.
const (
	encodingZstd = "zstd"
	encodingGzip = "gzip"
)

// acceptedEncoding chooses the encoding that a client likes best (RFC 9110
// §12.5.3); "" for none of ours.
func acceptedEncoding(values []string) string {
	zstdQ, gzipQ, anyQ := -1, -1, -1
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			name, parameters, _ := strings.Cut(item, ";")
			q := quality(parameters)
			switch name = strings.TrimSpace(name); {
			case strings.EqualFold(name, encodingZstd):
				zstdQ = q
			case strings.EqualFold(name, encodingGzip), strings.EqualFold(name, "x-gzip"):
				gzipQ = q
			case name == "*":
				anyQ = q
			}
		}
	}
	if gzipQ < 0 {
		gzipQ = anyQ // every client that says * knows gzip; of zstd one cannot be sure
	}
	switch {
	case zstdQ > 0 && zstdQ >= gzipQ:
		return encodingZstd
	case gzipQ > 0:
		return encodingGzip
	}
	return ""
}

// quality reads ";q=0.5" in thousandths; 1000 when there is none, 0 when it is malformed.
func quality(parameters string) int {
	_, value, found := strings.Cut(strings.ToLower(parameters), "q=")
	if !found {
		return 1000
	}
	value = strings.TrimSpace(value)
	q, digits := 0, 0
	for i, c := range []byte(value) {
		switch {
		case i == 1 && c == '.':
			continue
		case c < '0' || c > '9' || digits == 4:
			return 0
		}
		q, digits = q*10+int(c-'0'), digits+1
	}
	for ; digits > 0 && digits < 4; digits++ {
		q *= 10
	}
	return min(q, 1000)
}

// usualMedia is the media type of most answers.
const usualMedia = "application/json"

// mediaType is the media type that Content-Type names, in lower case and without parameters.
func mediaType(h http.Header) string {
	values := h["Content-Type"]
	switch {
	case len(values) == 0:
		return ""
	case values[0] == usualMedia:
		return usualMedia
	}
	media, _, _ := strings.Cut(values[0], ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// compressible reports whether a media type is text, in the wide sense.
func compressible(media string) bool {
	switch {
	case media == usualMedia:
		return true
	case media == "text/event-stream":
		return false
	case strings.HasPrefix(media, "text/"), strings.HasSuffix(media, "+json"), strings.HasSuffix(media, "+xml"), strings.HasSuffix(media, "+yaml"):
		return true
	}
	switch media {
	case "application/javascript", "application/xml", "application/yaml", "application/graphql", "application/wasm",
		"application/x-protobuf", "application/protobuf", "application/x-www-form-urlencoded", "application/vnd.apple.mpegurl", "application/rtf":
		return true
	}
	return false
}

// mayCompress judges an answer by its header; vary says that the answer to
// another client could have been compressed.
func mayCompress(status int, h http.Header, r *http.Request) (may, vary bool) {
	switch {
	case status < 200 || status == http.StatusNoContent || status == http.StatusNotModified || status == http.StatusPartialContent || status == http.StatusResetContent:
		return false, status == http.StatusNotModified && compressible(mediaType(h))
	case len(h["Content-Encoding"]) > 0, len(h["Content-Range"]) > 0, !compressible(mediaType(h)), isStream(h):
		return false, false
	case hasToken(h["Cache-Control"], "no-transform"), h["Content-Digest"] != nil, h["Digest"] != nil, h["Content-Md5"] != nil:
		return false, false
	case r.Method == http.MethodHead, len(r.Header["Range"]) > 0:
		return false, true
	case hasToken(h["Connection"], "close") && r.ContentLength != 0 && r.ProtoMajor == 1:
		return false, true // an answer before the end of the upload: it must end by its length
	}
	return true, true
}
