package differential

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// caseField names the case, so that the upstream knows what to answer.
const caseField = "X-Case"

// answer is what the upstream says to a case.
type answer struct {
	Pieces []string // written one by one, as they are
	Close  bool     // and then closes the connection
	Early  bool     // says it without reading the body
}

// recorder is an upstream on bare TCP. It keeps every request that it is sent
// and answers as the case says.
type recorder struct {
	listener net.Listener
	answers  func(id int) answer

	mu    sync.Mutex
	seen  map[int][]*message // by case; 0 = none named
	wrong []string           // what was no request at all
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newRecorder(t *testing.T, answers func(id int) answer) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &recorder{listener: l, answers: answers, seen: map[int][]*message{}, conns: map[net.Conn]bool{}}
	u.wg.Go(u.accept)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		u.mu.Lock()
		for c := range u.conns {
			c.Close()
		}
		u.mu.Unlock()
		u.wg.Wait()
	})
	return u
}

func (u *recorder) addr() string { return u.listener.Addr().String() }

func (u *recorder) accept() {
	for {
		c, err := u.listener.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.conns[c] = true
		u.mu.Unlock()
		u.wg.Go(func() {
			defer func() {
				c.Close()
				u.mu.Lock()
				delete(u.conns, c)
				u.mu.Unlock()
			}()
			r := bufio.NewReader(c)
			for u.serve(c, r) {
			}
		})
	}
}

// serve reads and answers one request, and reports whether there may be another.
func (u *recorder) serve(c net.Conn, r *bufio.Reader) bool {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	m, err := header(r)
	if err == io.EOF || isTimeoutOrReset(err) {
		return false
	}
	if err != nil {
		u.malformed(m, err)
		return false
	}
	kind, length, err := m.framing()
	if err != nil {
		u.malformed(m, err)
		return false
	}
	id, a := u.answer(m)
	if !a.Early {
		if m.value("Expect") != "" {
			if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
				return false
			}
		}
		if err := m.readBody(r, kind, length); err != nil {
			m.Cut = true
			u.note(id, m)
			return false
		}
	}
	u.note(id, m)
	for _, p := range a.Pieces {
		if _, err := io.WriteString(c, p); err != nil {
			return false
		}
	}
	return !a.Close && !a.Early
}

func (u *recorder) answer(m *message) (int, answer) {
	id, err := strconv.Atoi(m.value(caseField))
	if err != nil {
		id = 0
	}
	return id, u.answers(id)
}

func (u *recorder) note(id int, m *message) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen[id] = append(u.seen[id], m)
}

func (u *recorder) malformed(m *message, err error) {
	start := ""
	if m != nil {
		start = m.Start
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wrong = append(u.wrong, start+": "+err.Error())
}

// requests of a case so far.
func (u *recorder) requests(id int) []*message {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[id]
}

func (u *recorder) faults() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.wrong
}
