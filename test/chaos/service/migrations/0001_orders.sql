-- +goose Up
CREATE TABLE orders_order (
    id      key_text PRIMARY KEY,
    user_id key_text NOT NULL
);
