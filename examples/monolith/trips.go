package main

import (
	"context"
	"crypto/rand"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"landline"
)

//go:embed migrations/*.sql
var files embed.FS

// trips books seats: the writes, the idempotency key and the answer are one
// transaction, and so is the job that confirms the booking.
func trips() landline.Feature {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the directory is embedded
	}
	return landline.Feature{
		Name: "trips", Owner: "team-trips", Auth: landline.Anonymous, Timeout: 2 * time.Second,
		Idempotency: &landline.Idempotency{Required: true},
		RateLimit:   []landline.RateLimit{{Key: "installation", Limit: 600, Window: time.Minute, Burst: 100}},
		Migrations:  migrations,
		Routes: []landline.Route{
			landline.Write("POST /v1/trips", bookTrip),
			landline.Read("GET /v1/trips", listTrips),
		},
		Jobs: []landline.Worker{landline.Work(10*time.Second, confirm)},
	}
}

type booking struct {
	Flight string `json:"flight"`
	Seats  int    `json:"seats"`
}

type trip struct {
	ID        string `json:"id"`
	Flight    string `json:"flight"`
	Seats     int    `json:"seats"`
	Confirmed bool   `json:"confirmed"`
}

func bookTrip(ctx context.Context, tx *landline.Tx, r *landline.Request) (*landline.Response, error) {
	var b booking
	if err := r.JSON(&b); err != nil {
		return nil, err
	}
	if b.Flight == "" || b.Seats < 1 || b.Seats > 9 {
		return nil, &landline.Problem{Code: "invalid_request", Detail: "name a flight and 1 to 9 seats"}
	}
	var left int
	if err := tx.QueryRowContext(ctx, `SELECT 200 - COALESCE(SUM(seats), 0) FROM trips_trip WHERE flight = $1`, b.Flight).Scan(&left); err != nil {
		return nil, err
	}
	if b.Seats > left {
		return nil, &landline.Problem{
			Code: "sold_out", Status: 409, Title: "The flight is sold out.", Detail: fmt.Sprintf("%d seats are left", left),
			Members: map[string]any{"seats_left": left},
		}
	}
	t := trip{ID: "trp_" + rand.Text(), Flight: b.Flight, Seats: b.Seats}
	_, err := tx.ExecContext(ctx, `INSERT INTO trips_trip (id, user_id, flight, seats, booked_at) VALUES ($1, $2, $3, $4, $5)`,
		t.ID, r.Principal().UserID, t.Flight, t.Seats, time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	if _, err := landline.Enqueue(ctx, tx, confirmTrip{t.ID}); err != nil {
		return nil, err
	}
	return landline.JSON(201, t)
}

func listTrips(ctx context.Context, db landline.Querier, r *landline.Request) (*landline.Response, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, flight, seats, confirmed_at IS NOT NULL FROM trips_trip WHERE user_id = $1 ORDER BY booked_at, id LIMIT 1000`,
		r.Principal().UserID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []trip{}
	for rows.Next() {
		var t trip
		if err := rows.Scan(&t.ID, &t.Flight, &t.Seats, &t.Confirmed); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return landline.JSON(200, map[string]any{"data": list, "page": map[string]any{"next": nil}})
}

// confirmTrip is a job: it exists exactly when its trip does.
type confirmTrip struct {
	Trip string `json:"trip"`
}

func (confirmTrip) Kind() string { return "trips.confirm" }

// confirm would also send the mail; it may run twice, so the time stays that of the first.
func confirm(ctx context.Context, job landline.Job[confirmTrip]) error {
	return landline.DatabaseFrom(ctx).Write(ctx, func(ctx context.Context, tx *landline.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE trips_trip SET confirmed_at = COALESCE(confirmed_at, $1) WHERE id = $2`, time.Now().UnixMilli(), job.Args.Trip)
		return err
	})
}
