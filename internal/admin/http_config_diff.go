package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
	"landline/internal/problem"
)

// ConfigDiff is what a reload would change.
type ConfigDiff struct {
	Changes []ConfigChange `json:"changes" doc:"Keys whose value differs, in the order of the sections." nullable:"false"`
	Restart bool           `json:"restart" doc:"Whether one of them needs a restart: a reload would be refused."`
}

// ConfigChange is one key whose value differs.
type ConfigChange struct {
	Path    string `json:"path" doc:"Such as features.trips.timeout." example:"features.trips.timeout"`
	Old     string `json:"old" doc:"Value in use, as YAML; empty where the key is not there. A secret is [redacted]." example:"800ms"`
	New     string `json:"new" doc:"Value after a reload; empty where the key is gone." example:"2s"`
	Secret  bool   `json:"secret" doc:"The values are hidden."`
	Restart bool   `json:"restart" doc:"The change takes effect with a restart only."`
	File    string `json:"file,omitempty" doc:"Where the new value, or what is around it, is written."`
	Line    int    `json:"line,omitempty" doc:"From 1; 0 when the value is a default."`
	Col     int    `json:"col,omitempty" doc:"From 1."`
}

type diffInput struct {
	RawBody []byte `contentType:"application/yaml" doc:"A configuration to compare with, as it would be written to landline.yaml. It needs the role owner. Without a body: the files as they are on the node's disk, which is what a reload would read."`
}

func (s *Server) registerDiff() {
	diff := operation(http.MethodPost, "/config/diff", "diff-config", "config", "Say what a reload would change", module.Operator)
	diff.Description = "Nothing is changed or stored. Answers 422 config_invalid with every fault when the configuration could not be loaded."
	diff.MaxBodyBytes = maxConfig + 1
	diff.RequestBody = &huma.RequestBody{}
	huma.Register(s.api, diff, s.diffConfig)
	diff.RequestBody.Required = false // huma takes every raw body for required
}

func (s *Server) diffConfig(ctx context.Context, in *diffInput) (*body[ConfigDiff], error) {
	var yaml []byte
	if len(in.RawBody) > 0 {
		if op, _ := OperatorFrom(ctx); !op.Role.Allows(module.Owner) { // it may name any secret of the node and would show it
			return nil, problem.New(problem.Forbidden, "comparing with a posted configuration needs the role owner; without a body the node's own files are compared")
		}
		yaml = in.RawBody
	}
	d, err := s.o.Diff(ctx, yaml)
	if err != nil {
		return nil, configProblem(err)
	}
	return &body[ConfigDiff]{d}, nil
}
