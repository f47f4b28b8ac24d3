-- +goose Up
ALTER TABLE orders_order ADD COLUMN note TEXT NOT NULL DEFAULT '';
