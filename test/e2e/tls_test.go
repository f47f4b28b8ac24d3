package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"landline/test/process"
)

// issue writes a self-made certificate for host with its key, and returns its serial number.
func issue(t *testing.T, dir, file, host string) string {
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
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, file+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	writeFile(t, filepath.Join(dir, file+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return serial.String()
}

// overTLS asks on a new connection and returns the answer, its protocol and the certificate's serial number.
func overTLS(t *testing.T, n *node, host, file string) (body, proto, serial string) {
	t.Helper()
	trusted, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: patience}).Get("https" + strings.TrimPrefix(n.Public, "http") + "/v1/echo/x")
	if err != nil {
		return err.Error(), "", ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), res.Proto, res.TLS.PeerCertificates[0].SerialNumber.String()
}

// Production with a certificate of its own needs no balancer before it; a
// renewed certificate is used without a restart, and one that is broken is not.
func TestTLS(t *testing.T) {
	dir, up := t.TempDir(), newUpstream(t)
	first, beta := issue(t, dir, "api", "api.example.test"), issue(t, dir, "beta", "beta.example.test")
	config := writeFile(t, filepath.Join(dir, "landline.yaml"), `
profile: production
app: {id: com.example.e2e, name: End to end, public_url: "https://api.example.test"}
secrets: {master_key: "${E2E_MASTER_KEY}"}
listen:
  tls: {cert: `+dir+`/api.pem, key: `+dir+`/api.key, certificates: [{cert: `+dir+`/beta.pem, key: `+dir+`/beta.key}]}
upstreams: {team: {targets: [{url: "`+up.URL+`"}]}}
features:
  echo: {auth: none, routes: [{match: "/v1/echo/{rest...}", upstream: team, path: "/echo/{rest...}"}]}
`)
	n := startNode(t, config, t.TempDir(), "E2E_MASTER_KEY="+process.MasterKey())
	api, betaFile := filepath.Join(dir, "api.pem"), filepath.Join(dir, "beta.pem")

	body, proto, serial := overTLS(t, n, "api.example.test", api)
	if proto != "HTTP/2.0" || serial != first || !strings.Contains(body, `"x-forwarded-proto":"https"`) {
		t.Fatalf("%s with certificate %s, want %s: %s", proto, serial, first, body)
	}
	if _, _, serial := overTLS(t, n, "beta.example.test", betaFile); serial != beta {
		t.Errorf("the other host's certificate: %s, want %s", serial, beta)
	}
	if res, err := client.Get(n.Public + "/v1/echo/x"); err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP: %d", res.StatusCode)
		}
	}

	renewed := issue(t, dir, "api", "api.example.test")
	n.signal(syscall.SIGHUP)
	eventually(t, patience, "SIGHUP takes the renewed certificate", func() bool {
		_, _, serial := overTLS(t, n, "api.example.test", api)
		return serial == renewed
	})
	again := issue(t, dir, "beta", "beta.example.test")
	eventually(t, patience, "the files are looked at without a signal", func() bool {
		_, _, serial := overTLS(t, n, "beta.example.test", betaFile)
		return serial == again
	})

	good, err := os.ReadFile(api)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, api, "no certificate")
	n.signal(syscall.SIGHUP)
	eventually(t, patience, "a broken certificate is told in the log", func() bool {
		return strings.Contains(n.logs.String(), "changed certificate files are not used")
	})
	writeFile(t, filepath.Join(dir, "good.pem"), string(good))
	if _, _, serial := overTLS(t, n, "api.example.test", filepath.Join(dir, "good.pem")); serial != renewed {
		t.Errorf("the certificate in use is gone: %s", serial)
	}

	n.signal(syscall.SIGTERM)
	if code := n.wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, n.logs)
	}
	if n, err := tryNode(t, config, t.TempDir(), "E2E_MASTER_KEY="+process.MasterKey()); err == nil || n.Exit() == 0 || !strings.Contains(n.logs.String(), "listen.tls cannot be used") {
		t.Errorf("it starts with a broken certificate: %v\n%s", err, n.logs)
	}
}
