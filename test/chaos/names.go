package main

import (
	"net"
	"sync/atomic"
)

// names is a DNS server (RFC 1035) that knows every name as 127.0.0.1, until it
// is told to fall silent or to fail.
type names struct {
	conn    net.PacketConn
	mode    atomic.Int32
	queries atomic.Int64
}

// How a server of names behaves.
const (
	namesAnswer int32 = iota
	namesFail         // SERVFAIL
	namesSilent       // no answer at all
)

func newNames() (*names, error) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &names{conn: c}
	go n.serve()
	return n, nil
}

func (n *names) address() string { return n.conn.LocalAddr().String() }

func (n *names) close() error { return n.conn.Close() }

func (n *names) serve() {
	b := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(b)
		if err != nil {
			return // closed
		}
		n.queries.Add(1)
		if answer := n.answer(b[:size]); answer != nil {
			_, _ = n.conn.WriteTo(answer, from) // a lost datagram is nothing special
		}
	}
}

// answer builds the reply to a query with one question; nil is none.
func (n *names) answer(q []byte) []byte {
	const header = 12
	end := header
	for end < len(q) && q[end] != 0 { // labels of the name
		end += int(q[end]) + 1
	}
	end += 5 // its end, type and class
	if end > len(q) || n.mode.Load() == namesSilent {
		return nil
	}
	question := q[header:end]
	reply := []byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0} // response, recursion available
	if n.mode.Load() == namesFail {
		reply[3] |= 2 // SERVFAIL
		return append(reply, question...)
	}
	isA := question[len(question)-4] == 0 && question[len(question)-3] == 1
	if !isA { // AAAA: there is none
		return append(reply, question...)
	}
	reply[7] = 1
	reply = append(reply, question...)
	return append(reply, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1) // TTL 0
}
