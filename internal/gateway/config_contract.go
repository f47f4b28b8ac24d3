package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"landline/internal/config"
	"landline/internal/gateway/contract"
)

// What is done about a difference from a contract.
const (
	contractEnforce = "enforce"
	contractReport  = "report"
	contractOff     = "off"
)

// ContractConfig says how a feature's traffic is checked against an OpenAPI document.
type ContractConfig struct {
	Document    string       `yaml:"document" doc:"OpenAPI 3.0 or 3.1 document, YAML or JSON; a relative path begins at the folder of the configuration file. A route's own contract comes first." example:"contracts/flights-v2.yaml"`
	Requests    string       `yaml:"requests" enum:"enforce,report,off" doc:"enforce: a request that differs is refused with 400 contract_violation; report: it is passed on and counted."`
	Responses   string       `yaml:"responses" enum:"enforce,report,off" doc:"report: an answer that differs is counted, without delay; enforce: it is held back and becomes 502 upstream_invalid. Streams and bodies above max_body are passed on unchecked."`
	Sample      float64      `yaml:"sample" min:"0" max:"1" doc:"Share of the answers that are checked. 0 means 0.01 for report and 1 for enforce." example:"0.01"`
	MaxBody     config.Bytes `yaml:"max_body" doc:"Largest body that is checked: it is held in memory. With requests: enforce a larger request whose body the document describes is refused with 413." example:"1MiB"`
	Conventions bool         `yaml:"conventions" doc:"Check also that JSON errors are problems (RFC 9457) with a code, and lists objects of data and page. A document can ask for it with x-landline-conventions: true."`
}

// Defaults fills the block before its keys are read.
func (c *ContractConfig) Defaults() {
	*c = ContractConfig{Requests: contractEnforce, Responses: contractReport, MaxBody: 1 << 20}
}

// UnmarshalConfig reads the short form, the document alone.
func (c *ContractConfig) UnmarshalConfig(decode func(into any) error) error {
	return decode(&c.Document)
}

// Check finds the faults.
func (c *ContractConfig) Check(v *config.Validator) {
	checkSize(v.At("max_body"), c.MaxBody, 1<<10, 16<<20)
}

// orDefaults is c with its zero values replaced, for configurations made in Go.
func (c ContractConfig) orDefaults() ContractConfig {
	var d ContractConfig
	d.Defaults()
	c.Requests, c.Responses = cmp.Or(c.Requests, d.Requests), cmp.Or(c.Responses, d.Responses)
	c.MaxBody = cmp.Or(c.MaxBody, d.MaxBody)
	if c.Sample == 0 {
		c.Sample = 1
		if c.Responses == contractReport {
			c.Sample = 0.01
		}
	}
	return c
}

// contractOf is the feature's contract as it counts for a route; Document is ""
// when the route has none.
func (f *FeatureConfig) contractOf(r RouteConfig) ContractConfig {
	var c ContractConfig
	if f.Contract != nil {
		c = *f.Contract
	}
	switch r.Contract {
	case "":
	case contractOff:
		c.Document = ""
	default:
		c.Document = r.Contract
	}
	return c.orDefaults()
}

// routeContract is what a route's traffic is checked against.
type routeContract struct {
	config   ContractConfig
	binding  *contract.Binding
	upstream *pathTemplate // not nil: the document describes the paths of the service, not of the client
}

// contractKey is a route of the configuration.
type contractKey struct{ feature, match, version string }

// errNoOperation says that a document does not have the route.
var errNoOperation = errors.New("the document has no operation for it")

