-- +goose NO TRANSACTION
-- +goose Up

-- As on SQLite, while other nodes go on writing. It may be done again after a
-- node that died in the middle of it.
DROP INDEX CONCURRENTLY IF EXISTS app_user_anonymous_age;
