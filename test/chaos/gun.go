package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// gun is a generator of open load: requests begin when they are due, whatever
// became of those before, and their latency counts from that instant. It costs
// as little as it can, since it shares the machine with what it shoots at.
type gun struct {
	address string // host:port
	kinds   []*ammunition
	barrels int // connections at most

	offering time.Duration // that the last fire took to offer all
}

// ammunition is one kind of request and what became of it.
type ammunition struct {
	name   string
	weight float64                                    // of all requests
	cost   time.Duration                              // of the node's processor, for one alone
	next   func() (request []byte, who *caller)       // nil request: none to be had
	done   func(who *caller, status int, body []byte) // may be nil

	good, shed, failed atomic.Int64
	late               atomic.Int64 // without an answer in time, of the node or of the service behind it
	unexplained        atomic.Int64 // refused without a problem that says when to come again
	lastShed           atomic.Int64 // Unix nanoseconds
	latencies          times        // of good answers
	refusals           times        // the same of refusals
	example            atomic.Value // of what failed
}

func (a *ammunition) reset() {
	a.good.Store(0)
	a.shed.Store(0)
	a.failed.Store(0)
	a.late.Store(0)
	a.unexplained.Store(0)
	a.lastShed.Store(0)
	a.latencies.reset()
	a.refusals.reset()
}

// shot is one request, due at an instant.
type shot struct {
	of  *ammunition
	due time.Time
}

const shotPatience = 10 * time.Second

// fire offers rate requests a second for a while, at random instants, and waits
// for the answers. It returns how many it offered.
func (g *gun) fire(ctx context.Context, rate float64, length time.Duration) (offered int) {
	queue := make(chan shot, int(rate*length.Seconds())+g.barrels)
	var all sync.WaitGroup
	for range g.barrels {
		all.Go(func() { g.barrel(ctx, queue) })
	}
	rng := rand.New(rand.NewPCG(1, uint64(rate)))
	began := time.Now()
	due := began
	end := due.Add(length)
	for due.Before(end) && ctx.Err() == nil {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(max(wait, time.Millisecond))
		}
		for now := time.Now(); due.Before(now) && due.Before(end); {
			queue <- shot{g.choose(rng.Float64()), due}
			offered++
			due = due.Add(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
		}
	}
	g.offering = time.Since(began)
	close(queue)
	all.Wait()
	return offered
}

// press keeps n connections busy with one request after the other.
func (g *gun) press(ctx context.Context, n int, length time.Duration) {
	var all sync.WaitGroup
	end := time.Now().Add(length)
	for i := range n {
		all.Go(func() {
			b := barrel{address: g.address}
			defer b.close()
			rng := rand.New(rand.NewPCG(2, uint64(i)))
			for time.Now().Before(end) && ctx.Err() == nil {
				b.shoot(shot{g.choose(rng.Float64()), time.Now()})
			}
		})
	}
	all.Wait()
}

// choose is the kind at x of 1.
func (g *gun) choose(x float64) *ammunition {
	sum := 0.0
	for _, k := range g.kinds {
		sum += k.weight
	}
	x *= sum
	for _, k := range g.kinds {
		if x -= k.weight; x < 0 {
			return k
		}
	}
	return g.kinds[len(g.kinds)-1]
}

func (g *gun) barrel(ctx context.Context, queue <-chan shot) {
	b := barrel{address: g.address}
	defer b.close()
	for s := range queue {
		if ctx.Err() == nil {
			b.shoot(s)
		}
	}
}

// barrel is one connection.
type barrel struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	body    bytes.Buffer
}

func (b *barrel) close() {
	if b.conn != nil {
		_ = b.conn.Close()
		b.conn = nil
	}
}

func (b *barrel) shoot(s shot) {
	request, who := s.of.next()
	if request == nil {
		s.of.failed.Add(1)
		s.of.example.CompareAndSwap(nil, "none was to be had")
		return
	}
	status, explained, err := b.exchange(request, s.due.Add(shotPatience))
	took := time.Since(s.due)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.close()
		s.of.late.Add(1)
	case err != nil:
		b.close()
		s.of.failed.Add(1)
		s.of.example.CompareAndSwap(nil, err.Error())
	case status/100 == 2:
		s.of.good.Add(1)
		s.of.latencies.add(took)
	case status == 503 || status == 429:
		s.of.shed.Add(1)
		s.of.lastShed.Store(time.Now().UnixNano())
		s.of.refusals.add(took)
		if !explained {
			s.of.unexplained.Add(1)
		}
	case status == 502 || status == 504:
		s.of.late.Add(1)
	default:
		s.of.failed.Add(1)
		s.of.example.CompareAndSwap(nil, fmt.Sprintf("%d %.300s", status, b.body.String()))
	}
	if s.of.done != nil {
		s.of.done(who, status, b.body.Bytes())
	}
}

// exchange sends a request and reads the answer into b.body.
func (b *barrel) exchange(request []byte, until time.Time) (status int, explained bool, err error) {
	b.body.Reset()
	if b.conn == nil {
		if b.conn, err = (&net.Dialer{Deadline: until}).Dial("tcp", b.address); err != nil {
			return 0, false, err
		}
		if b.in == nil {
			b.in = bufio.NewReaderSize(b.conn, 8<<10)
		} else {
			b.in.Reset(b.conn)
		}
	}
	if err := b.conn.SetDeadline(until); err != nil {
		return 0, false, err
	}
	if _, err := b.conn.Write(request); err != nil {
		return 0, false, err
	}
	h, err := b.header()
	if err != nil {
		return 0, false, err
	}
	if h.chunked {
		err = b.chunks()
	} else {
		_, err = io.CopyN(&b.body, b.in, h.length)
	}
	if err == nil && h.close {
		b.close()
	}
	return h.status, h.problem && h.retry > 0, err
}

type answerHead struct {
	status, retry           int
	length                  int64
	chunked, close, problem bool
}

// header reads what the generator needs of an answer's header.
func (b *barrel) header() (h answerHead, err error) {
	line, err := b.in.ReadSlice('\n')
	if err != nil {
		return h, err
	}
	if len(line) < 12 {
		return h, fmt.Errorf("status line %q", line)
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return h, err
	}
	for {
		if line, err = b.in.ReadSlice('\n'); err != nil {
			return h, err
		}
		name, value, ok := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		if !ok {
			return h, nil
		}
		switch string(name) {
		case "Content-Length":
			h.length, err = strconv.ParseInt(string(value), 10, 64)
		case "Transfer-Encoding":
			h.chunked = true
		case "Connection":
			h.close = string(value) == "close"
		case "Content-Type":
			h.problem = string(value) == "application/problem+json"
		case "Retry-After":
			h.retry, err = strconv.Atoi(string(value))
		}
		if err != nil {
			return h, err
		}
	}
}

func (b *barrel) chunks() error {
	for {
		line, err := b.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil {
			return err
		}
		if n > 0 {
			if _, err := io.CopyN(&b.body, b.in, n); err != nil {
				return err
			}
		}
		if line, err = b.in.ReadSlice('\n'); err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) != 0 {
			return errors.New("a chunk without an end")
		}
		if n == 0 {
			return nil
		}
	}
}
