package gateway

import (
	"net/netip"
	"sync/atomic"
)

// ClientIPMode is how much of a caller's address the access log keeps.
type ClientIPMode string

// The modes.
const (
	ClientIPFull      ClientIPMode = "full"
	ClientIPTruncated ClientIPMode = "truncated" // the network: /24 of IPv4, /48 of IPv6
	ClientIPNone      ClientIPMode = "none"
)

// Bits of an address that ClientIPTruncated keeps.
const (
	keptV4 = 24
	keptV6 = 48
)

// ClientIPLog holds a mode that may change at any time. The zero value, and
// nil, truncate.
type ClientIPLog struct{ mode atomic.Pointer[ClientIPMode] }

// Set changes the mode.
func (c *ClientIPLog) Set(m ClientIPMode) { c.mode.Store(&m) }

// kept is what the log gets of an address: the whole of it, or its network, or
// neither. What is no address is kept only whole.
func (c *ClientIPLog) kept(address string) (whole string, network netip.Addr) {
	mode := ClientIPTruncated
	if c != nil {
		if m := c.mode.Load(); m != nil {
			mode = *m
		}
	}
	switch mode {
	case ClientIPFull:
		return address, network
	case ClientIPNone:
		return "", network
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return "", network
	}
	a = a.Unmap().WithZone("")
	bits := keptV4
	if a.Is6() {
		bits = keptV6
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "", network
	}
	return "", p.Addr()
}

// address adds what c keeps of an address.
func (a *accessLine) address(key string, c *ClientIPLog, address string) {
	whole, network := c.kept(address)
	switch {
	case !network.IsValid():
		a.plain(key, whole)
	case a.line != nil:
		a.line.Addr(key, network)
	default:
		a.plain(key, network.String())
	}
}
