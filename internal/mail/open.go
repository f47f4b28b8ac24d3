package mail

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"path/filepath"

	"landline/internal/clock"
)

// ErrNoServer says that production has no smtp.host: what needs mail cannot work.
var ErrNoServer = errors.New("mail: smtp.host is not set: name the server that takes messages over, or turn off what needs mail")

// Options are what a Sender needs beside the configuration.
type Options struct {
	DataDir    string      // of the node; messages without a server go to DataDir/mail
	Production bool        // without a server nothing is sent
	Trust      *tls.Config // nil = the system's certificate authorities
	Clock      clock.Clock
	Log        *slog.Logger
}

// SendCloser is a Sender that is closed when the node stops.
type SendCloser interface {
	Sender
	io.Closer
}

// Open returns the sender of the configuration, which must be checked: SMTP where
// there is a host, else a Sink, but ErrNoServer in production.
func Open(c Config, o Options) (SendCloser, error) {
	switch {
	case c.SMTP.Host != "":
		return NewSMTP(c, o.Trust, o.Clock)
	case o.Production:
		return nil, ErrNoServer
	}
	return NewSink(filepath.Join(o.DataDir, "mail"), c, o.Clock, o.Log)
}
