package flights

import (
	"fmt"
	"sync"
	"time"
)

// Trip is a booking of one user.
type Trip struct {
	ID       string    `json:"id"`
	Flight   string    `json:"flight"`
	Seats    int       `json:"seats"`
	BookedAt time.Time `json:"booked_at"`
}

// maxTripsPerUser bounds what the demo keeps in memory for one user.
const maxTripsPerUser = 100

// trips is the demo's store: who booked what, in order of booking.
type trips struct {
	mu     sync.Mutex
	byUser map[string][]Trip
	booked int // how many bookings were executed, whoever asked
}

// book executes a booking. It is not idempotent on purpose: Landline makes it so.
func (t *trips) book(user, flight string, seats int, now time.Time) (Trip, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byUser[user]) >= maxTripsPerUser {
		return Trip{}, fmt.Errorf("a user may have %d trips in the demo", maxTripsPerUser)
	}
	t.booked++
	trip := Trip{ID: fmt.Sprintf("trip-%d", t.booked), Flight: flight, Seats: seats, BookedAt: now.UTC().Truncate(time.Second)}
	t.byUser[user] = append(t.byUser[user], trip)
	return trip, nil
}

// of returns the trips of one user, never nil.
func (t *trips) of(user string) []Trip {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Trip{}, t.byUser[user]...)
}

// executed is how many bookings really happened.
func (t *trips) executed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.booked
}
