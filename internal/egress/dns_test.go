package egress

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

// resolver is a net.Resolver whose answers are those of lookup, which is asked
// anew every time: the n-th lookup of a connection attempt may differ.
func resolver(t *testing.T, lookup func(host string, n int64) []string) *net.Resolver {
	var asked atomic.Int64
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe() // no net.PacketConn, so messages have a length before them (RFC 1035 §4.2.2)
		wg.Go(func() {
			defer server.Close()
			for {
				var size [2]byte
				if _, err := io.ReadFull(server, size[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(server, query); err != nil {
					return
				}
				reply := answer(query, func(host string) []string { return lookup(host, asked.Add(1)) })
				if _, err := server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
					return
				}
			}
		})
		return client, nil
	}}
}

// answer makes the reply to a query with one question of type A or AAAA.
func answer(query []byte, lookup func(host string) []string) []byte {
	host, end := "", 12
	for query[end] != 0 {
		n := int(query[end])
		host += string(query[end+1:end+1+n]) + "."
		end += 1 + n
	}
	question := query[12 : end+5]
	kind := binary.BigEndian.Uint16(query[end+1:])
	var records []byte
	count := uint16(0)
	if kind == 1 || kind == 28 {
		for _, text := range lookup(host[:len(host)-1]) {
			addr := netip.MustParseAddr(text)
			if addr.Is4() != (kind == 1) {
				continue
			}
			raw := addr.AsSlice()
			records = append(records, 0xc0, 12) // the name of the question
			records = binary.BigEndian.AppendUint16(records, kind)
			records = append(records, 0, 1, 0, 0, 0, 0) // class IN, to be kept 0 s
			records = binary.BigEndian.AppendUint16(records, uint16(len(raw)))
			records = append(records, raw...)
			count++
		}
	}
	reply := append([]byte{}, query[:2]...)
	reply = append(reply, 0x81, 0x80, 0, 1)
	reply = binary.BigEndian.AppendUint16(reply, count)
	reply = append(reply, 0, 0, 0, 0)
	return append(append(reply, question...), records...)
}
