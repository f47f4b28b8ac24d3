package gateway

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"landline/internal/config"
	"landline/internal/gateway/aggregate"
	"landline/internal/gateway/cache"
)

// AggregateConfig makes one answer out of several calls (backend for frontend).
type AggregateConfig struct {
	Calls  map[string]*CallConfig `yaml:"calls" doc:"The calls by name, at most 16. A call runs as soon as those that it needs have answered, all others beside it."`
	Answer config.Raw             `yaml:"answer" doc:"The answer's form: objects, lists, and paths into what calls were answered; a path that may be absent ends with ?, and ... takes the members of an object in. Default: one member per call." example:"{airport: airport, board: departures.data}"`
	Fields bool                   `yaml:"fields" doc:"Whether apps may ask for a part of the answer with ?fields=a,b.c; calls that it does not need are then not made. Default: true."`
}

// Defaults fills the block before its keys are read.
func (c *AggregateConfig) Defaults() { *c = AggregateConfig{Fields: true} }

// String is the block as JSON: what tells one policy from another.
func (c *AggregateConfig) String() string { return asJSON(c) }

// String is the block as JSON.
func (c *GraphQLConfig) String() string { return asJSON(c) }

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error() // no such value is in a configuration
	}
	return string(b)
}

// CallConfig is one call of an aggregated route.
type CallConfig struct {
	Upstream    string             `yaml:"upstream" doc:"Which upstream answers." example:"flights"`
	Method      string             `yaml:"method" enum:"GET,POST,PUT,PATCH,DELETE" doc:"Method of the call; only routes that are no GET may have calls that write. Default: GET."`
	Path        string             `yaml:"path" doc:"Path and query at the upstream. {name} is a wildcard of match, {call.path} a value of another call's answer, {query.name} a parameter, {body.path} a member of the request's body, {user.id} and {installation.id} who calls. {query.name?} leaves its parameter out when it is missing." example:"/at/{airport.latitude},{airport.longitude}"`
	Query       []string           `yaml:"query" doc:"Parameters of the request's query that are passed on. Default: none." example:"[limit, cursor]"`
	Body        config.Raw         `yaml:"body" doc:"Body of the call; a text that is one reference alone, like \"{body.seats}\", becomes the value itself. {query.limit:int} (int, number, bool) makes a number of a text." example:"{flight: \"{body.flight}\", user: \"{user.id}\"}"`
	GraphQL     *CallGraphQLConfig `yaml:"graphql" doc:"The call is an operation of a GraphQL service."`
	After       NameList           `yaml:"after" doc:"Calls that must have succeeded before, besides those that the templates name." example:"[airport]"`
	Required    bool               `yaml:"required" doc:"Whether the whole answer fails with this call. A call that is not required and fails is named in the answer."`
	Timeout     config.Duration    `yaml:"timeout" doc:"Time for this call's whole answer, within the feature's timeout. Default: the feature's timeout." example:"300ms"`
	MaxResponse config.Bytes       `yaml:"max_response" doc:"Largest answer that is taken; a larger one is a failure. Default: 1MiB."`
	Fallback    *CallFallback      `yaml:"fallback" doc:"What stands in for the service's answer when the call fails; the answer says so."`
	Cache       *CacheConfig       `yaml:"cache" doc:"Answers to this call that may be given again; only for GET. Default: off."`

	Shaping `yaml:",inline"`
}

// Defaults fills a call before its keys are read.
func (c *CallConfig) Defaults() { *c = CallConfig{MaxResponse: defaultCallResponse} }

const (
	defaultCallResponse = 1 << 20
	maxCallResponse     = 16 << 20
	defaultGraphQLPath  = "/graphql"
)

// Shaping is what becomes of an answer before it is put together with others.
type Shaping struct {
	Flatten string            `yaml:"flatten" doc:"Takes what is at this path for the whole answer." example:"data.items"`
	Pick    []string          `yaml:"pick" doc:"Paths to keep; lists are gone through item by item. Default: everything." example:"[id, name, price.amount]"`
	Drop    []string          `yaml:"drop" doc:"Paths to leave out." example:"[internal_notes]"`
	Rename  map[string]string `yaml:"rename" doc:"New names of members, by path." example:"{iata_code: iata}"`
}

// CallFallback is what stands in for the answer of a call that failed.
type CallFallback struct {
	Body config.Raw `yaml:"body" doc:"Any YAML value, as if the service had answered it." example:"{data: []}"`
}

// CallGraphQLConfig makes a call an operation of a GraphQL service.
type CallGraphQLConfig struct {
	Persisted NameList   `yaml:"persisted" doc:"Documents that may be sent: each a GraphQL document, an Apollo persisted query manifest, or an object of documents by their SHA-256." example:"${file:queries.json}"`
	Operation string     `yaml:"operation" doc:"Name of the operation." example:"Home"`
	Variables config.Raw `yaml:"variables" doc:"The operation's variables, a template like a call's body." example:"{id: \"{id}\", first: \"{query.limit:int?}\"}"`
}

