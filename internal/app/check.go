package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"landline/internal/config"
)

// CheckConfig reads a configuration the way New does and builds what it
// describes on a throw-away database, so that it finds all that New would find
// but what depends on this machine. It returns the files that it read.
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
		for _, named := range featureNamed.FindAllStringSubmatch(line, -1) {
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
