package app

import (
	"context"
	"io"
	"strings"

	"landline/internal/admin"
	"landline/internal/audit"
	"landline/internal/config"
	"landline/internal/gateway"
	"landline/internal/sqldb"
)

// Reload reads the configuration file again. It is validated whole first; then
// the sections that may change while running are swapped in one step and no
// request is dropped. Any fault, or a change of a key that needs a restart,
// changes nothing and is returned as config.Faults.
func (a *App) Reload(ctx context.Context) (admin.ReloadReport, error) {
	a.reload.Lock()
	defer a.reload.Unlock()
	if a.options.ConfigData != nil {
		return admin.ReloadReport{}, errBuiltIn
	}
	read, err := read(a.options)
	if err != nil {
		a.log.Error("reload refused: nothing was changed", "error", err)
		return admin.ReloadReport{}, err
	}
	next := read.settings
	if next.App.PublicURL == "" {
		next.App.PublicURL = a.settings.App.PublicURL // filled in at start from the listener
	}
	report, err := a.compare(read)
	if err != nil {
		a.log.Error("reload refused: nothing was changed", "error", err)
		return report, err
	}
	if err := located(read.source, a.gateway.Apply(next.Gateway, a.modules)); err != nil {
		a.log.Error("reload refused: nothing was changed", "error", err)
		return admin.ReloadReport{}, err
	}
	if err := a.kernel.webhooks.Apply(next.Webhooks); err != nil { // the configuration was checked
		a.log.Error("the endpoints of webhooks stay as they were", "error", err)
	}
	if a.certs != nil {
		a.certs.ReloadAndLog()
	}
	a.setLogLevel(next.Log.Level)
	a.clientIP.Set(gateway.ClientIPMode(next.Log.ClientIP))
	a.settings, a.sections, a.source = next, read.sections, read.source
	a.log.Info("configuration reloaded", "changed", report.Changed, "files", len(read.source.Files))
	return report, nil
}

// errBuiltIn is told when there is no file to read again.
var errBuiltIn = withExit(ExitConfig, config.Faults{{
	File: "landline.yaml", Message: "this Landline runs on a built-in configuration, which cannot be reloaded",
	Hint: "write it to a file with `landline init` and start with --config",
}})

// compare lists what differs from the running configuration; a difference in a
// section that needs a restart is a fault.
func (a *App) compare(next *loaded) (admin.ReloadReport, error) {
	report := admin.ReloadReport{Changed: []string{}}
	var faults config.Faults
	for i, section := range next.sections {
		paths, err := config.Changed(a.sections[i], section)
		if err != nil {
			return report, err
		}
		for _, path := range paths {
			if section.Reloadable && path != "log.format" { // the handler of the log is made once
				report.Changed = append(report.Changed, path)
				continue
			}
			fault := config.Fault{Path: path, Message: "this key cannot change while Landline runs", Hint: "restart to apply it, or put the old value back"}
			if fault.File, fault.Line, fault.Col = next.source.Where(path); fault.Line == 0 { // the key was removed
				fault.File, fault.Line, fault.Col = a.options.ConfigPath, 1, 1
			}
			faults = append(faults, fault)
		}
	}
	if len(faults) > 0 {
		return admin.ReloadReport{}, faults
	}
	return report, nil
}

// validate checks a configuration file without using it.
func (a *App) validate(_ context.Context, yaml []byte) error {
	o := a.options
	o.asFile = o.ConfigData == nil
	o.ConfigData = yaml
	l, err := read(o)
	if err != nil {
		return err
	}
	return located(l.source, a.gateway.Check(l.settings.Gateway, a.modules))
}

// printConfig writes the effective configuration, secrets redacted.
func (a *App) printConfig(w io.Writer) error {
	a.reload.Lock()
	defer a.reload.Unlock()
	return config.Print(w, a.sections)
}

// PrintConfig writes the effective configuration of a file, secrets redacted.
func PrintConfig(w io.Writer, o Options) error {
	_, sections, _, err := load(o)
	if err != nil {
		return err
	}
	return config.Print(w, sections)
}

// WriteDefault writes the commented configuration file of `landline init`.
func WriteDefault(w io.Writer) error {
	return config.Commented(w, defaults().sections(capabilities()))
}

// ReloadOnSignal reloads for SIGHUP; the log and the audit record tell what came of it.
func (a *App) ReloadOnSignal(ctx context.Context) {
	report, err := a.Reload(ctx)
	entry := audit.Entry{Action: "config.reload", Reason: "SIGHUP", After: report}
	if err != nil {
		entry.Action, entry.After = "config.reload_refused", nil
		for _, line := range strings.Split(err.Error(), "\n") {
			a.log.Error("configuration fault", "fault", line)
		}
	}
	err = a.kernel.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return a.kernel.audit.Record(ctx, tx, entry) })
	if err != nil {
		a.log.Error("a reload could not be audited", "error", err)
	}
}
