package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"landline/internal/gateway/aggregate"
	"landline/internal/problem"
)

// addGraphQL adds an endpoint that takes persisted GraphQL documents alone.
func (g *Gateway) addGraphQL(t, old *table, f *feature, rc RouteConfig, p pattern) (*Route, destination, error) {
	q := rc.GraphQL
	path, err := parseTemplate(q.path(), pattern{})
	if err != nil {
		return nil, destination{}, err
	}
	list, err := aggregate.ParsePersisted(q.Persisted)
	if err != nil {
		return nil, destination{}, err
	}
	up := t.upstreams[q.Upstream]
	if up == nil {
		return nil, destination{}, errors.New("there is no upstream " + strconv.Quote(q.Upstream))
	}
	rt := newRoute(f, rc.Match, p)
	rt.Auth, rt.Upstream = f.policy.Auth, q.Upstream
	return rt, destination{
		handler:  persistedOnly(list, int64(f.policy.MaxBody), g.forward(up, path)),
		upstream: up,
		breakers: g.breakersFor(t, old, f, up),
	}, nil
}

// maxGraphQLBody bounds a GraphQL request, which is held in memory.
const maxGraphQLBody = 1 << 20

// graphQLRequest is what a client may send (GraphQL over HTTP, Apollo's
// persisted queries): a hash, or a document that is on the list.
type graphQLRequest struct {
	Query         string          `json:"query"`
	OperationName string          `json:"operationName"`
	Variables     json.RawMessage `json:"variables"`
	Extensions    struct {
		PersistedQuery struct {
			Version    int    `json:"version"`
			Sha256Hash string `json:"sha256Hash"`
		} `json:"persistedQuery"`
	} `json:"extensions"`
}

// persistedOnly puts the document of the list into the request, which goes to
// the service as a POST, and refuses every other.
func persistedOnly(list *aggregate.Persisted, maxBody int64, next Handler) Handler {
	maxBody = min(maxBody, maxGraphQLBody)
	return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
		q := x.graphql
		if q == nil {
			var err error
			if q, err = readGraphQL(x, r, maxBody); err != nil {
				return err
			}
			x.graphql = q
		}
		op, err := q.operation(list)
		switch {
		case err != nil:
			return err
		case op.Type == "subscription":
			return problem.New(problem.InvalidRequest, "subscriptions are not taken here")
		case op.Type == "mutation" && r.Method != http.MethodPost:
			return problem.New(problem.MethodNotAllowed, "send a mutation with POST").WithHeader("Allow", "POST, OPTIONS")
		}
		variables := bytes.TrimSpace(q.Variables)
		if bytes.Equal(variables, []byte("null")) {
			variables = nil
		}
		if len(variables) > 0 && variables[0] != '{' {
			return problem.New(problem.InvalidRequest, "variables must be an object")
		}
		return next(x, w, asPost(r, op.Request(variables)))
	}
}

// asPost is r with another body, as a POST without a query.
func asPost(r *http.Request, body []byte) *http.Request {
	out := r.WithContext(r.Context())
	out.Method, out.ContentLength, out.TransferEncoding = http.MethodPost, int64(len(body)), nil
	out.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath}
	out.Header = shallow(r.Header)
	out.Header["Content-Type"] = []string{"application/json"}
	for _, name := range [...]string{"Content-Length", "Content-Encoding", "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		delete(out.Header, name)
	}
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return out
}

func readGraphQL(x *Exchange, r *http.Request, most int64) (*graphQLRequest, error) {
	q := &graphQLRequest{}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		values, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return nil, problem.New(problem.InvalidRequest, "the query is not well-formed").Wrap(err)
		}
		q.Query, q.OperationName = values.Get("query"), values.Get("operationName")
		if v := values.Get("variables"); v != "" {
			if !aggregate.Valid([]byte(v)) {
				return nil, problem.New(problem.InvalidRequest, "variables must be a JSON object")
			}
			q.Variables = json.RawMessage(v)
		}
		if v := values.Get("extensions"); v != "" {
			if err := json.Unmarshal([]byte(v), &q.Extensions); err != nil {
				return nil, problem.New(problem.InvalidRequest, "extensions must be a JSON object with persistedQuery").Wrap(err)
			}
		}
		return q, nil
	case http.MethodPost:
		body, err := readJSON(x, r, most)
		if err != nil {
			return nil, err
		}
		if trimmed := bytes.TrimSpace(body); trimmed[0] != '{' {
			return nil, problem.New(problem.InvalidRequest, "the body must be one GraphQL request; lists of requests are not taken")
		}
		if err := json.Unmarshal(body, q); err != nil {
			return nil, problem.New(problem.InvalidRequest, "the body is not a GraphQL request").Wrap(err)
		}
		return q, nil
	}
	return nil, problem.New(problem.MethodNotAllowed, "GraphQL is asked with GET and POST").WithHeader("Allow", "GET, HEAD, POST, OPTIONS")
}

// operation finds what a request asks for on the list.
func (q *graphQLRequest) operation(list *aggregate.Persisted) (*aggregate.Operation, error) {
	hash, p := "", q.Extensions.PersistedQuery
	switch {
	case p.Sha256Hash != "" && p.Version != 1:
		return nil, problem.New(problem.InvalidRequest, "extensions.persistedQuery.version must be 1")
	case p.Sha256Hash != "" && q.Query != "" && p.Sha256Hash != aggregate.Hash(q.Query):
		return nil, problem.New(problem.InvalidRequest, "extensions.persistedQuery.sha256Hash is not the SHA-256 of query")
	case p.Sha256Hash != "":
		hash = p.Sha256Hash
	case q.Query != "":
		hash = aggregate.Hash(q.Query)
	default:
		return nil, problem.New(problem.InvalidRequest, "send extensions.persistedQuery.sha256Hash, the SHA-256 of a persisted document")
	}
	op, err := list.Find(hash, q.OperationName)
	if errors.Is(err, aggregate.ErrNotPersisted) {
		return nil, problem.New(problem.PersistedQueryUnknown, "only documents that were registered before may be asked here").With("errors", notInList)
	}
	if err != nil {
		return nil, problem.New(problem.InvalidRequest, "%s", err.Error())
	}
	return op, nil
}

// notInList is what GraphQL clients read of a refused document. It is not
// PersistedQueryNotFound, which would make them send the whole document.
var notInList = []any{map[string]any{
	"message":    "PersistedQueryNotInList",
	"extensions": map[string]string{"code": "PERSISTED_QUERY_NOT_IN_LIST"},
}}
