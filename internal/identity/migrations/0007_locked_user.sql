-- +goose Up

-- The anonymous user of an installation is looked for among the active ones
-- (app_user_anonymous) and, almost always in vain, among the locked ones.
CREATE INDEX app_user_anonymous_locked ON app_user (installation_id) WHERE kind = 'anonymous' AND state = 'locked';
