package app

import (
	"cmp"
	"slices"

	"landline/internal/config"
	"landline/internal/module"
)

// environmentVariable names the environment when Options do not.
const environmentVariable = "LANDLINE_ENV"

// loaded is a configuration that was read.
type loaded struct {
	settings     *Settings
	sections     []config.Section
	capabilities []module.Capability
	source       *config.Source
}

// load reads the configuration into fresh Settings.
func load(o Options) (*Settings, []config.Section, []module.Capability, error) {
	l, err := read(o)
	if err != nil {
		return nil, nil, nil, err
	}
	return l.settings, l.sections, l.capabilities, nil
}

// read is load, and tells where every value was written.
func read(o Options) (*loaded, error) {
	s := defaults()
	all := slices.Concat(capabilities(), o.Extra)
	l := &loaded{settings: s, sections: s.sections(all), capabilities: all}
	var err error
	switch {
	case o.ConfigData == nil:
		l.source, err = config.Read(o.ConfigPath, l.sections, o.overlaid())
	case o.asFile:
		l.source, err = config.ReadBytes(o.ConfigPath, o.ConfigData, l.sections, o.overlaid())
	default:
		l.source, err = config.ReadBytes("landline.yaml", o.ConfigData, l.sections, o.Env)
	}
	if err != nil {
		return nil, withExit(ExitConfig, err)
	}
	s.Listen.Public = cmp.Or(o.Public, s.Listen.Public)
	s.Listen.Admin = cmp.Or(o.Admin, s.Listen.Admin)
	s.DataDir = cmp.Or(o.Data, s.DataDir)
	return l, nil
}

// overlaid is Env with the overlay that the options or the environment name.
func (o Options) overlaid() config.Env {
	env := o.Env
	env.Overlay = o.Environment
	if env.Overlay == "" && env.Lookup != nil {
		if name, ok := env.Lookup(environmentVariable); ok {
			env.Overlay = name
		}
	}
	return env
}
