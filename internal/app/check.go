package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/gateway/certs"
)

// CheckConfig reads a configuration the way New does and builds what it
// describes on a throw-away database, so that it finds all that New would find
// but what depends on this machine: addresses that are taken, databases. The
// files of certificates are looked at. It returns the files that it read.
func CheckConfig(ctx context.Context, o Options) (files []string, err error) {
	l, err := read(o)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "landline-check-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := checkCertificates(l); err != nil {
		return nil, err
	}
	s := *l.settings
	s.Profile, s.DataDir, s.Database.URL, s.Redis.URL, s.Secrets.MasterKey, s.Tracing.Endpoint = Development, dir, "", "", "", ""
	if s.App.PublicURL == "" {
		s.App.PublicURL = "http://" + s.Listen.Public
	}
	log := slog.New(slog.DiscardHandler)
	a := &App{options: o, settings: &s, sections: l.sections, source: l.source, log: log, level: new(slog.LevelVar)}
	if a.kernel, err = openKernel(ctx, &s, o.Version, log, l.capabilities); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.abandon(context.WithoutCancel(ctx))) }()
	if err := a.build(l.capabilities); err != nil {
		return nil, err
	}
	return l.source.Files, nil
}

// checkCertificates reads the files of listen.tls and tells what is wrong with
// each where it is written.
func checkCertificates(l *loaded) error {
	if l.settings.Listen.TLS == nil {
		return nil
	}
	var faults config.Faults
	for i, pair := range l.settings.Listen.TLS.pairs() {
		err := certs.Check(pair, clock.System.Now())
		if err == nil {
			continue
		}
		fault := config.Fault{Path: "listen.tls", Message: fmt.Sprintf("certificate %s with key %s: %v", pair.Cert, pair.Key, err),
			Hint: "the chain goes into cert, leaf first, and the leaf's key into key, both PEM"}
		if i > 0 {
			fault.Path = fmt.Sprintf("listen.tls.certificates[%d]", i-1)
		}
		fault.File, fault.Line, fault.Col = l.source.Where(fault.Path)
		faults = append(faults, fault)
	}
	if len(faults) > 0 {
		return withExit(ExitConfig, faults)
	}
	return nil
}

var featureNamed = regexp.MustCompile(`\bfeature "?([A-Za-z0-9_.-]+)"?`)

// located turns what the gateway found, which knows features but not files,
// into faults with the place where the feature is written.
func located(source *config.Source, err error) error {
	var faults config.Faults
	if err == nil || errors.As(err, &faults) {
		return err
	}
	for line := range strings.Lines(err.Error()) {
		fault := config.Fault{Path: "features", Message: strings.TrimSpace(line)}
		if key, _, ok := strings.Cut(fault.Message, ": "); ok && key == "maintenance.allow" {
			fault.File, fault.Line, fault.Col = source.Where(key)
			fault.Path = key
		}
		for _, named := range featureNamed.FindAllStringSubmatch(line, -1) {
			if fault.Line > 0 {
				break
			}
			path := "features." + strings.TrimRight(named[1], ".")
			if file, at, col := source.Where(path); at > 0 {
				fault.File, fault.Line, fault.Col, fault.Path = file, at, col, path
				break
			}
		}
		if fault.Line == 0 {
			fault.File, fault.Line, fault.Col = source.Where(fault.Path)
		}
		faults = append(faults, fault)
	}
	return withExit(ExitConfig, faults)
}
