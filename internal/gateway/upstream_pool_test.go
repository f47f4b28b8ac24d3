package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

// nameServer answers every question for an address with what it is set to.
type nameServer struct {
	address atomic.Pointer[[4]byte]
	asked   atomic.Int64
	fault   atomic.Int32 // response code instead of an answer, 0 = none
}

func (n *nameServer) set(a, b, c, d byte) { n.address.Store(&[4]byte{a, b, c, d}) }

// resolver starts the server and returns a resolver that asks it alone.
func (n *nameServer) resolver(t testing.TB) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := n.reply(buf[:size]); answer != nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// reply answers one question (RFC 1035 §4.1): with an A record, or with nothing of another type.
func (n *nameServer) reply(query []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	if end += 5; end > len(query) {
		return nil
	}
	n.asked.Add(1)
	answer := append([]byte(nil), query[:end]...)
	copy(answer[2:12], []byte{0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // an authoritative answer to one question
	if code := n.fault.Load(); code != 0 {
		answer[3] |= byte(code)
		return answer
	}
	if kind := query[end-4 : end]; kind[0] == 0 && kind[1] == 1 {
		answer[7] = 1
		answer = append(answer, 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4) // the name of the question, A, IN, 1 s, 4 bytes
		a := n.address.Load()
		answer = append(answer, a[:]...)
	}
	return answer
}

// twins are two servers on the same port of 127.0.0.1 and 127.0.0.2 that answer with their address.
func twins(t testing.TB) (port string) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(first.Addr().String())
	second, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{first, second} {
		srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			host, _, _ := net.SplitHostPort(l.Addr().String())
			io.WriteString(w, host)
		})}}
		srv.Start()
		t.Cleanup(srv.Close)
	}
	return port
}

func TestAChangedNameIsFollowed(t *testing.T) {
	var names nameServer
	names.set(127, 0, 0, 1)
	port := twins(t)
	resolver := names.resolver(t)
	h := openWith(t, func(o *Options) { o.Resolver = resolver }, func(s *Settings) {
		up := upstreamAt("http://flights.example.test:" + port)
		up.Resolve = config.Duration(10 * time.Millisecond)
		s.Upstreams["up"] = up
		s.Features["all"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
	})
	for range 20 {
		if res, body := h.get("/x"); res.StatusCode != 200 || body != "127.0.0.1" {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	pool := h.table.Load().upstreams["up"].pool
	until(t, "the name was looked up beside", func() bool {
		h.get("/x")
		pool.names.Lock()
		defer pool.names.Unlock()
		k := pool.addresses["flights.example.test"]
		return k != nil && k.complete
	})
	generation := pool.current.Load()
	names.set(127, 0, 0, 2)
	until(t, "the new address is used", func() bool { _, body := h.get("/x"); return body == "127.0.0.2" })
	if pool.current.Load() == generation || !generation.retired.Load() {
		t.Error("the old connections are still the current ones")
	}
	// A name server that fails changes nothing.
	generation, asked := pool.current.Load(), names.asked.Load()
	names.set(127, 0, 0, 2)
	until(t, "it was looked up again", func() bool { h.get("/x"); return names.asked.Load() > asked+4 })
	if pool.current.Load() != generation {
		t.Error("the same answer renewed the connections")
	}
}

func TestConnectionsAreRenewed(t *testing.T) {
	var opened, open atomic.Int64
	held := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			io.WriteString(w, "first ")
			http.NewResponseController(w).Flush()
			<-held
		}
		io.WriteString(w, "fine")
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			opened.Add(1)
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	h := proxy(t, srv.URL, func(s *Settings) { s.Upstreams["up"].MaxConnectionAge = config.Duration(50 * time.Millisecond) })
	res, err := h.client.Get(h.url + "/held")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	began := time.Now()
	until(t, "three renewals", func() bool { h.get("/x"); return opened.Load() >= 5 })
	if took := time.Since(began); took < 90*time.Millisecond {
		t.Errorf("connections lived only %s", took/3)
	}
	close(held) // its connection is older than any other
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "first fine" {
		t.Errorf("%q %v", body, err)
	}
	until(t, "old connections are closed", func() bool { return open.Load() <= 1 })
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority {
	a := &authority{}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue signs a certificate for name.
func (a *authority) issue(t testing.TB, name string, serial int64) (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, "service", 2)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(ca.cert)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert}
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the test's purpose
	srv.StartTLS()
	t.Cleanup(srv.Close)

	for _, protocol := range []string{"http1", "http2"} {
		t.Run(protocol, func(t *testing.T) {
			with := func(name string) *Settings {
				s := DefaultSettings()
				up := upstreamAt(srv.URL)
				up.Protocol, up.TLS.CA = protocol, ca.pem
				up.Health = healthConfig()
				if name != "" {
					c, k := ca.issue(t, name, 3)
					up.TLS.Certificate, up.TLS.Key = c, config.Secret(k)
				}
				s.Upstreams["up"] = up
				s.Features["all"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
				return s
			}
			h := open(t, func(s *Settings) { *s = *with("") })
			if res, body := h.get("/x"); res.StatusCode != 502 || !strings.HasPrefix(code(t, body), "upstream_") {
				t.Errorf("without a certificate: %d %s", res.StatusCode, body)
			}
			for _, name := range []string{"landline-1", "landline-2"} {
				if err := h.Apply(with(name), nil); err != nil {
					t.Fatal(err)
				}
				if res, body := h.get("/x"); res.StatusCode != 200 || body != name {
					t.Errorf("with %s: %d %s", name, res.StatusCode, body)
				}
			}
			until(t, "probes show it as well", func() bool { return h.target(0).State == "healthy" })
		})
	}
}

func TestClientCertificatesThatAreNone(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, "a", 2)
	_, other := ca.issue(t, "b", 3)
	for want, c := range map[string]TLSConfig{
		"without tls.key":         {Certificate: cert},
		"without tls.certificate": {Key: config.Secret(key)},
		"do not make a pair":      {Certificate: cert, Key: config.Secret(other)},
	} {
		_, err := newPool(UpstreamConfig{TLS: c}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%v, want %q", err, want)
		}
		text := "upstreams: {up: {targets: [{url: 'https://127.0.0.1:1'}], tls: {certificate: \"${CERT:-}\", key: \"${KEY:-}\"}}}"
		env := config.Env{Lookup: func(name string) (string, bool) {
			v := map[string]string{"CERT": c.Certificate, "KEY": c.Key.Reveal()}[name]
			return v, v != ""
		}}
		var faults config.Faults
		if err := config.LoadBytes("landline.yaml", []byte(text), Sections(DefaultSettings()), env); !errors.As(err, &faults) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("configuration: %v, want %q", err, want)
		}
	}
}