// GraphQLConfig makes a route an operation of a GraphQL service, or without an
// operation an endpoint that takes persisted documents alone.
type GraphQLConfig struct {
	Upstream    string       `yaml:"upstream" doc:"The GraphQL service." example:"graph"`
	Path        string       `yaml:"path" doc:"Its path. Default: /graphql."`
	Persisted   NameList     `yaml:"persisted" doc:"Documents that may be sent: each a GraphQL document, an Apollo persisted query manifest, or an object of documents by their SHA-256." example:"${file:queries.json}"`
	Operation   string       `yaml:"operation" doc:"Name of the one operation that this route is. Without it apps send the SHA-256 of a document (extensions.persistedQuery.sha256Hash), with GET or POST; any other document is refused." example:"FlightDetails"`
	Variables   config.Raw   `yaml:"variables" doc:"The operation's variables, a template: {name} is a wildcard of match, {query.name} a parameter, {body.path} a member of the body." example:"{id: \"{id}\"}"`
	MaxResponse config.Bytes `yaml:"max_response" doc:"Largest answer that is taken for an operation. Default: 1MiB."`

	Shaping `yaml:",inline"`
}

// Defaults fills the block before its keys are read.
func (c *GraphQLConfig) Defaults() {
	*c = GraphQLConfig{Path: defaultGraphQLPath, MaxResponse: defaultCallResponse}
}

// NameList is a list of texts that may be written as one text.
type NameList []string

// UnmarshalConfig reads one text.
func (l *NameList) UnmarshalConfig(decode func(into any) error) error {
	var one string
	if err := decode(&one); err != nil {
		return err
	}
	*l = NameList{one}
	return nil
}

// destinations counts the ways in which a route says where it ends.
func (r *RouteConfig) destinations() int {
	n := 0
	for _, there := range []bool{r.Upstream != "", r.Aggregate != nil, r.GraphQL != nil} {
		if there {
			n++
		}
	}
	return n
}

