package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// registerAggregate adds the services behind the aggregated routes.
func (u *upstream) registerAggregate(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
	mux.HandleFunc("GET /agg/airports/{iata}", func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("iata") {
		case "WAW", "SLO":
			answer(w, 200, fmt.Sprintf(`{"iata":%q,"name":"Warsaw","latitude":52.10,"longitude":20.9671}`, r.PathValue("iata")))
		case "BAD":
			answer(w, 200, `{"iata":"BAD","name":`)
		case "DWN":
			answer(w, 500, `{}`)
		default:
			answer(w, 404, `{}`)
		}
	})
	mux.HandleFunc("GET /agg/airports/{iata}/departures", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("iata") == "SLO" {
			<-r.Context().Done()
			return
		}
		answer(w, 200, `{"data":[{"flight":"LO1","gate":"A1","internal":"x"},{"flight":"LO2","gate":"A2","internal":"y"}],"page":{"next":null}}`)
	})
	mux.HandleFunc("GET /agg/weather/{place}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 200, fmt.Sprintf(`{"now":{"celsius":7.50,"place":%q}}`, r.PathValue("place")))
	})
	mux.HandleFunc("POST /agg/graphql", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query, OperationName string
			Variables            struct{ ID string }
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Query == "" {
			answer(w, 400, `{"errors":[{"message":"no document"}]}`)
			return
		}
		switch q.Variables.ID {
		case "part":
			answer(w, 200, `{"data":{"flight":{"id":"part","gate":null}},"errors":[{"message":"secret","path":["flight","gate"]}]}`)
		case "none":
			answer(w, 200, `{"data":null,"errors":[{"message":"secret","extensions":{"code":"NOT_FOUND"}}]}`)
		default:
			answer(w, 200, fmt.Sprintf(`{"data":{"flight":{"id":%q,"gate":"A1"}}}`, q.Variables.ID))
		}
	})
}
