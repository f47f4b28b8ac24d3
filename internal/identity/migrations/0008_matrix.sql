-- +goose Up

-- Which ways to sign in a session was opened or renewed with: when a provider
-- withdraws one, these sessions end. A row goes with its session's absolute end.
CREATE TABLE session_proof (
  session_id  key_text NOT NULL,
  identity_id key_text NOT NULL,
  expires_at  BIGINT   NOT NULL,
  PRIMARY KEY (session_id, identity_id)
);
CREATE INDEX session_proof_expires ON session_proof (expires_at);

-- Accounts whose only way in was withdrawn, by when.
CREATE INDEX app_user_no_login ON app_user (state_at) WHERE state = 'locked_no_login';

-- Why an export failed, for its user.
ALTER TABLE user_export ADD COLUMN fault TEXT NOT NULL DEFAULT '';

-- A sign-in gives the session's next refresh token. Until that is used, those
-- that the app may have stored instead are good: from this number to previous. 0 = previous alone.
ALTER TABLE session ADD COLUMN accepted_from BIGINT NOT NULL DEFAULT 0;