// plan compiles the aggregated route, or its faults.
func (c *AggregateConfig) plan(p pattern) (*aggregate.Plan, []*aggregate.Fault) {
	spec := aggregate.Spec{Method: p.method, Params: p.paramNames(), Answer: c.Answer, Fields: c.Fields, Calls: map[string]aggregate.CallSpec{}}
	var faults []*aggregate.Fault
	for _, name := range slices.Sorted(maps.Keys(c.Calls)) {
		call := c.Calls[name]
		if call == nil {
			faults = append(faults, &aggregate.Fault{Path: []any{"calls", name}, Hint: "write {upstream: flights, path: /airports}", Err: errEmptyCall})
			continue
		}
		cs := aggregate.CallSpec{
			Method: call.Method, Path: call.Path, Query: call.Query, Body: call.Body, After: call.After, Required: call.Required,
			Flatten: call.Flatten, Pick: call.Pick, Drop: call.Drop, Rename: call.Rename,
		}
		if call.Fallback != nil {
			cs.Fallback = call.Fallback.Body
		}
		if q := call.GraphQL; q != nil {
			op, fs := operationOf(q.Persisted, q.Operation, q.Variables)
			faults = append(faults, moved(fs, "calls", name, "graphql")...)
			cs.GraphQL, cs.Body = op, q.Variables
			if cs.Path == "" {
				cs.Path = defaultGraphQLPath
			}
		}
		spec.Calls[name] = cs
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return aggregate.Compile(spec)
}

// operationCall is the name of the call of a route that is one operation.
const operationCall = "operation"

// plan compiles a route that is one operation, or its faults.
func (c *GraphQLConfig) plan(p pattern) (*aggregate.Plan, []*aggregate.Fault) {
	op, faults := operationOf(c.Persisted, c.Operation, c.Variables)
	if len(faults) > 0 {
		return nil, faults
	}
	plan, faults := aggregate.Compile(aggregate.Spec{
		Method: p.method, Params: p.paramNames(), Root: operationCall, Fields: true,
		Calls: map[string]aggregate.CallSpec{operationCall: {
			Path: c.path(), Body: c.Variables, Required: true, GraphQL: op,
			Flatten: c.Flatten, Pick: c.Pick, Drop: c.Drop, Rename: c.Rename,
		}},
	})
	for _, f := range faults { // there is no calls.operation in the file
		if len(f.Path) >= 2 && f.Path[0] == "calls" {
			f.Path = f.Path[2:]
		}
		if len(f.Path) > 0 && f.Path[0] == "body" {
			f.Path[0] = "variables"
		}
	}
	return plan, faults
}

func (c *GraphQLConfig) path() string {
	if c.Path == "" {
		return defaultGraphQLPath
	}
	return c.Path
}

// operationOf finds the operation in its allow-list.
func operationOf(persisted []string, name string, variables config.Raw) (*aggregate.Operation, []*aggregate.Fault) {
	fault := func(err error, hint string, path ...any) []*aggregate.Fault {
		return []*aggregate.Fault{{Path: path, Hint: hint, Err: err}}
	}
	if v := strings.TrimSpace(string(variables)); v != "" && v[0] != '{' {
		return nil, fault(errVariables, `write variables: {id: "{id}"}`, "variables")
	}
	list, err := aggregate.ParsePersisted(persisted)
	if err != nil {
		return nil, fault(err, "write persisted: ${file:queries.json}", "persisted")
	}
	op, err := list.Named(name)
	if err != nil {
		return nil, fault(err, "", "operation")
	}
	if op.Type == "subscription" {
		return nil, fault(errSubscription, "choose a query or a mutation", "operation")
	}
	return op, nil
}

// moved puts faults under a place.
func moved(faults []*aggregate.Fault, to ...any) []*aggregate.Fault {
	for _, f := range faults {
		f.Path = append(slices.Clone(to), f.Path...)
	}
	return faults
}

// aggregate checks a route's block aggregate.
func (c *checker) aggregate(v *config.Validator, a *AggregateConfig, p pattern) {
	for _, name := range slices.Sorted(maps.Keys(a.Calls)) {
		call := a.Calls[name]
		if call == nil {
			continue
		}
		at := v.At("calls", name)
		c.knownUpstream(at, call.Upstream)
		if call.Timeout != 0 || at.At("timeout").Has() {
			checkDuration(at.At("timeout"), call.Timeout, minTimeout, maxTimeout)
		}
		checkSize(at.At("max_response"), call.MaxResponse, 1, maxCallResponse)
		if call.Path == "" && call.GraphQL == nil {
			at.Fault("write path: /airports/{iata}", "the call needs a path")
		}
		if call.GraphQL != nil && (call.Method != "" || len(call.Body) > 0) {
			at.At("graphql").Fault("remove method and body", "a GraphQL call is a POST with its variables")
		}
		if call.Cache != nil {
			at := at.At("cache")
			if call.GraphQL != nil || call.Method != "" && call.Method != "GET" {
				at.Fault("remove it", "only a GET can be cached")
			}
			checkSize(at.At("max_body"), call.Cache.MaxBody, 1, max(cache.LargestFor(int64(c.settings.Cache.Memory))-64<<10, 1))
		}
		if f := call.Fallback; f != nil && len(f.Body) == 0 {
			at.At("fallback").Fault("write fallback: {body: {data: []}}", "the fallback needs a body")
		}
	}
	plan, faults := a.plan(p)
	reportFaults(v, faults)
	if plan == nil {
		return
	}
	for _, call := range plan.Calls {
		if _, err := checkPath(call.Target.Sample()); err != nil {
			v.At("calls", call.Name, "path").Fault("", "%s", err)
		}
	}
}

func (c *checker) knownUpstream(v *config.Validator, name string) {
	switch {
	case name == "":
		v.Fault("write upstream: <name>", "it needs an upstream")
	case c.settings.Upstreams[name] == nil:
		v.At("upstream").Fault(known("upstreams", slices.Sorted(maps.Keys(c.settings.Upstreams))), "there is no upstream %q", name)
	}
}

func reportFaults(v *config.Validator, faults []*aggregate.Fault) {
	for _, f := range faults {
		v.At(f.Path...).Fault(f.Hint, "%s", f.Err)
	}
}

// graphql checks a route's block graphql.
func (c *checker) graphql(v *config.Validator, q *GraphQLConfig, p pattern) {
	c.knownUpstream(v, q.Upstream)
	checkSize(v.At("max_response"), q.MaxResponse, 1, maxCallResponse)
	if q.Operation != "" {
		plan, faults := q.plan(p)
		reportFaults(v, faults)
		if plan != nil {
			if _, err := checkPath(plan.Calls[0].Target.Sample()); err != nil {
				v.At("path").Fault("", "%s", err)
			}
		}
		return
	}
	if _, err := aggregate.ParsePersisted(q.Persisted); err != nil {
		v.At("persisted").Fault("write persisted: ${file:queries.json}", "%s", err)
	}
	if p.method != "" && p.method != "GET" && p.method != "POST" {
		v.Fault(`write match: "/v1/graphql"`, "GraphQL is asked with GET and POST")
	}
	if _, err := parseTemplate(q.path(), pattern{}); err != nil {
		v.At("path").Fault("", "%s", err)
	}
	for key, there := range map[string]bool{"variables": len(q.Variables) > 0, "flatten": q.Flatten != "", "pick": len(q.Pick) > 0, "drop": len(q.Drop) > 0, "rename": len(q.Rename) > 0} {
		if there {
			v.At(key).Fault("name the operation, or remove it", "it is for a route that is one operation")
		}
	}
}
