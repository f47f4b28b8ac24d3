package gateway

import (
	"net/http"

	"landline/internal/module"
	"landline/internal/problem"
)

// clientHeaderRequired is the value of FeatureConfig.ClientHeader that refuses
// requests which do not say what app they come from.
const clientHeaderRequired = "required"

// noClient is what is known of an app that sends no Landline-Client.
var noClient = &module.Client{}

// clientStage reads Landline-Client into x.Client. A malformed header is
// refused, also where none is needed: an app that sends one means it.
func clientStage(o *Options, m *metrics, rt *Route) Stage {
	required := rt.Policy != nil && rt.Policy.ClientHeader == clientHeaderRequired
	count := m.clientHeaders(rt.Feature)
	inProcess := rt.Upstream == ""
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			x.Client = noClient
			lines := r.Header["Landline-Client"]
			if len(lines) == 0 || len(lines) == 1 && lines[0] == "" {
				count.absent.Inc()
				if required {
					return problem.New(problem.ClientHeaderRequired, "send Landline-Client with this request")
				}
				return next(x, w, r)
			}
			client, err := m.parsed.parse(lines)
			if err != nil {
				count.invalid.Inc()
				return err
			}
			x.Client = client
			if client.App != "" && client.App != o.App.ID {
				count.otherApp.Inc() // an extension or a white label, seldom a fault: counted, not refused
			} else {
				count.ok.Inc()
			}
			if inProcess {
				r = r.WithContext(module.WithClient(r.Context(), client))
			}
			return next(x, w, r)
		}
	}
}
