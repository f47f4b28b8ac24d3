package flights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// Service is the upstream's HTTP handler.
type Service struct {
	mux      http.ServeMux
	airports []Airport
	trips    trips
	verifier *Verifier
	now      func() time.Time
	asked    atomic.Int64 // calls of the flaky endpoint
	storm    atomic.Bool  // true = the flaky endpoint always fails
}

// New returns the service. A nil now is the machine's clock.
func New(verifier *Verifier, now func() time.Time) *Service {
	if now == nil {
		now = time.Now
	}
	s := &Service{airports: loadAirports(), verifier: verifier, now: now, trips: trips{byUser: map[string][]Trip{}}}
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]string{"status": "ok"}) })
	s.mux.HandleFunc("GET /airports", s.listAirports)
	s.mux.HandleFunc("GET /airports/{iata}", s.oneAirport)
	s.mux.HandleFunc("GET /airports/{iata}/departures", s.board)
	s.mux.HandleFunc("GET /airports/{iata}/live", s.live)
	s.mux.HandleFunc("GET /internal/status/{flight}", s.status)
	s.mux.HandleFunc("PUT /internal/weather", s.weather)
	s.mux.HandleFunc("GET /trips", s.listTrips)
	s.mux.HandleFunc("POST /trips", s.bookTrip)
	s.mux.HandleFunc("GET /ledger", s.ledger)
	return s
}

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Service) listAirports(w http.ResponseWriter, r *http.Request) {
	country := r.URL.Query().Get("country")
	found := []Airport{}
	for _, a := range s.airports {
		if country == "" || a.Country == country {
			found = append(found, a)
		}
	}
	answer(w, http.StatusOK, map[string]any{"data": found, "page": map[string]any{"next": nil}})
}

func (s *Service) airport(iata string) (Airport, bool) {
	i := slices.IndexFunc(s.airports, func(a Airport) bool { return a.IATA == iata })
	if i < 0 {
		return Airport{}, false
	}
	return s.airports[i], true
}

func (s *Service) oneAirport(w http.ResponseWriter, r *http.Request) {
	if a, ok := s.airport(r.PathValue("iata")); ok {
		answer(w, http.StatusOK, a)
		return
	}
	refuse(w, http.StatusNotFound, "no such airport")
}

func (s *Service) board(w http.ResponseWriter, r *http.Request) {
	a, ok := s.airport(r.PathValue("iata"))
	if !ok {
		refuse(w, http.StatusNotFound, "no such airport")
		return
	}
	answer(w, http.StatusOK, map[string]any{"data": departures(s.airports, a, s.now()), "page": map[string]any{"next": nil}})
}

// live streams the board as server-sent events: one departure an event, then the stream ends.
func (s *Service) live(w http.ResponseWriter, r *http.Request) {
	a, ok := s.airport(r.PathValue("iata"))
	if !ok {
		refuse(w, http.StatusNotFound, "no such airport")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for _, d := range departures(s.airports, a, s.now()) {
		data, err := json.Marshal(d)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "event: departure\nid: %s\ndata: %s\n\n", d.Flight, data); err != nil {
			return
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// status is deliberately flaky: of every four calls three work, and in a storm none does.
func (s *Service) status(w http.ResponseWriter, r *http.Request) {
	n := s.asked.Add(1)
	if s.storm.Load() || n%4 == 0 {
		refuse(w, http.StatusInternalServerError, "the airport's feed is down")
		return
	}
	states := []string{"on_time", "boarding", "delayed", "departed"}
	flight := r.PathValue("flight")
	answer(w, http.StatusOK, map[string]string{"flight": flight, "status": states[hash(flight)%4]})
}

// weather makes and ends the storm: {"storm": true}.
func (s *Service) weather(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Storm bool `json:"storm"`
	}
	if !decode(w, r, &in) {
		return
	}
	s.storm.Store(in.Storm)
	answer(w, http.StatusOK, in)
}

func (s *Service) listTrips(w http.ResponseWriter, r *http.Request) {
	who, err := s.verifier.Verify(r)
	if err != nil {
		refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	answer(w, http.StatusOK, map[string]any{"data": s.trips.of(who.UserID), "page": map[string]any{"next": nil}})
}

func (s *Service) bookTrip(w http.ResponseWriter, r *http.Request) {
	who, err := s.verifier.Verify(r)
	if err != nil {
		refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	var in struct {
		Flight string `json:"flight"`
		Seats  int    `json:"seats"`
	}
	if !decode(w, r, &in) {
		return
	}
	if in.Flight == "" || len(in.Flight) > 8 || in.Seats < 1 || in.Seats > 9 {
		refuse(w, http.StatusUnprocessableEntity, "flight must be a flight number, seats 1 to 9")
		return
	}
	trip, err := s.trips.book(who.UserID, in.Flight, in.Seats, s.now())
	if err != nil {
		refuse(w, http.StatusConflict, err.Error())
		return
	}
	answer(w, http.StatusCreated, trip)
}

// ledger tells how many bookings were executed: the proof that a retry did not book twice.
func (s *Service) ledger(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]int{"executed": s.trips.executed()})
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the body is not the expected JSON")
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encode", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

func refuse(w http.ResponseWriter, status int, why string) {
	answer(w, status, map[string]string{"error": why})
}
