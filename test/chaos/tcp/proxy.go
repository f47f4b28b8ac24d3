// Package tcp is a proxy between two programs that damages what passes, as
// networks do: it cuts connections at any byte, delays, slices, stalls, closes
// one side and resets. What it never does is change bytes or their order within
// a connection: TCP would not either.
package tcp

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is a way to damage connections.
type Fault int

// The faults. Each applies to connections that are open and to new ones.
const (
	None   Fault = iota
	Cut          // close both sides after a random number of bytes
	Reset        // the same, with a TCP reset
	Half         // close one direction after a random number of bytes, and cut the rest a moment later: a peer that died
	Delay        // hold every piece back for up to Config.Delay
	Slice        // pass on pieces of 1 to 7 bytes
	Stall        // pass nothing on, and keep connections open
	Refuse       // cut what is open, and close new connections at once
)

var names = [...]string{"none", "cut", "reset", "half-close", "delay", "slice", "stall", "refuse"}

func (f Fault) String() string { return names[f] }

// Config bounds the faults.
type Config struct {
	Seed  uint64
	Delay time.Duration // longest delay of one piece
	Bytes int           // connections are cut after up to so many bytes
}

// Proxy listens on a loopback address and passes connections on. Its methods may
// be called at any time.
type Proxy struct {
	config   Config
	listener net.Listener
	target   atomic.Value // string
	conns    sync.WaitGroup
	injured  atomic.Int64
	total    atomic.Int64

	mu     sync.Mutex
	rng    *rand.Rand
	fault  Fault
	turn   chan struct{} // closed when the fault changes
	open   map[*pair]bool
	closed bool
}

// pair is one connection through the proxy.
type pair struct {
	client, server *net.TCPConn
	half           atomic.Bool // a peer died: nobody hears what is still said
}

func (p *pair) close(reset bool) {
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if reset {
			_ = c.SetLinger(0) // it may be closed already
		}
		_ = c.Close()
	}
}

// New listens on a free port for connections to target (host:port).
func New(target string, c Config) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{config: c, listener: l, rng: rand.New(rand.NewPCG(c.Seed, 1)), turn: make(chan struct{}), open: map[*pair]bool{}}
	p.target.Store(target)
	p.conns.Go(p.accept)
	return p, nil
}

// Address is where to connect to.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Injured is how many connections have been cut, reset, half-closed or refused; total how many there were.
func (p *Proxy) Injured() (injured, total int) { return int(p.injured.Load()), int(p.total.Load()) }

// Target is where new connections go.
func (p *Proxy) Target() string { return p.target.Load().(string) }

// Switch sends new connections to another target, and cuts the open ones.
func (p *Proxy) Switch(target string) {
	p.target.Store(target)
	p.cutAll()
}

// Set begins a fault, or ends the one there is with None. Bytes that Stall or
// Delay held back are then passed on.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	p.fault = f
	close(p.turn)
	p.turn = make(chan struct{})
	p.mu.Unlock()
	if f == Refuse {
		p.cutAll()
	}
}

func (p *Proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		p.injured.Add(1)
		c.close(false)
	}
}

// Close ends it with all its connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Set(None)
	p.cutAll()
	p.conns.Wait()
	return err
}

// now is the fault there is, what ends it, and a number below n.
func (p *Proxy) now(n int) (Fault, <-chan struct{}, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.turn, p.rng.IntN(max(1, n))
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.total.Add(1)
		p.conns.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	if f, _, _ := p.now(1); f == Refuse {
		p.injured.Add(1)
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	server, err := net.DialTimeout("tcp", p.target.Load().(string), 5*time.Second)
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	c := &pair{client: client, server: server.(*net.TCPConn)}
	p.mu.Lock()
	p.open[c] = true
	closed := p.closed
	p.mu.Unlock()
	if closed {
		c.close(false)
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(c, c.client, c.server) })
	both.Go(func() { p.pass(c, c.server, c.client) })
	both.Wait()
	c.close(false)
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// pass copies one direction until it ends or is cut.
func (p *Proxy) pass(c *pair, from, to *net.TCPConn) {
	buffer := make([]byte, 16<<10)
	left := -1 // bytes until the cut; -1 = none is due
	for {
		n, err := from.Read(buffer)
		if n > 0 && !c.half.Load() {
			done, passErr := p.piece(c, to, buffer[:n], &left)
			if done || passErr != nil {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = to.CloseWrite() // the other direction goes on
			} else {
				c.close(true)
			}
			return
		}
	}
}

// piece passes b on as the fault of the moment wants; done tells that the direction has ended.
func (p *Proxy) piece(c *pair, to *net.TCPConn, b []byte, left *int) (done bool, err error) {
	for len(b) > 0 {
		fault, turn, n := p.now(p.config.Bytes)
		switch fault {
		case Stall:
			<-turn
			continue
		case Delay:
			timer := time.NewTimer(time.Duration(float64(p.config.Delay) * float64(n) / float64(max(1, p.config.Bytes))))
			select {
			case <-timer.C:
			case <-turn:
				timer.Stop()
			}
		case Slice:
			size := min(len(b), 1+n%7)
			if _, err := to.Write(b[:size]); err != nil {
				return true, err
			}
			b = b[size:]
			continue
		case Cut, Reset, Half:
			if *left < 0 {
				*left = n
			}
			if *left > len(b) {
				*left -= len(b)
				break
			}
			_, err = to.Write(b[:*left])
			p.injured.Add(1)
			p.injure(c, to, fault)
			return true, err
		default:
			*left = -1
		}
		_, err = to.Write(b)
		return err != nil, err
	}
	return false, nil
}

func (p *Proxy) injure(c *pair, to *net.TCPConn, f Fault) {
	if f != Half {
		c.close(f == Reset)
		return
	}
	c.half.Store(true)
	_ = to.CloseWrite()
	time.AfterFunc(50*time.Millisecond, func() { c.close(false) })
}