// bindContract finds a route in its document: by the path that clients use, or
// else by the path at the upstream.
func bindContract(d *contract.Document, c ContractConfig, r RouteConfig, p pattern) (*routeContract, error) {
	if b := d.Bind(p.method, p.path()); b != nil {
		return &routeContract{config: c, binding: b}, nil
	}
	if r.Path != "" {
		template, err := parseTemplate(r.Path, p)
		if err != nil {
			return nil, err
		}
		if b := d.Bind(p.method, r.Path); b != nil {
			return &routeContract{config: c, binding: b, upstream: template}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w (%d operations)", r.Match, errNoOperation, len(d.Operations))
}

// contracts loads documents, each once.
type contracts struct {
	loaded map[string]loadedContract
}

type loadedContract struct {
	document *contract.Document
	err      error
}

func (c *contracts) load(full string, load func() (*contract.Document, error)) (*contract.Document, error) {
	if l, ok := c.loaded[full]; ok {
		return l.document, l.err
	}
	if c.loaded == nil {
		c.loaded = map[string]loadedContract{}
	}
	d, err := load()
	c.loaded[full] = loadedContract{d, err}
	return d, err
}

// contracts checks the contracts of a feature's routes, and keeps them for Apply.
func (c *checker) contracts(v *config.Validator, name string, f *FeatureConfig) {
	if len(f.Routes) == 0 {
		if f.Contract != nil {
			v.At("contract").Fault("remove it", "a built-in feature has a contract of its own: GET /openapi.yaml")
		}
		return
	}
	if f.Contract != nil && f.Contract.Document == "" && f.Contract.Requests != contractOff {
		has := false
		for _, r := range f.Routes {
			has = has || r.Contract != ""
		}
		if !has {
			v.At("contract").Fault("write document: contracts/api.yaml, or contract at a route", "the contract names no document")
		}
	}
	for i, r := range f.Routes {
		own := f.contractOf(r)
		if own.Document == "" {
			continue
		}
		at := v.At("contract")
		if r.Contract != "" {
			at = v.At("routes", i, "contract")
		} else if at.At("document").Has() {
			at = at.At("document")
		}
		p, err := parsePattern(r.Match)
		if err != nil {
			continue // told already
		}
		d, err := c.document(at, own.Document)
		if err != nil {
			contractFaults(at, err, c.told)
			continue
		}
		rc, err := bindContract(d, own, r, p)
		if err != nil {
			at.Fault("add the operation to the document, or write contract: off at the route", "%s: %s", d.Name, err)
			continue
		}
		if c.settings.contracts == nil {
			c.settings.contracts = map[contractKey]*routeContract{}
		}
		c.settings.contracts[contractKey{name, r.Match, r.Version}] = rc
	}
}

// document loads a document once for all routes of a configuration.
func (c *checker) document(v *config.Validator, name string) (*contract.Document, error) {
	return c.documents.load(v.Beside(name), func() (*contract.Document, error) {
		dir, base := "", name
		if filepath.IsAbs(name) {
			dir, base = filepath.Dir(name), filepath.Base(name)
		}
		return contract.Load(filepath.ToSlash(base), func(file string) ([]byte, error) { return v.ReadFile(filepath.Join(dir, filepath.FromSlash(file))) })
	})
}

// contractFaults tells the faults of a document once, however many routes name it.
func contractFaults(v *config.Validator, err error, told map[string]bool) {
	var many contract.Faults
	if !errors.As(err, &many) {
		if text := err.Error(); !told[text] {
			told[text] = true
			v.Fault("a relative path begins at the folder of the configuration file", "%s", text)
		}
		return
	}
	for _, f := range many {
		if !told[f.Error()] {
			told[f.Error()] = true
			v.Fault("correct the document; `landline contract check` tells all of it", "%s", f)
		}
	}
}

// contractOf is the contract of a route of the table, nil for none. What the
// check of the configuration has loaded is used; settings made in Go name files
// relative to the working directory.
func (t *table) contractOf(rt *Route) (*routeContract, error) {
	f := t.settings.Features[rt.Feature]
	if rt.BuiltIn || f == nil {
		return nil, nil
	}
	if rc := t.settings.contracts[contractKey{rt.Feature, rt.Match, rt.Version}]; rc != nil {
		return rc, nil
	}
	for _, r := range f.Routes {
		if r.Match != rt.Match || r.Version != rt.Version {
			continue
		}
		own := f.contractOf(r)
		if own.Document == "" {
			return nil, nil
		}
		d, err := t.documents.load(own.Document, func() (*contract.Document, error) {
			dir, base := filepath.Split(own.Document)
			return contract.Load(base, func(name string) ([]byte, error) {
				return os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))) // #nosec G304 -- the operator names the file
			})
		})
		if err != nil {
			return nil, err
		}
		return bindContract(d, own, r, rt.pattern)
	}
	return nil, nil
}

// screenName is what a screen of the app may be called: it becomes a label of metrics.
var screenName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// maxScreens bounds the screens of one feature.
const maxScreens = 64

func checkScreens(v *config.Validator, list []string) {
	if len(list) > maxScreens {
		v.Fault("name the screens that cannot do without it", "a feature has at most %d screens", maxScreens)
	}
	seen := map[string]bool{}
	for i, name := range list {
		switch {
		case !screenName.MatchString(name):
			v.At(i).Fault("use lower-case letters, digits, _ and -, at most 63, beginning with a letter", "%q cannot be the name of a screen", name)
		case seen[name]:
			v.At(i).Fault("remove one", "the screen %q is there twice", name)
		}
		seen[name] = true
	}
}
