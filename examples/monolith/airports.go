package main

import (
	"context"
	"strings"

	"landline"
)

// airports answers from memory, for everybody.
func airports() landline.Feature {
	names := map[string]string{"WAW": "Warsaw Chopin", "LIS": "Lisbon", "NRT": "Tokyo Narita"}
	return landline.Feature{
		Name: "airports", Owner: "team-places", Auth: landline.None,
		Routes: []landline.Route{
			landline.Handle("GET /v1/airports/{code}", func(_ context.Context, r *landline.Request) (*landline.Response, error) {
				code := strings.ToUpper(r.PathValue("code"))
				name, ok := names[code]
				if !ok {
					return nil, &landline.Problem{Code: "not_found", Detail: "there is no airport " + code}
				}
				return landline.JSON(200, map[string]string{"code": code, "name": name})
			}),
		},
	}
}
