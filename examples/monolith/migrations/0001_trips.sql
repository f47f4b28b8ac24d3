-- +goose Up
CREATE TABLE trips_trip (
    id           key_text PRIMARY KEY,
    user_id      key_text NOT NULL,
    flight       key_text NOT NULL,
    seats        BIGINT   NOT NULL CHECK (seats BETWEEN 1 AND 9),
    booked_at    BIGINT   NOT NULL,
    confirmed_at BIGINT
);

CREATE INDEX trips_trip_user ON trips_trip (user_id, booked_at);
CREATE INDEX trips_trip_flight ON trips_trip (flight);
