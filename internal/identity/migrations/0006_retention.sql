-- +goose Up
CREATE INDEX app_user_anonymous_age ON app_user (created_at, id) WHERE kind = 'anonymous' AND state = 'active';
