package admin

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// maxConfig is how large a configuration file may be.
const maxConfig = 4 << 20

// maxFaults bounds the faults in one answer.
const maxFaults = 200

type yamlAnswer struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

type yamlInput struct {
	RawBody []byte `contentType:"application/yaml" doc:"A configuration file as it would be written to landline.yaml."`
}

type reloadInput struct {
	Body *reasonInput // may be left out
}

func (s *Server) registerConfig() {
	get := operation(http.MethodGet, "/config", "get-config", "config", "The effective configuration, secrets redacted", module.Operator)
	get.Responses = map[string]*huma.Response{"200": {
		Description: "YAML, as landline.yaml could say it.",
		Content:     map[string]*huma.MediaType{"application/yaml": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(s.api, get, s.printConfig)

	validate := operation(http.MethodPost, "/config/validate", "validate-config", "config", "Check a configuration without using it", module.Owner) // it may name any secret of the node
	validate.Description = "Answers 422 config_invalid with every fault, each with line, column, path and hint. Nothing is changed or stored."
	validate.MaxBodyBytes = maxConfig + 1 // the limit of huma is the first size that is too large
	huma.Register(s.api, validate, s.validateConfig)

	s.registerDiff()

	reload := operation(http.MethodPost, "/config/reload", "reload-config", "config", "Read the configuration file again", module.Operator)
	reload.Description = "All or nothing: with any fault the running configuration stays. Answers what changed."
	huma.Register(s.api, reload, s.reloadConfig)
}

func (s *Server) printConfig(context.Context, *struct{}) (*yamlAnswer, error) {
	var b bytes.Buffer
	if err := s.o.PrintConfig(&b); err != nil {
		return nil, err
	}
	return &yamlAnswer{"application/yaml; charset=utf-8", b.Bytes()}, nil
}

func (s *Server) validateConfig(ctx context.Context, in *yamlInput) (*body[ValidateAnswer], error) {
	if err := s.o.Validate(ctx, in.RawBody); err != nil {
		return nil, configProblem(err)
	}
	return &body[ValidateAnswer]{ValidateAnswer{Valid: true}}, nil
}

// reloadOutcome is what the audit log keeps of a reload.
type reloadOutcome struct {
	Changed []string `json:"changed,omitempty"`
	Faults  int      `json:"faults,omitempty"`
	Failed  bool     `json:"failed,omitempty"`
}

// reloadConfig writes that a reload was asked for before it happens: what
// cannot be audited is not done. The outcome is a second entry.
func (s *Server) reloadConfig(ctx context.Context, in *reloadInput) (*body[ReloadReport], error) {
	if err := s.record(ctx, audit.Entry{Action: "config.reload_requested", Reason: in.Body.text()}); err != nil {
		return nil, err
	}
	report, err := s.o.Reload(ctx)
	if report.Changed == nil {
		report.Changed = []string{}
	}
	outcome, action := reloadOutcome{Changed: report.Changed}, "config.reload"
	if err != nil {
		var faults config.Faults
		errors.As(err, &faults)
		outcome, action = reloadOutcome{Faults: len(faults), Failed: true}, "config.reload_refused"
	}
	if auditErr := s.record(context.WithoutCancel(ctx), audit.Entry{Action: action, Reason: in.Body.text(), After: outcome}); auditErr != nil {
		s.o.Log.ErrorContext(ctx, "the outcome of a reload could not be audited", "action", action, "error", auditErr)
	}
	if err != nil {
		return nil, configProblem(err)
	}
	return &body[ReloadReport]{report}, nil
}

func (s *Server) record(ctx context.Context, e audit.Entry) error {
	return s.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return s.o.Audit.Record(ctx, tx, e) })
}

// configProblem turns the faults of a configuration into a problem; another
// error stays what it is.
func configProblem(err error) error {
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		return err
	}
	shown := faults[:min(len(faults), maxFaults)]
	if len(faults) == 1 {
		return problem.New(problem.ConfigInvalid, "one fault; nothing was changed").With("errors", shown).Wrap(err)
	}
	return problem.New(problem.ConfigInvalid, "%d faults; nothing was changed", len(faults)).With("errors", shown).Wrap(err)
}
