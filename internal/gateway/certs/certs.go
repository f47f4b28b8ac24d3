// Package certs holds the certificates of the public listener.
//
// It guarantees: every handshake gets a certificate that was valid as a whole
// when it was read — chain, key and names fit together; a renewed pair of files
// is used within a few seconds, or at once after Reload, without a restart and
// without touching open connections; files that do not fit together, are
// malformed or expired change nothing and are logged once.
//
// It does not: it fetches no certificate (ACME) and staples no OCSP answer.
package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/clock"
	"landline/internal/observe"
)

// Pair names the PEM files of one certificate: its chain, leaf first, and its key.
type Pair struct{ Cert, Key string }

// Options say what is served and how. Pairs must not be empty; the first is for
// clients that name no host, or one that no certificate has.
type Options struct {
	Pairs      []Pair
	MinVersion uint16 // tls.VersionTLS12 or later
	Clock      clock.Clock
	Log        *slog.Logger
	Registry   prometheus.Registerer
}

// pollEvery is how often the files are looked at.
const pollEvery = 3 * time.Second

// maxFile bounds a PEM file.
const maxFile = 1 << 20

// Store is the certificates in use. It is safe for concurrent use.
type Store struct {
	o       Options
	current atomic.Pointer[[]tls.Certificate]

	mu      sync.Mutex
	digests []digest // of the files last looked at, whether they were taken or not

	expiry  *prometheus.GaugeVec
	reloads *prometheus.CounterVec
}

type digest [sha256.Size]byte

// Declare declares the metrics of a Store, which needs no certificate.
func Declare(reg prometheus.Registerer) (expiry *prometheus.GaugeVec, reloads *prometheus.CounterVec) {
	return observe.Gauge(reg, "landline_gateway_tls_expiry_timestamp_seconds", "When a certificate of the public listener expires, by its file.", "file"),
		observe.Counter(reg, "landline_gateway_tls_reloads_total", "Changed certificate files by outcome: taken, refused.", "outcome")
}

// Check reads one pair and tells what New would find wrong with it.
func Check(p Pair, now time.Time) error {
	files, err := read(p)
	if err != nil {
		return err
	}
	_, err = files.certificate(now)
	return err
}

// New reads every pair; any fault is an error. An expired certificate is a fault
// as well: no client would take it.
func New(o Options) (*Store, error) {
	s := &Store{o: o, digests: make([]digest, len(o.Pairs))}
	s.expiry, s.reloads = Declare(o.Registry)
	list := make([]tls.Certificate, len(o.Pairs))
	var errs []error
	for i, p := range o.Pairs {
		pem, err := read(p)
		if err == nil {
			s.digests[i] = pem.digest()
			list[i], err = pem.certificate(o.Clock.Now())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s.use(list)
	return s, nil
}

func (s *Store) use(list []tls.Certificate) {
	s.current.Store(&list)
	for i, c := range list {
		s.expiry.WithLabelValues(s.o.Pairs[i].Cert).Set(float64(c.Leaf.NotAfter.Unix()))
	}
}

// pair is what the files of a Pair hold.
type pair struct{ cert, key []byte }

func read(p Pair) (pair, error) {
	var out pair
	for _, f := range []struct {
		name string
		into *[]byte
	}{{p.Cert, &out.cert}, {p.Key, &out.key}} {
		info, err := os.Stat(f.name)
		if err != nil {
			return out, err
		}
		if info.Size() > maxFile {
			return out, fmt.Errorf("%s is larger than %d bytes", f.name, maxFile)
		}
		if *f.into, err = os.ReadFile(f.name); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (p pair) digest() digest {
	sum := sha256.New()
	for _, part := range [][]byte{p.cert, p.key} {
		one := sha256.Sum256(part)
		sum.Write(one[:])
	}
	return digest(sum.Sum(nil))
}

// certificate puts the pair together and checks that clients can take it.
func (p pair) certificate(now time.Time) (tls.Certificate, error) {
	c, err := tls.X509KeyPair(p.cert, p.key) // checks that the key is the leaf's
	if err != nil {
		return c, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return c, err
		}
	}
	switch {
	case now.After(c.Leaf.NotAfter):
		return c, fmt.Errorf("it expired on %s; renew it", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case len(c.Leaf.DNSNames) == 0 && len(c.Leaf.IPAddresses) == 0:
		return c, errors.New("it names no host (subjectAltName), so that no client takes it")
	}
	return c, nil
}

// Reload looks at the files now. Pairs that changed and are well are used from
// here on; of the others it returns what is wrong, once for each content.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := append([]tls.Certificate(nil), *s.current.Load()...)
	changed := false
	var errs []error
	for i, p := range s.o.Pairs {
		pem, err := read(p)
		sum := pem.digest()
		if err != nil {
			sum = sha256.Sum256([]byte(err.Error()))
		}
		if sum == s.digests[i] {
			continue
		}
		s.digests[i] = sum
		var c tls.Certificate
		if err == nil {
			c, err = pem.certificate(s.o.Clock.Now())
		}
		if err != nil {
			s.reloads.WithLabelValues("refused").Inc()
			errs = append(errs, fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err))
			continue
		}
		list[i], changed = c, true
		s.reloads.WithLabelValues("taken").Inc()
		s.o.Log.Info("a changed certificate is in use", "file", p.Cert, "names", c.Leaf.DNSNames, "expires", c.Leaf.NotAfter.UTC())
	}
	if changed {
		s.use(list)
	}
	return errors.Join(errs...)
}

// Run looks at the files every few seconds until ctx ends.
func (s *Store) Run(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.ReloadAndLog()
	}
}

// ReloadAndLog is Reload for those who have nobody to return an error to.
func (s *Store) ReloadAndLog() {
	if err := s.Reload(); err != nil {
		s.o.Log.Error("changed certificate files are not used; the certificates in use stay", "error", err)
	}
}

// Config is the listener's: HTTP/2 and HTTP/1.1 by ALPN are the server's to add.
func (s *Store) Config() *tls.Config {
	return &tls.Config{MinVersion: max(s.o.MinVersion, tls.VersionTLS12), GetCertificate: s.choose}
}

// choose takes the first certificate that the client can use: by the host that
// it names (SNI), and by the kinds of key that it knows.
func (s *Store) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := *s.current.Load()
	for i := range list {
		if hello.SupportsCertificate(&list[i]) == nil {
			return &list[i], nil
		}
	}
	return &list[0], nil
}
