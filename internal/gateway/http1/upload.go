package http1

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

const (
	pieceSize = 32 << 10
	pieceRoom = 16 // before a piece, for the size of its chunk

	// probe is how long a request with a body of unknown length waits to see
	// whether there is any, so that an empty one is not sent as a chunked body.
	probe = 200 * time.Millisecond
)

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// upload is a body that is sent by a goroutine of its own, so that an answer
// that comes early is seen. A nil upload is one that is over.
type upload struct {
	x    *exchange
	r    *Request
	head []byte // sent before, or together with, the first piece

	decided  chan bool // whether the body is to be sent
	deciding sync.Once
}

// upload begins to send r, whose body is long, of unknown length, or to be sent
// only when the service asks for it.
func (x *exchange) upload(r *Request) (*upload, error) {
	x.sending = true
	u := &upload{x: x, r: r, decided: make(chan bool, 1)}
	expects := hasToken(r.Header["Expect"], "100-continue")
	switch {
	case expects:
		if err := u.writeHead(r.ContentLength); err != nil {
			return nil, err
		}
		timer := time.AfterFunc(x.c.host.t.config.Continue, u.proceed)
		go func() {
			defer timer.Stop()
			u.run(nil)
		}()
	case r.ContentLength < 0:
		return u.probe()
	default:
		head, err := r.appendHead(nil, r.ContentLength, x.once)
		if err != nil {
			return nil, err
		}
		u.head = head
		u.proceed()
		go u.run(nil)
	}
	return u, nil
}

// decide lets the body be sent, or not, unless that was decided before.
func (u *upload) decide(send bool) {
	if u != nil {
		u.deciding.Do(func() { u.decided <- send })
	}
}

func (u *upload) proceed() { u.decide(true) }
func (u *upload) refuse()  { u.decide(false) }

func (u *upload) writeHead(length int64) error {
	b, err := u.r.appendHead(u.x.buf.head[:0], length, u.x.once)
	if err != nil {
		return err
	}
	u.x.buf.head = b[:0]
	n, err := u.x.c.net.Write(b)
	switch {
	case err == nil:
		return nil
	case n == 0 && u.x.c.reused && length == 0:
		return errStale
	}
	return fmt.Errorf("http1: writing the request: %w", err)
}

// probe sends a body of unknown length, if there is one.
func (u *upload) probe() (*upload, error) {
	first := make(chan piece, 1)
	begun := make(chan piece, 1)
	go func() {
		p := readPiece(u.r.Body)
		first <- p
		u.run(begun)
	}()
	timer := time.NewTimer(probe)
	defer timer.Stop()
	length := int64(-1)
	select {
	case p := <-first:
		if p.n == 0 && errors.Is(p.err, io.EOF) && len(u.r.Trailer) == 0 {
			length = 0
		}
		begun <- p
	case <-timer.C:
		go func() { begun <- <-first }()
	}
	if err := u.writeHead(length); err != nil {
		u.refuse()
		return nil, err
	}
	if length == 0 {
		u.refuse()
		u.x.uploaded(nil)
		return nil, nil
	}
	u.proceed()
	return u, nil
}

// piece is a part of a body that was read.
type piece struct {
	buf *[pieceSize]byte
	n   int // bytes behind pieceRoom
	err error
}

func readPiece(body io.Reader) piece {
	p := piece{buf: pieces.Get().(*[pieceSize]byte)}
	p.n, p.err = body.Read(p.buf[pieceRoom : pieceSize-2])
	return p
}

// run sends the body once that is decided. begun has its first piece if that
// was read already.
func (u *upload) run(begun <-chan piece) {
	send := <-u.decided
	var p piece
	if begun != nil {
		p = <-begun
		defer pieces.Put(p.buf)
		if !send {
			return
		}
	} else {
		if !send { // the answer came first: the rest of the request never will
			u.x.last()
			u.x.uploaded(nil)
			return
		}
		p = piece{buf: pieces.Get().(*[pieceSize]byte)}
		defer pieces.Put(p.buf)
		p.n, p.err = u.r.Body.Read(p.buf[pieceRoom : pieceSize-2])
	}
	if u.r.ContentLength < 0 {
		u.x.uploaded(u.chunks(p))
	} else {
		u.x.uploaded(u.sized(p))
	}
}

// chunks sends a body of unknown length, beginning with p.
func (u *upload) chunks(p piece) error {
	b := p.buf[:]
	for n, err := p.n, p.err; ; n, err = u.r.Body.Read(b[pieceRoom : pieceSize-2]) {
		if n > 0 {
			var hex [pieceRoom]byte
			size := append(strconv.AppendInt(hex[:0], int64(n), 16), "\r\n"...)
			from := pieceRoom - len(size)
			copy(b[from:], size)
			end := pieceRoom + n + copy(b[pieceRoom+n:], "\r\n")
			if _, werr := u.x.c.net.Write(b[from:end]); werr != nil {
				return u.broken(werr)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			last, err := appendTrailers([]byte("0\r\n"), u.r.Trailer)
			if err != nil {
				return err
			}
			if _, werr := u.x.c.net.Write(last); werr != nil {
				return u.broken(werr)
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// sized sends a body of a known length, beginning with p. Its last bytes leave
// when it is sure that they are the last.
func (u *upload) sized(p piece) error {
	left := u.r.ContentLength
	b := append(u.head[:len(u.head):len(u.head)], p.buf[pieceRoom:pieceRoom+p.n]...) // the first write has both
	n, err := p.n, p.err
	for {
		left -= int64(n)
		for err == nil && left == 0 { // is that all?
			var more [1]byte
			if n, err = u.r.Body.Read(more[:]); n > 0 {
				left--
			}
		}
		switch {
		case left < 0:
			return errBodyTooLong
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case err != nil && left > 0:
			return errBodyTooShort
		}
		if _, werr := u.x.c.net.Write(b); werr != nil {
			return u.broken(werr)
		}
		if left == 0 {
			return nil
		}
		n, err = u.r.Body.Read(p.buf[:])
		b = p.buf[:n]
	}
}

// broken waits for what the service may have answered before it closed the
// connection: the one who reads finds out, and throws the connection away.
func (u *upload) broken(error) error {
	u.x.last()
	return nil
}
