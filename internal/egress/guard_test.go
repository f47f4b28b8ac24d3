package egress

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// serve starts a server on addr that counts its visitors.
func serve(t *testing.T, addr string, h http.HandlerFunc) (s *httptest.Server, visitors *atomic.Int64) {
	t.Helper()
	visitors = new(atomic.Int64)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visitors.Add(1)
		h(w, r)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s, visitors
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

func port(s *httptest.Server) string {
	_, p, _ := net.SplitHostPort(s.Listener.Addr().String())
	return p
}

func client(t *testing.T, o Options) *http.Client {
	c := New(o)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// The tests' servers are on 127.0.0.2, which is allowed, and on 127.0.0.1, which is not.
var allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}

func wantBlocked(t *testing.T, what string, resp *http.Response, err error) {
	t.Helper()
	if err == nil {
		resp.Body.Close()
	}
	var b *BlockedError
	if !errors.Is(err, ErrBlocked) || !errors.As(err, &b) || b.Reason == "" {
		t.Errorf("%s: %v; want ErrBlocked with a reason", what, err)
	}
}

func TestUntrustedRefusesWhatIsNotPublic(t *testing.T) {
	s, visitors := serve(t, "127.0.0.1:0", hello)
	c := client(t, Options{Untrusted: true})
	p := port(s)
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "100.64.0.1", "100.127.255.255",
		"192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::127.0.0.1]", "[fd00::1]", "[fc00::1]", "[fe80::1]", "[fe80::1%25lo]", "[fec0::1]", "[ff02::1]",
		"[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]", "[fd20:ce::254]", "[2002:a9fe:a9fe::]", "[2001:0:1:2:3:4:5:6]", "[64:ff9b:1::7f00:1]", "[100::1]", "[2001::1]", "[2001:db8::1]", "[2002:7f00:1::]", "[3fff::1]", "[5f00::1]", "[4000::1]",
		// Forms that some resolvers read as 127.0.0.1.
		"2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.0.0.1.", "0x7f.1", "127.0.0.0x1", "00000127.0.0.1", "0",
	} {
		resp, err := c.Get("http://" + host + ":" + p + "/")
		wantBlocked(t, host, resp, err)
	}
	if n := visitors.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

func TestGuardLetsThePublicThrough(t *testing.T) {
	guard := Guard(nil)
	for _, addr := range []string{"1.1.1.1:443", "8.8.8.8:80", "172.15.255.255:8443", "172.32.0.1:8443", "100.63.255.255:8443", "100.128.0.1:8443", "198.17.255.255:8443", "198.20.0.1:8443", "223.255.255.255:8443", "169.253.255.255:8443", "[2606:4700::1111]:443", "[2a00:1450::1]:443", "[2001:4860:4860::8888]:443", "[::ffff:1.1.1.1]:443"} {
		if err := guard(t.Context(), "tcp4", addr, nil); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for network, addr := range map[string]string{"udp4": "1.1.1.1:443", "unix": "/run/docker.sock", "tcp4": "not an address"} {
		if err := guard(t.Context(), network, addr, nil); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s %s: %v; want ErrBlocked", network, addr, err)
		}
	}
}

// A request to these would be read by something that is not HTTP.
func TestGuardRefusesPortsOfOtherProtocols(t *testing.T) {
	guard := Guard(allowed)
	for _, port := range []string{"0", "1", "22", "23", "25", "53", "81", "110", "143", "587", "1023", "2375", "2379", "3306", "5432", "6000", "6379", "6667", "9200", "10250", "11211", "27017"} {
		for _, host := range []string{"1.1.1.1", "[2606:4700::1111]", "[::ffff:1.1.1.1]"} {
			if err := guard(t.Context(), "tcp4", host+":"+port, nil); !errors.Is(err, ErrBlocked) {
				t.Errorf("%s:%s: %v; want ErrBlocked", host, port, err)
			}
		}
		if err := guard(t.Context(), "tcp4", "127.0.0.2:"+port, nil); err != nil {
			t.Errorf("an allowed address on port %s: %v", port, err)
		}
	}
	for _, port := range badPorts {
		if port < 1024 || port >= 32768 {
			t.Errorf("%d belongs into another rule, or is one that tests get", port)
		}
	}
	for _, port := range []string{"80", "443", "1024", "3000", "8080", "8443", "9000", "65535"} {
		if err := guard(t.Context(), "tcp4", "1.1.1.1:"+port, nil); err != nil {
			t.Errorf("port %s: %v", port, err)
		}
	}
}

func TestAllowedOnlyRefusesThePublic(t *testing.T) {
	s, _ := serve(t, "127.0.0.2:0", hello)
	o := Options{Untrusted: true, Allow: allowed, AllowedOnly: true, Refuse: []netip.Addr{netip.MustParseAddr("127.0.0.3")}, resolver: resolver(t, func(host string, _ int64) []string {
		if host == "public.example" {
			return []string{"1.1.1.1", "2606:4700::1111"}
		}
		return []string{"127.0.0.2"}
	})}
	c := client(t, o)
	for _, url := range []string{"http://1.1.1.1/", "http://public.example/", "http://[::ffff:1.1.1.1]/"} {
		resp, err := c.Get(url)
		wantBlocked(t, url, resp, err)
	}
	resp, err := c.Get("http://private.example:" + port(s) + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestRefusedAddressesCannotBeAllowed(t *testing.T) {
	_, visitors := serve(t, "127.0.0.2:0", hello)
	c := client(t, Options{Untrusted: true, Allow: allowed, Refuse: []netip.Addr{netip.MustParseAddr("127.0.0.2")}})
	for _, url := range []string{"http://127.0.0.2:8080/", "http://[::ffff:127.0.0.2]:8080/"} {
		resp, err := c.Get(url)
		wantBlocked(t, url, resp, err)
	}
	if visitors.Load() != 0 {
		t.Error("the refused address was reached")
	}
}

// Letters and digits of other scripts become ASCII on the way to the resolver,
// behind the look at the URL: the guard sees what came of them.
func TestHostsInOtherScripts(t *testing.T) {
	s, visitors := serve(t, "127.0.0.1:0", hello)
	c := client(t, Options{Untrusted: true, resolver: resolver(t, func(string, int64) []string { return []string{"127.0.0.1"} })})
	for _, host := range []string{"１２７.0.0.1", "127。0。0。1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "LOCALHOST", "localhost.", "%31%32%37.0.0.1"} {
		resp, err := c.Get("http://" + host + ":" + port(s) + "/")
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s was called", host)
		}
	}
	if n := visitors.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

func TestNamesAreJudgedByWhatTheyResolveTo(t *testing.T) {
	s, visitors := serve(t, "127.0.0.1:0", hello)
	answers := map[string][]string{
		"loopback.example": {"127.0.0.1"},
		"metadata.example": {"169.254.169.254"},
		"six.example":      {"::1"},
		"nat64.example":    {"64:ff9b::7f00:1"},
		"mapped.example":   {"::ffff:127.0.0.1"},
		"several.example":  {"10.0.0.1", "127.0.0.1", "fd00::1"},
	}
	c := client(t, Options{Untrusted: true, resolver: resolver(t, func(host string, _ int64) []string { return answers[host] })})
	for host := range answers {
		resp, err := c.Get("http://" + host + ":" + port(s) + "/")
		wantBlocked(t, host, resp, err)
	}
	if n := visitors.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

// A name that was harmless when somebody looked is judged again when it is connected to.
func TestRebindingGainsNothing(t *testing.T) {
	bad, visitors := serve(t, "127.0.0.1:0", hello)
	good, _ := serve(t, "127.0.0.2:"+port(bad), hello)
	var rebound atomic.Bool
	c := client(t, Options{Untrusted: true, Allow: allowed, resolver: resolver(t, func(string, int64) []string {
		if rebound.Load() {
			return []string{"127.0.0.1"}
		}
		return []string{"127.0.0.2"}
	})})
	url := "http://rebind.example:" + port(good) + "/"
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	rebound.Store(true)
	c.CloseIdleConnections()
	resp, err = c.Get(url)
	wantBlocked(t, "after the name changed its address", resp, err)
	if n := visitors.Load(); n != 0 {
		t.Errorf("%d requests reached the server that is not public", n)
	}
}

func TestAllowOpensOnlyItsPrefix(t *testing.T) {
	s, _ := serve(t, "127.0.0.2:0", hello)
	_, visitors := serve(t, "127.0.0.1:"+port(s), hello)
	c := client(t, Options{Untrusted: true, Allow: allowed})
	for _, host := range []string{"127.0.0.2", "[::ffff:127.0.0.2]"} {
		resp, err := c.Get("http://" + host + ":" + port(s))
		if err != nil {
			t.Fatalf("an allowed address: %v", err)
		}
		resp.Body.Close()
	}
	resp, err := c.Get("http://127.0.0.1:" + port(s))
	wantBlocked(t, "its neighbour", resp, err)
	if visitors.Load() != 0 {
		t.Error("the neighbour was reached")
	}
}

func TestTrustedMayCallPrivateAddresses(t *testing.T) {
	s, _ := serve(t, "127.0.0.1:0", hello)
	resp, err := client(t, Options{}).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestSchemesAndUserInformation(t *testing.T) {
	for _, untrusted := range []bool{true, false} {
		var out bytes.Buffer
		c := client(t, Options{Untrusted: untrusted, Allow: allowed, Log: slog.New(slog.NewTextHandler(&out, nil))})
		for _, url := range []string{"ftp://127.0.0.2/", "file:///etc/passwd", "gopher://127.0.0.2:70/", "http://user:hunter2secret@127.0.0.2/", "http://user@127.0.0.2/"} {
			resp, err := c.Get(url)
			wantBlocked(t, url, resp, err)
			if err != nil && strings.Contains(err.Error(), "hunter2secret") {
				t.Errorf("the error shows the password: %v", err)
			}
		}
		if s := out.String(); strings.Contains(s, "hunter2secret") || !strings.Contains(s, "blocked") {
			t.Errorf("the log is %s", s)
		}
	}
}

func TestRedirects(t *testing.T) {
	private, visitors := serve(t, "127.0.0.1:0", hello)
	var target atomic.Value
	from, hops := serve(t, "127.0.0.2:0", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.Load().(string), http.StatusFound)
	})
	c := client(t, Options{Untrusted: true, Allow: allowed, resolver: resolver(t, func(string, int64) []string { return []string{"127.0.0.1"} })})
	for _, to := range []string{private.URL, "http://name.example:" + port(private), "http://2130706433:" + port(private), "http://[::ffff:127.0.0.1]:" + port(private), "file:///etc/passwd", "http://u:p@127.0.0.2/", "//127.0.0.1:" + port(private)} {
		target.Store(to)
		resp, err := c.Get(from.URL)
		wantBlocked(t, "redirect to "+to, resp, err)
	}
	if n := visitors.Load(); n != 0 {
		t.Errorf("%d requests reached the private server", n)
	}

	target.Store(from.URL)
	hops.Store(0)
	if _, err := c.Get(from.URL); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("an endless redirect: %v", err)
	}
	if n := hops.Load(); n != 1+maxRedirects {
		t.Errorf("%d requests were made, want %d", n, 1+maxRedirects)
	}
}

func TestRedirectFromHTTPSToHTTP(t *testing.T) {
	plain, visitors := serve(t, "127.0.0.2:0", hello)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL, http.StatusFound)
	}))
	secure.StartTLS()
	defer secure.Close()
	for _, untrusted := range []bool{true, false} {
		c := client(t, Options{Untrusted: untrusted, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		c.Transport.(*transport).base.TLSClientConfig.RootCAs = secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		resp, err := c.Get(secure.URL)
		if untrusted {
			wantBlocked(t, "down to http", resp, err)
			if visitors.Load() != 0 {
				t.Error("the plain server was reached")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

func TestUntrustedUsesNoProxy(t *testing.T) {
	if New(Options{Untrusted: true}).Transport.(*transport).base.Proxy != nil {
		t.Error("a proxy would connect past the guard")
	}
	if New(Options{}).Transport.(*transport).base.Proxy == nil {
		t.Error("a trusted client ignores the environment's proxy")
	}
}

func FuzzCheckURLNeverLetsLoopbackThrough(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "[::1]", "2130706433", "0x7f.1", "example.com", "[::ffff:127.0.0.1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		r, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
		if err != nil {
			return
		}
		if err := checkURL(r.URL, Options{Untrusted: true}); err != nil {
			return
		}
		if a, err := netip.ParseAddr(r.URL.Hostname()); err == nil && (a.Unmap().IsLoopback() || a.Unmap().IsPrivate() || a.Unmap().IsLinkLocalUnicast() || a.IsUnspecified()) {
			t.Errorf("%q is let through", host)
		}
	})
}
