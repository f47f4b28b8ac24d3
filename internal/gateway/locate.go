package gateway

import (
	"net/http"
	"net/netip"
	"strings"
)

// locate finds out who calls: the address of the connection or, behind trusted
// proxies, the last address that a trusted proxy vouches for.
func (g *Gateway) locate(x *Exchange, r *http.Request) {
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.peer = ap.Addr().Unmap().WithZone("")
	}
	if !x.peer.IsValid() {
		x.ClientIP = r.RemoteAddr
		return
	}
	caller := x.peer
	if x.trusted = g.trusts(x.peer); x.trusted {
		caller = g.vouchedFor(x.peer, r.Header)
	}
	x.ClientIP = caller.String()
}

func (g *Gateway) trusts(a netip.Addr) bool {
	for _, p := range g.options.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// vouchedFor walks from the nearest proxy outwards as long as it is trusted.
func (g *Gateway) vouchedFor(peer netip.Addr, h http.Header) netip.Addr {
	caller := peer
	list := forwardedFor(h)
	for i := len(list) - 1; i >= 0; i-- {
		a, ok := parseNode(list[i])
		if !ok {
			return caller
		}
		caller = a
		if !g.trusts(a) {
			return caller
		}
	}
	return caller
}

// maxHops bounds how many proxies are looked at.
const maxHops = 32

// forwardedFor lists the nodes of X-Forwarded-For or, without it, of Forwarded
// (RFC 7239), the nearest last.
func forwardedFor(h http.Header) []string {
	var list []string
	if values := h["X-Forwarded-For"]; len(values) > 0 {
		for _, v := range values {
			for node := range strings.SplitSeq(v, ",") {
				list = append(list, strings.TrimSpace(node))
			}
		}
	} else {
		for _, v := range h["Forwarded"] {
			for element := range strings.SplitSeq(v, ",") {
				list = append(list, forNode(element))
			}
		}
	}
	return list[max(0, len(list)-maxHops):]
}

// forNode is the value of "for" in one element of Forwarded, "" without one.
func forNode(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// parseNode reads an address with or without a port, IPv6 with or without brackets.
func parseNode(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}
