package app

import (
	"crypto/tls"
	"errors"
	"net"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/gateway"
	"landline/internal/gateway/certs"
)

// TLSSettings make the public listener speak TLS itself.
type TLSSettings struct {
	Cert         string            `yaml:"cert" doc:"PEM file of the certificate with its chain, the leaf first. It is for clients that name no host, or one that no other certificate has." example:"/etc/landline/api.pem"`
	Key          string            `yaml:"key" doc:"PEM file of its private key." example:"/etc/landline/api.key"`
	Certificates []CertificateFile `yaml:"certificates" doc:"Certificates for further hosts; clients name theirs (SNI)."`
	MinVersion   string            `yaml:"min_version" enum:"1.2,1.3" doc:"Oldest version of TLS that is spoken."`
}

// CertificateFile is one further certificate.
type CertificateFile struct {
	Cert string `yaml:"cert" doc:"PEM file of the certificate with its chain." example:"/etc/landline/beta.pem"`
	Key  string `yaml:"key" doc:"PEM file of its private key." example:"/etc/landline/beta.key"`
}

// Defaults fills the block before its keys are read.
func (t *TLSSettings) Defaults() { *t = TLSSettings{MinVersion: "1.2"} }

// maxCertificates bounds the certificates of one listener.
const maxCertificates = 1000

func (t *TLSSettings) check(v *config.Validator) {
	if len(t.Certificates) > maxCertificates {
		v.At("certificates").Fault("", "at most %d certificates are allowed", maxCertificates)
	}
	complete := func(v *config.Validator, cert, key string) {
		if cert == "" || key == "" {
			v.Fault("write the files of both", "a certificate needs cert and key")
		}
	}
	complete(v, t.Cert, t.Key)
	for i, c := range t.Certificates {
		complete(v.At("certificates", i), c.Cert, c.Key)
	}
}

// pairs lists the files of every certificate, that of cert and key first.
func (t *TLSSettings) pairs() []certs.Pair {
	all := []certs.Pair{{Cert: t.Cert, Key: t.Key}}
	for _, c := range t.Certificates {
		all = append(all, certs.Pair{Cert: c.Cert, Key: c.Key})
	}
	return all
}

// openCertificates reads the certificates of listen.tls, if there are any.
func (a *App) openCertificates() error {
	certs.Declare(a.kernel.registry) // also where there is no TLS: the page of metrics has them
	t := a.settings.Listen.TLS
	if t == nil {
		return nil
	}
	o := certs.Options{Pairs: t.pairs(), MinVersion: tls.VersionTLS12, Clock: clock.System, Log: a.log, Registry: a.kernel.registry}
	if t.MinVersion == "1.3" {
		o.MinVersion = tls.VersionTLS13
	}
	var err error
	if a.certs, err = certs.New(o); err != nil {
		return withExit(ExitConfig, errors.Join(errors.New("listen.tls cannot be used"), err))
	}
	return nil
}

// publicServer returns the public listener's server and how it serves: over TLS
// if that is configured.
func (a *App) publicServer() (gateway.Server, func(net.Listener) error) {
	if a.certs == nil && a.settings.Listen.Server == ServerAuto {
		srv := a.gateway.Server()
		return srv, srv.Serve
	}
	srv := a.gateway.StandardServer()
	if a.certs == nil {
		return srv, srv.Serve
	}
	srv.TLSConfig = a.certs.Config()
	return srv, func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
}

// door bounds the connections of the public listener, which srv serves.
func (a *App) door(srv gateway.Server) net.Listener {
	most := int64(a.settings.Listen.Connections)
	if most == 0 {
		most = doorFor()
	}
	var room func() bool
	if s, ok := srv.(interface{ CloseIdle() bool }); ok {
		room = s.CloseIdle
	}
	return newDoor(a.public, most, room, a.certs == nil, a.kernel.registry, a.log)
}
