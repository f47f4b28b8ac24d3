-- +goose Up

-- Ids are made in the order of time: who is old is found by the primary key,
-- and a new user needs one index entry less.
DROP INDEX app_user_anonymous_age;
