package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/queue"
	"landline/internal/rest"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// Options say what the admin listener shows and changes. DB, Audit, Ring,
// Registry, Health and Queue must be there, and so must the functions.
type Options struct {
	DB          *sqldb.DB
	Audit       *audit.Log
	Ring        *secret.Ring
	Clock       clock.Clock  // nil = clock.System
	Log         *slog.Logger // nil = slog.Default()
	Registry    *prometheus.Registry
	Health      *observe.Health
	Development bool     // causes in problem bodies; profiles from loopback without a token
	Version     string   // of this binary
	Hosts       []string // names the listener may be addressed by, besides localhost and IP addresses

	Reload      func(ctx context.Context) (ReloadReport, error)                             // config.Faults when nothing was changed
	Validate    func(ctx context.Context, yaml []byte) error                                // config.Faults when it is not valid
	Diff        func(ctx context.Context, yaml []byte) (ConfigDiff, error)                  // what a reload would change; of this text when it is not nil
	PrintConfig func(io.Writer) error                                                       // the effective configuration, secrets redacted
	Features    func() []FeatureStatus                                                      //
	Upstreams   func() []UpstreamStatus                                                     //
	Violations  func(feature string) []module.ContractViolation                             // of one feature, of all for ""; nil = not shown
	Screens     func() []module.Screen                                                      // nil = not shown
	PurgeCache  func(ctx context.Context, feature, key, url string) (purged int, err error) // stored answers: all of a feature, or those with a key, or of a URL; nil = no such operation
	Pending     func(ctx context.Context) (migrations int, err error)                       // migrations that have not run; nil = not known, shown as 0
	Bus         bus.Bus                                                                     // tells other nodes of operators who lost their rights; nil = there are none
	Queue       *queue.Queue
	Modules     []*module.Module // their Admin operations are mounted
}

// FeatureStatus is how one feature is doing.
type FeatureStatus = module.FeatureStatus

// UpstreamStatus is how one upstream is doing.
type UpstreamStatus = module.UpstreamStatus

// Server is the admin listener's handler with its OpenAPI document.
type Server struct {
	o         Options
	operators *Operators
	limit     *failureLimit
	metrics   *metrics
	known     *lastKnown
	live      *liveTokens
	started   time.Time
	api       huma.API
	handler   http.Handler
}

// ReloadReport says what a reload changed.
type ReloadReport struct {
	Changed []string `json:"changed" doc:"Paths of the keys that differ." nullable:"false"`
}

// requestTimeout bounds one call of the API; profiles run as long as they are asked to.
const requestTimeout = 30 * time.Second

// New builds the handler. It makes the operators' key on first use.
func New(o Options) (*Server, error) {
	if o.Clock == nil {
		o.Clock = clock.System
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	for name, missing := range map[string]bool{
		"DB": o.DB == nil, "Audit": o.Audit == nil, "Ring": o.Ring == nil, "Registry": o.Registry == nil, "Health": o.Health == nil,
		"Queue": o.Queue == nil, "Reload": o.Reload == nil, "Validate": o.Validate == nil, "PrintConfig": o.PrintConfig == nil, "Diff": o.Diff == nil,
		"Features": o.Features == nil, "Upstreams": o.Upstreams == nil,
	} {
		if missing {
			return nil, errors.New("admin: Options." + name + " is missing")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	ops, err := NewOperators(ctx, o.DB, o.Ring, o.Audit, o.Clock)
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, operators: ops, limit: newFailureLimit(o.Clock), metrics: newMetrics(o.Registry), known: newLastKnown(o.Clock), started: o.Clock.Now(),
	}
	s.live = &liveTokens{operators: ops, clock: o.Clock, log: o.Log}
	s.followOperators()
	mux := http.NewServeMux()
	s.api = newAPI(mux, o.Version)
	s.api.UseMiddleware(s.authorise)
	s.registerAll()
	s.mountPlain(mux)
	mux.Handle("/", rest.NotFound(mux))
	s.handler = s.edge(s.guard(s.authenticate(mux)))
	return s, nil
}

// changedOperator tells that an operator was removed, or has another role or token.
type changedOperator struct {
	ID string `json:"id"`
}

var operatorTopic = bus.Topic[changedOperator]{Name: "admin.operator"}

// followOperators forgets operators who changed on any node; their next request
// asks the database. The subscriptions end with the bus.
func (s *Server) followOperators() {
	s.operators.changed = func(ctx context.Context, operatorID string) {
		s.known.forget(operatorID)
		if s.o.Bus == nil {
			return
		}
		if err := operatorTopic.Publish(context.WithoutCancel(ctx), s.o.Bus, changedOperator{operatorID}); err != nil {
			s.o.Log.WarnContext(ctx, "a change of an operator could not be published; nodes without the database may know the old token for some minutes", "operator", operatorID, "error", err)
		}
	}
	if s.o.Bus != nil {
		operatorTopic.Subscribe(s.o.Bus, func(c changedOperator) { s.known.forget(c.ID) })
		s.o.Bus.OnGap(func() { s.known.forget("") })
	}
}

// newAPI returns the API with its document: every operation takes a token and
// names the least role that may call it.
func newAPI(mux *http.ServeMux, version string) huma.API {
	c := rest.Config("Landline admin API", version)
	c.Info.Description = "For operators, the command line and the console. It is served on the admin listener only, and every change is audited."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"operator": {Type: "http", Scheme: "bearer", BearerFormat: TokenPrefix + "…", Description: "An operator's token, made with `landline operator add`."},
	}
	c.OnAddOperation = append(c.OnAddOperation, func(_ *huma.OpenAPI, op *huma.Operation) {
		op.Security = []map[string][]string{{"operator": {}}}
		if op.Extensions == nil {
			op.Extensions = map[string]any{}
		}
		op.Extensions["x-role"] = string(module.RoleOf(op))
		op.Description = strings.TrimSpace(op.Description + "\n\nLeast role: " + string(module.RoleOf(op)) + ".")
	})
	return humago.New(mux, c)
}

func (s *Server) registerAll() {
	s.registerStatus()
	s.registerContracts()
	s.registerCache()
	s.registerConfig()
	s.registerJobs()
	s.registerAudit()
	s.registerOperators()
	s.registerKeys()
	for _, m := range s.o.Modules {
		if m.Admin != nil {
			m.Admin(s.api)
		}
	}
}

// Handler serves the admin listener.
func (s *Server) Handler() http.Handler { return s.handler }

// OpenAPI is the document of the API, the modules' operations included.
func (s *Server) OpenAPI() *huma.OpenAPI { return s.api.OpenAPI() }

// operation fills in what all operations of this package share.
func operation(method, path, opID, tag, summary string, role module.Role) huma.Operation {
	return huma.Operation{
		Method: method, Path: "/admin/v1" + path, OperationID: opID, Tags: []string{tag}, Summary: summary,
		Metadata: module.Require(role), RejectUnknownQueryParameters: true, DefaultStatus: defaultStatus(method),
	}
}

func defaultStatus(method string) int {
	if method == http.MethodDelete {
		return http.StatusNoContent
	}
	return http.StatusOK
}

// hosts reports whether the listener may be addressed by name.
func (s *Server) namedHost(name string) bool {
	return strings.EqualFold(name, "localhost") || slices.ContainsFunc(s.o.Hosts, func(h string) bool { return strings.EqualFold(h, name) })
}
