package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/module"
)

// CachePurge is the body of POST /admin/v1/features/{name}/cache/purge. With
// neither a key nor a URL everything that is stored of the feature goes.
type CachePurge struct {
	SurrogateKey string `json:"surrogate_key,omitempty" maxLength:"256" doc:"Only answers that their service gave this surrogate key." example:"flight-LO281"`
	URL          string `json:"url,omitempty" maxLength:"4096" doc:"Only answers of this path, with any query; scheme, host and query of a whole URL are not looked at." example:"/v1/flights/LO281"`
	Reason       string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
}

// CachePurged is its answer.
type CachePurged struct {
	Purged int `json:"purged" doc:"Stored answers that this node had. The other nodes drop theirs within a second."`
}

type cachePurgeInput struct {
	Name string      `path:"name" maxLength:"63" doc:"Name of the feature."`
	Body *CachePurge // may be left out
}

func (s *Server) registerCache() {
	if s.o.PurgeCache == nil {
		return
	}
	op := operation(http.MethodPost, "/features/{name}/cache/purge", "purge-cache", "features", "Forget stored answers of a feature, on all nodes", module.Operator)
	op.Description = "A purge also beats requests that are being answered by the service while it happens: what they bring is not stored. " +
		"503 storage_unavailable says that this node has purged and others may not know."
	huma.Register(s.api, op, s.purgeCache)
}

// purgeCache records that a purge was asked for before it happens: what cannot
// be audited is not done.
func (s *Server) purgeCache(ctx context.Context, in *cachePurgeInput) (*body[CachePurged], error) {
	var p CachePurge
	if in.Body != nil {
		p = *in.Body
	}
	reason := p.Reason
	p.Reason = ""
	if err := s.record(ctx, audit.Entry{Action: "cache.purge", Target: "feature " + in.Name, Reason: reason, After: p}); err != nil {
		return nil, err
	}
	n, err := s.o.PurgeCache(ctx, in.Name, p.SurrogateKey, p.URL)
	if err != nil {
		return nil, err
	}
	return &body[CachePurged]{CachePurged{Purged: n}}, nil
}
