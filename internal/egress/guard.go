package egress

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// notPublic lists what is not the public Internet, by the IANA special-purpose
// address registries (RFC 6890 and its updates).
var notPublic = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a provider's customers (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the host's own services in Azure, though it looks public"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where cloud metadata is"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved for protocols"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved or broadcast"},
	{netip.MustParsePrefix("2001::/23"), "reserved for protocols (Teredo)"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4, which hides an IPv4 address"},
	{netip.MustParsePrefix("3fff::/20"), "for documentation"},
}

// publicV6 is all that is global unicast: loopback, unspecified, unique local,
// link-local, site-local, multicast, NAT64 (64:ff9b::) and whatever may be
// invented are outside.
var publicV6 = netip.MustParsePrefix("2000::/3")

// badPorts are ports from 1024 on where something else than HTTP is usually
// spoken that would take harm from a request, or not tell it from its own
// protocol: remote shells, databases, caches, schedulers and what the WHATWG
// fetch standard calls bad ports. None is in the range that Linux gives to
// outgoing connections.
var badPorts = []uint16{
	1099, 1433, 1434, 1521, 1719, 1720, 1723, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369, 4444, 5060, 5061, 5432, 5433,
	5555, 5671, 5672, 5900, 5938, 5984, 5985, 5986, 6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 7000, 7001, 7077, 7199, 8086,
	8500, 9042, 9092, 9160, 9200, 9300, 10080, 10250, 10255, 11211, 15672, 26379, 27017, 27018, 27019, 28017,
}

// checkPort judges the port of a public address: 80, 443, and those from 1024
// on that are not bad.
func checkPort(port uint16, shown string) error {
	if port == 80 || port == 443 || port >= 1024 && !slices.Contains(badPorts, port) {
		return nil
	}
	return &BlockedError{shown, "the port is none where HTTP is expected; use 80, 443 or another one from 1024 on"}
}

// Guard returns a net.Dialer.ControlContext that refuses, with a
// *BlockedError, to connect to an address that is not public and not in allow,
// or to a port of a public one where no HTTP is expected. It sees the address
// itself, after the name was resolved.
func Guard(allow []netip.Prefix) func(ctx context.Context, network, address string, _ syscall.RawConn) error {
	return guard(Options{Allow: allow})
}

func guard(o Options) func(ctx context.Context, network, address string, _ syscall.RawConn) error {
	return func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return &BlockedError{address, "the network is " + network + ", not TCP"}
		}
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return &BlockedError{address, "not an address and port"}
		}
		if err := checkAddr(to.Addr(), address, o); err != nil || isAllowed(to.Addr().Unmap(), o.Allow) {
			return err
		}
		return checkPort(to.Port(), address)
	}
}

func isAllowed(addr netip.Addr, allow []netip.Prefix) bool {
	return slices.ContainsFunc(allow, func(p netip.Prefix) bool { return p.Contains(addr.WithZone("")) })
}

// checkAddr judges one address; shown is how errors name it. An IPv4 address
// mapped into IPv6 (::ffff:127.0.0.1) is judged as the IPv4 address it is.
func checkAddr(addr netip.Addr, shown string, o Options) error {
	addr = addr.Unmap()
	switch {
	case slices.Contains(o.Refuse, addr.WithZone("")):
		return &BlockedError{shown, "it is never called, whatever is allowed"}
	case isAllowed(addr, o.Allow):
		return nil
	case o.AllowedOnly:
		return &BlockedError{shown, "it is none of the allowed networks"}
	}
	if addr.Zone() != "" {
		return &BlockedError{shown, "it is of one link only"}
	}
	for _, n := range notPublic {
		if n.prefix.Contains(addr) {
			return &BlockedError{shown, n.what}
		}
	}
	if addr.Is6() && !publicV6.Contains(addr) {
		return &BlockedError{shown, "it is not global unicast IPv6"}
	}
	return nil
}

// looksNumeric reports whether a host that is no address in its usual form
// would still be read as one by some resolvers: 2130706433, 0x7f.1, 0177.0.0.1.
// As in the WHATWG URL standard the last label decides: no public name ends in
// a number.
func looksNumeric(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if rest, ok := strings.CutPrefix(strings.ToLower(last), "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}
