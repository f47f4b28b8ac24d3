package flights

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T) *httptest.Server {
	t.Helper()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	srv := httptest.NewServer(New(&Verifier{JWKS: "http://127.0.0.1:1/jwks", Client: http.DefaultClient}, func() time.Time { return noon }))
	t.Cleanup(srv.Close)
	return srv
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestEveryAirportHasAPlausibleBoard(t *testing.T) {
	srv := start(t)
	_, body := call(t, "GET", srv.URL+"/airports", "")
	var list struct{ Data []Airport }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Data) < 40 {
		t.Fatalf("only %d airports", len(list.Data))
	}
	for _, a := range list.Data {
		if _, err := time.LoadLocation(a.TimeZone); err != nil {
			t.Errorf("%s: %v", a.IATA, err)
		}
		_, body := call(t, "GET", srv.URL+"/airports/"+a.IATA+"/departures", "")
		var board struct{ Data []Departure }
		if err := json.Unmarshal([]byte(body), &board); err != nil {
			t.Fatal(err)
		}
		if len(board.Data) != flightsPerBoard {
			t.Errorf("%s: %d departures", a.IATA, len(board.Data))
		}
		for i, d := range board.Data {
			if d.To == a.IATA || d.Minutes < 30 || d.Minutes > 1600 || i > 0 && d.Scheduled.Before(board.Data[i-1].Scheduled) {
				t.Errorf("%s: implausible departure %+v", a.IATA, d)
			}
		}
	}
}

func TestStatusIsFlakyAndAStormBreaksIt(t *testing.T) {
	srv := start(t)
	counts := map[int]int{}
	for range 8 {
		code, _ := call(t, "GET", srv.URL+"/internal/status/WA100", "")
		counts[code]++
	}
	if counts[200] != 6 || counts[500] != 2 {
		t.Errorf("want 6 good and 2 bad answers, got %v", counts)
	}
	call(t, "PUT", srv.URL+"/internal/weather", `{"storm":true}`)
	if code, _ := call(t, "GET", srv.URL+"/internal/status/WA100", ""); code != 500 {
		t.Errorf("in a storm: %d", code)
	}
}

func TestTripsNeedLandline(t *testing.T) {
	srv := start(t)
	code, body := call(t, "POST", srv.URL+"/trips", `{"flight":"WA100","seats":1}`)
	if code != 401 || !strings.Contains(body, "through Landline") {
		t.Errorf("without identity: %d %s", code, body)
	}
	if _, body := call(t, "GET", srv.URL+"/ledger", ""); !strings.Contains(body, `"executed":0`) {
		t.Errorf("ledger: %s", body)
	}
}
