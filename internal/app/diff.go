package app

import (
	"context"
	"errors"

	"landline/internal/admin"
	"landline/internal/config"
)

// diff says what a reload would change, without doing it: of the configuration
// file as it is now, or of yaml when that is not nil.
func (a *App) diff(_ context.Context, yaml []byte) (admin.ConfigDiff, error) {
	a.reload.Lock()
	defer a.reload.Unlock()
	o := a.options
	switch {
	case yaml != nil:
		o.asFile = o.ConfigData == nil
		o.ConfigData = yaml
	case o.ConfigData != nil:
		return admin.ConfigDiff{}, errBuiltIn
	}
	next, err := read(o)
	if err != nil {
		return admin.ConfigDiff{}, err
	}
	if next.settings.App.PublicURL == "" {
		next.settings.App.PublicURL = a.settings.App.PublicURL // filled in at start from the listener
	}
	d, err := differences(a.sections, next)
	if err != nil {
		return d, err
	}
	return d, located(next.source, a.gateway.Check(next.settings.Gateway, a.modules))
}

// DiffConfig says what becomes another value when the configuration of next
// takes the place of that of old. It opens nothing.
func DiffConfig(old, next Options) (admin.ConfigDiff, error) {
	before, errOld := read(old)
	after, errNext := read(next)
	if err := errors.Join(errOld, errNext); err != nil {
		return admin.ConfigDiff{}, withExit(ExitConfig, err)
	}
	return differences(before.sections, after)
}

// differences compares section by section.
func differences(old []config.Section, next *loaded) (admin.ConfigDiff, error) {
	d := admin.ConfigDiff{Changes: []admin.ConfigChange{}}
	for i, section := range next.sections {
		changes, err := config.Diff(old[i], section)
		if err != nil {
			return d, err
		}
		for _, c := range changes {
			change := admin.ConfigChange{Path: c.Path, Old: c.Old, New: c.New, Secret: c.Secret, Restart: !section.Reloadable || c.Path == "log.format"}
			change.File, change.Line, change.Col = next.source.Where(c.Path)
			d.Restart = d.Restart || change.Restart
			d.Changes = append(d.Changes, change)
		}
	}
	return d, nil
}
