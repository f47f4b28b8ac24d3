-- +goose Up

-- jkt is the thumbprint of the key that the session's tokens are bound to (RFC
-- 9449). via is how an OAuth client got the session, '' for the app's own.
ALTER TABLE session ADD COLUMN jkt key_text;
ALTER TABLE session ADD COLUMN via TEXT NOT NULL DEFAULT '';

-- What a browser's cookie opens. id is a keyed hash of the cookie.
CREATE TABLE browser (
  id              key_text NOT NULL PRIMARY KEY,
  installation_id key_text NOT NULL,
  created_at      BIGINT   NOT NULL,
  expires_at      BIGINT   NOT NULL
);
CREATE INDEX browser_expires ON browser (expires_at);

-- What a user has allowed a client; scope is a space separated list.
CREATE TABLE oauth_consent (
  user_id    key_text NOT NULL,
  client_id  key_text NOT NULL,
  scope      TEXT     NOT NULL,
  created_at BIGINT   NOT NULL,
  updated_at BIGINT   NOT NULL,
  PRIMARY KEY (user_id, client_id)
);
