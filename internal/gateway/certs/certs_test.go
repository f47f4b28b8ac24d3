package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/clock"
	"landline/internal/testkit"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// issue writes a self-made certificate and its key.
func issue(t *testing.T, dir, name string, expires time.Time, hosts ...string) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-24 * time.Hour), NotAfter: expires,
		DNSNames: hosts, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := Pair{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	write(t, p.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return p
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func store(t *testing.T, pairs ...Pair) *Store {
	t.Helper()
	s, err := New(Options{Pairs: pairs, MinVersion: tls.VersionTLS12, Clock: clock.NewFake(start), Log: testkit.Logger(t), Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shown is the leaf that a client gets which asks for host.
func shown(t *testing.T, s *Store, host string) *x509.Certificate {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	done := make(chan error, 1)
	go func() {
		defer server.Close()
		done <- tls.Server(server, s.Config()).Handshake()
	}()
	c := tls.Client(client, &tls.Config{ServerName: host, InsecureSkipVerify: true}) // the test looks at what it got
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0]
}

func TestChoosesByName(t *testing.T) {
	dir := t.TempDir()
	later := start.Add(90 * 24 * time.Hour)
	s := store(t, issue(t, dir, "first", later, "api.example.com"), issue(t, dir, "second", later, "*.example.org", "example.org"))
	for host, want := range map[string]string{
		"api.example.com": "first", "example.org": "second", "a.example.org": "second", "a.b.example.org": "first", "unknown.example": "first", "": "first",
	} {
		if got := shown(t, s, host).Subject.CommonName; got != want {
			t.Errorf("%q got %s, want %s", host, got, want)
		}
	}
}

func TestReloadValidatesFirst(t *testing.T) {
	dir, later := t.TempDir(), start.Add(90*24*time.Hour)
	p := issue(t, dir, "api", later, "api.example.com")
	s := store(t, p)
	before := shown(t, s, "api.example.com").SerialNumber
	same := func(when string) {
		t.Helper()
		if shown(t, s, "api.example.com").SerialNumber.Cmp(before) != 0 {
			t.Errorf("%s: another certificate is in use", when)
		}
	}
	refused := func(when, want string) {
		t.Helper()
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
		same(when)
		if err := s.Reload(); err != nil {
			t.Errorf("%s is told twice: %v", when, err)
		}
	}
	if err := s.Reload(); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	key, err := os.ReadFile(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	issue(t, dir, "api", later, "api.example.com")
	fresh, err := os.ReadFile(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, p.Key, key)
	refused("the new key is not there yet", "private key does not match")
	write(t, p.Key, []byte("-----BEGIN"))
	refused("half a key", "failed to find any PEM data")
	write(t, p.Key, fresh)
	if err := s.Reload(); err != nil {
		t.Errorf("both are there: %v", err)
	}
	after := shown(t, s, "api.example.com").SerialNumber
	if after.Cmp(before) == 0 {
		t.Error("the old certificate is still in use")
	}
	before = after
	issue(t, dir, "api", start.Add(-time.Hour), "api.example.com")
	refused("expired", "it expired on 2026-03-01T11:00:00Z")
	issue(t, dir, "api", later)
	refused("without a name", "names no host")
	if err := os.Remove(p.Cert); err != nil {
		t.Fatal(err)
	}
	refused("gone", "no such file")
}

func TestNewTellsEveryFault(t *testing.T) {
	dir := t.TempDir()
	old := issue(t, dir, "old", start.Add(-time.Hour), "a.example")
	_, err := New(Options{Pairs: []Pair{old, {Cert: filepath.Join(dir, "none.pem"), Key: old.Key}}, Clock: clock.NewFake(start), Log: testkit.Logger(t)})
	if err == nil || !strings.Contains(err.Error(), "expired") || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("got %v", err)
	}
}

func TestRunPolls(t *testing.T) {
	dir, later := t.TempDir(), start.Add(90*24*time.Hour)
	synctest.Test(t, func(t *testing.T) {
		p := issue(t, dir, "api", later, "api.example.com")
		s := store(t, p)
		before := (*s.current.Load())[0].Leaf.SerialNumber
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		issue(t, dir, "api", later, "api.example.com")
		time.Sleep(pollEvery + time.Millisecond) // the bubble's time
		synctest.Wait()
		if (*s.current.Load())[0].Leaf.SerialNumber.Cmp(before) == 0 {
			t.Error("the files were not looked at")
		}
		stop()
		<-done
	})
}

func TestServesHTTP2AndOldClientsStayOut(t *testing.T) {
	s := store(t, issue(t, t.TempDir(), "api", start.Add(24*time.Hour), "api.example.com"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{TLSConfig: s.Config(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })}
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { srv.Close(); <-served })
	get := func(c *tls.Config, http2 bool) (string, error) {
		c.InsecureSkipVerify = true
		tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: http2}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String())
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	if got, err := get(&tls.Config{}, true); got != "HTTP/2.0" {
		t.Errorf("%s %v", got, err)
	}
	if got, err := get(&tls.Config{}, false); got != "HTTP/1.1" {
		t.Errorf("%s %v", got, err)
	}
	if got, err := get(&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, false); err == nil {
		t.Errorf("TLS 1.1: %s", got)
	}
}
