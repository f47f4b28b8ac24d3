package flights

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Airport is one row of airports.csv.
type Airport struct {
	IATA      string  `json:"iata"`
	Name      string  `json:"name"`
	City      string  `json:"city"`
	Country   string  `json:"country"` // ISO 3166-1 alpha-2
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	TimeZone  string  `json:"time_zone"`
}

// Departure is one line of a departures board.
type Departure struct {
	Flight    string    `json:"flight"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	City      string    `json:"city"`
	Scheduled time.Time `json:"scheduled"`
	Gate      string    `json:"gate"`
	Minutes   int       `json:"minutes"` // in the air
}

//go:embed airports.csv
var airportsCSV []byte

// loadAirports reads the embedded list; the file is part of the program, so a bad row is a programming fault.
func loadAirports() []Airport {
	rows, err := csv.NewReader(bytes.NewReader(airportsCSV)).ReadAll()
	if err != nil {
		panic(fmt.Sprintf("flights: airports.csv: %v", err))
	}
	airports := make([]Airport, 0, len(rows)-1)
	for _, row := range rows[1:] {
		lat, latErr := strconv.ParseFloat(row[4], 64)
		lon, lonErr := strconv.ParseFloat(row[5], 64)
		if latErr != nil || lonErr != nil {
			panic("flights: airports.csv: bad position of " + row[0])
		}
		airports = append(airports, Airport{row[0], row[1], row[2], row[3], lat, lon, row[6]})
	}
	return airports
}

const flightsPerBoard = 12

// departures invents the same plausible board for one airport and day every
// time it is asked: the demo needs no data of a live airport.
func departures(airports []Airport, from Airport, day time.Time) []Departure {
	day = day.UTC().Truncate(24 * time.Hour)
	board := make([]Departure, 0, flightsPerBoard)
	for i := range flightsPerBoard {
		h := hash(from.IATA, strconv.Itoa(i))
		to := airports[h%uint64(len(airports))]
		if to.IATA == from.IATA {
			to = airports[(h+1)%uint64(len(airports))]
		}
		board = append(board, Departure{
			Flight:    fmt.Sprintf("%s%d", from.IATA[:2], 100+i*7),
			From:      from.IATA,
			To:        to.IATA,
			City:      to.City,
			Scheduled: day.Add(5*time.Hour + time.Duration(i)*85*time.Minute + time.Duration(h%12)*5*time.Minute),
			Gate:      fmt.Sprintf("%c%d", 'A'+rune(h>>8%4), 1+h>>16%30),
			Minutes:   30 + int(kilometres(from, to)/13.5),
		})
	}
	slices.SortFunc(board, func(a, b Departure) int { return a.Scheduled.Compare(b.Scheduled) })
	return board
}

// kilometres is the great-circle distance (haversine formula).
func kilometres(a, b Airport) float64 {
	rad := func(deg float64) float64 { return deg * math.Pi / 180 }
	dLat, dLon := rad(b.Latitude-a.Latitude), rad(b.Longitude-a.Longitude)
	h := math.Pow(math.Sin(dLat/2), 2) + math.Cos(rad(a.Latitude))*math.Cos(rad(b.Latitude))*math.Pow(math.Sin(dLon/2), 2)
	return 2 * 6371 * math.Asin(math.Sqrt(h))
}

func hash(parts ...string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(strings.Join(parts, "/")))
	return h.Sum64()
}
