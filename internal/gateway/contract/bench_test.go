package contract

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const flightsDocument = `openapi: %s
info: {title: Flights, version: "2"}
servers: [{url: "https://api.example.com/v2"}]
paths:
  /flights/{id}:
    get:
      operationId: flight
      parameters:
        - {name: id, in: path, required: true, schema: {type: string, pattern: "^[A-Z]{2}[0-9]{1,4}$"}}
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
      responses:
        "200":
          description: the flight
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Flight"}
components:
  schemas:
    Flight:
      type: object
      required: [id, status, departure, arrival, legs]
      additionalProperties: false
      properties:
        id: {type: string, pattern: "^[A-Z]{2}[0-9]{1,4}$"}
        status: {type: string, enum: [scheduled, boarding, departed, landed, cancelled]}
        departure: {$ref: "#/components/schemas/Call"}
        arrival: {$ref: "#/components/schemas/Call"}
        delay: {type: integer, format: int32, minimum: 0}
        price: {type: number, minimum: 0}
        aircraft: {type: string, maxLength: 40}
        legs: {type: array, maxItems: 20, items: {$ref: "#/components/schemas/Leg"}}
        tags: {type: array, items: {type: string, maxLength: 20}}
    Call:
      type: object
      required: [airport, at]
      properties:
        airport: {type: string, minLength: 3, maxLength: 3}
        at: {type: string, format: date-time}
        gate: {type: string, maxLength: 5}
        terminal: {type: string, maxLength: 5}
    Leg:
      type: object
      required: [id, from, to]
      properties:
        id: {type: string, format: uuid}
        from: {type: string, minLength: 3, maxLength: 3}
        to: {type: string, minLength: 3, maxLength: 3}
        seats: {type: integer, minimum: 0, maximum: 900}
        meal: {type: boolean}
`

// flightBody is an answer of about 1 KB.
func flightBody() []byte {
	leg := `{"id":"018f4ae2-7f00-7000-8000-00000000000%d","from":"WAW","to":"LHR","seats":180,"meal":true}`
	var legs []string
	for i := range 7 {
		legs = append(legs, fmt.Sprintf(leg, i))
	}
	return []byte(`{"id":"LO281","status":"boarding","departure":{"airport":"WAW","at":"2026-05-01T10:15:00Z","gate":"A12","terminal":"1"},` +
		`"arrival":{"airport":"LHR","at":"2026-05-01T11:55:00+01:00","gate":"B4"},"delay":5,"price":129.99,"aircraft":"Boeing 737-800","legs":[` +
		strings.Join(legs, ",") + `],"tags":["meal","wifi","flexible","star"]}`)
}

func flightAnswer(t testing.TB, version string) (*Operation, *Response) {
	d := folder{"flights.yaml": fmt.Sprintf(flightsDocument, version)}.load(t, "flights.yaml")
	op, _ := d.Bind("GET", "/v2/flights/{id}").Find("GET", "/v2/flights/LO281")
	if op == nil {
		t.Fatal("no operation")
	}
	a := &Response{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: flightBody()}
	if found := op.CheckResponse(a); len(found) > 0 {
		t.Fatalf("%+v", found)
	}
	return op, a
}

// A response of 1 KB is checked with fewer than 20 allocations.
func TestAllocationsOfAResponse(t *testing.T) {
	for _, version := range []string{"3.0.3", "3.1.0"} {
		op, a := flightAnswer(t, version)
		if n := testing.AllocsPerRun(200, func() { op.CheckResponse(a) }); n >= 20 {
			t.Errorf("OpenAPI %s: %v allocations for %d bytes", version, n, len(a.Body))
		}
	}
}

func BenchmarkResponse(b *testing.B) {
	for _, version := range []string{"3.0.3", "3.1.0"} {
		op, a := flightAnswer(b, version)
		b.Run(version, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(a.Body)))
			for b.Loop() {
				if op.CheckResponse(a) != nil {
					b.Fatal("the answer does not fit")
				}
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	op, _ := flightAnswer(b, "3.1.0")
	q := &Request{Path: "/flights/LO281", Query: "limit=20", Header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		if op.CheckRequest(q) != nil {
			b.Fatal("the request does not fit")
		}
	}
}
