package bench

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// The generator takes its CPU time from the processors that it shares with what
// it measures, and a goroutine for each connection costs as much again as the
// system calls. One loop asks poll(2) which answers have come, reads each and
// sends the next request at once.

// patience is how long an answer may take after the last request.
const patience = 30 * time.Second

// connection is one to the measured process, with at most one request under way.
type connection struct {
	fd     int // negative when it has ended
	sent   int // requests
	began  time.Time
	answer answer
}

// sender is the loop and what it knows.
type sender struct {
	*Client
	most  int
	until time.Time
	conns []connection
	open  int           // of them
	poll  []unix.PollFd // by connection
	ready []int         // connections that have something to read
	out   []byte
	times []time.Duration
}

func (c *Client) send(connections, most int, until time.Time) (times []time.Duration, err error) {
	s := &sender{Client: c, most: most, until: until, out: make([]byte, 0, 8<<10)}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.connect(connections); err != nil {
		return nil, err
	}
	for i := range s.conns {
		if err := s.next(i, time.Now()); err != nil {
			return nil, err
		}
	}
	for s.open > 0 {
		if err := s.wait(); err != nil {
			return s.times, err
		}
		for _, i := range s.ready {
			if err := s.read(i); err != nil {
				return s.times, err
			}
		}
	}
	return s.times, nil
}

func (s *sender) connect(connections int) error {
	for range connections {
		fd, err := dial(s.Address)
		if err != nil {
			return err
		}
		s.conns = append(s.conns, connection{fd: fd})
		s.poll = append(s.poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		s.open++
	}
	return nil
}

// wait finds the connections that have something to read.
func (s *sender) wait() error {
	s.ready = s.ready[:0]
	n, err := unix.Poll(s.poll, int(max(time.Until(s.until)+patience, time.Millisecond).Milliseconds()))
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("poll: %w", err)
	case n == 0:
		return errors.New("an answer does not come")
	}
	for i, p := range s.poll {
		if p.Fd >= 0 && p.Revents != 0 {
			s.ready = append(s.ready, i)
		}
	}
	return nil
}

// next sends the connection's next request, or closes it when there is none any more.
func (s *sender) next(i int, now time.Time) error {
	c := &s.conns[i]
	if s.most > 0 && c.sent == s.most || !now.Before(s.until) {
		return s.end(i)
	}
	s.out = s.Request(s.out[:0], i, c.sent)
	c.sent++
	c.began = now
	for rest := s.out; len(rest) > 0; {
		n, err := unix.Write(c.fd, rest)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("send: %w", err)
		}
		rest = rest[max(n, 0):]
	}
	return nil
}

// read takes what has come of an answer, and sends the next request when that is all of it.
func (s *sender) read(i int) error {
	c := &s.conns[i]
	n, err := unix.Read(c.fd, c.answer.room())
	if errors.Is(err, unix.EINTR) {
		return nil // it is still ready
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	whole, err := s.took(&c.answer, n, i)
	if err != nil || !whole {
		return err
	}
	now := time.Now()
	s.times = append(s.times, now.Sub(c.began))
	return s.next(i, now)
}

func (s *sender) end(i int) error {
	fd := s.conns[i].fd
	s.conns[i].fd, s.poll[i].Fd = -1, -1 // poll passes over those that are negative
	s.open--
	return unix.Close(fd)
}

func (s *sender) close() (err error) {
	for i := range s.conns {
		if s.conns[i].fd >= 0 {
			err = errors.Join(err, s.end(i))
		}
	}
	return err
}

// dial connects to host:port and returns a blocking socket.
func dial(address string) (fd int, err error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0, err
	}
	f, err := c.(*net.TCPConn).File()
	if err = errors.Join(err, c.Close()); err != nil {
		return 0, err
	}
	if fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil { // f closes its own when nobody has it any more
		return 0, errors.Join(err, f.Close())
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := errors.Join(f.Close(), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}
