package egress

import (
	"fmt"
	"io"
)

// limitedBody fails with ErrTooLarge at the first byte beyond its limit.
type limitedBody struct {
	body io.ReadCloser
	left int64 // bytes still allowed; -1 = exceeded
	max  int64
	host string
}

// limitBody keeps the Writer of a body that has one (a connection after 101 Switching Protocols).
func limitBody(body io.ReadCloser, max int64, host string) io.ReadCloser {
	b := &limitedBody{body: body, left: max, max: max, host: host}
	if w, ok := body.(io.Writer); ok {
		return struct {
			*limitedBody
			io.Writer
		}{b, w}
	}
	return b
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, b.tooLarge()
	}
	if int64(len(p))-1 > b.left { // not left+1, which may overflow
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		b.left = -1
		return n, b.tooLarge()
	}
	b.left -= int64(n)
	return n, err
}

func (b *limitedBody) Close() error { return b.body.Close() }

func (b *limitedBody) tooLarge() error {
	return fmt.Errorf("%w: %s sent more than %d bytes", ErrTooLarge, b.host, b.max)
}
