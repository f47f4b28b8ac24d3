-- +goose Up

-- An installation proves itself with the secret that is derived from its id
-- (secret_key is the version of the key it is derived with) or with the private
-- key of public_key. bootstrap_key is a keyed hash, kept for a few days.
CREATE TABLE installation (
  id            key_text NOT NULL PRIMARY KEY,
  secret_key    BIGINT   NOT NULL,
  public_key    TEXT     NOT NULL,
  thumbprint    key_text,
  bootstrap_key key_text,
  cloned_from   key_text,
  app_version   TEXT     NOT NULL,
  app_build     BIGINT   NOT NULL,
  platform      TEXT     NOT NULL,
  os            TEXT     NOT NULL,
  device        TEXT     NOT NULL,
  locale        TEXT     NOT NULL,
  created_at    BIGINT   NOT NULL,
  seen_at       BIGINT   NOT NULL
);
CREATE UNIQUE INDEX installation_thumbprint ON installation (thumbprint) WHERE thumbprint IS NOT NULL;
CREATE UNIQUE INDEX installation_bootstrap_key ON installation (bootstrap_key) WHERE bootstrap_key IS NOT NULL;
CREATE INDEX installation_bootstrap_age ON installation (created_at) WHERE bootstrap_key IS NOT NULL;

-- "user" is a reserved word. installation_id is where an anonymous user was made.
CREATE TABLE app_user (
  id              key_text NOT NULL PRIMARY KEY,
  kind            TEXT     NOT NULL,
  state           TEXT     NOT NULL,
  installation_id key_text,
  created_at      BIGINT   NOT NULL
);
CREATE UNIQUE INDEX app_user_anonymous ON app_user (installation_id) WHERE kind = 'anonymous' AND state = 'active';

CREATE TABLE session (
  id              key_text NOT NULL PRIMARY KEY,
  user_id         key_text NOT NULL,
  installation_id key_text NOT NULL,
  client_id       key_text NOT NULL,
  state           TEXT     NOT NULL,
  end_reason      TEXT     NOT NULL,
  key_version     BIGINT   NOT NULL,
  current         BIGINT   NOT NULL,
  previous        BIGINT   NOT NULL,
  recoveries      BIGINT   NOT NULL,
  rotated_at      BIGINT   NOT NULL,
  created_at      BIGINT   NOT NULL,
  auth_time       BIGINT   NOT NULL,
  methods         TEXT     NOT NULL,
  scope           TEXT     NOT NULL,
  idle_expires_at BIGINT   NOT NULL,
  expires_at      BIGINT   NOT NULL
);
CREATE UNIQUE INDEX session_active ON session (installation_id, user_id) WHERE state = 'active';
CREATE INDEX session_by_user ON session (user_id);
CREATE INDEX session_expires ON session (expires_at);

-- The sessions whose access tokens must be refused although they verify. Rows
-- are kept until every such token has expired; a row outlives its session.
CREATE TABLE session_revocation (
  session_id key_text NOT NULL PRIMARY KEY,
  reason     TEXT     NOT NULL,
  revoked_at BIGINT   NOT NULL
);
CREATE INDEX session_revocation_time ON session_revocation (revoked_at, session_id);

-- Proofs of possession that have been used; kept until they are too old to be accepted.
CREATE TABLE proof_seen (
  id         key_text NOT NULL PRIMARY KEY,
  expires_at BIGINT   NOT NULL
);
CREATE INDEX proof_seen_expires ON proof_seen (expires_at);

-- At most one row: until when refresh tokens newer than the database are believed.
CREATE TABLE restore_window (
  id          BIGINT NOT NULL PRIMARY KEY,
  declared_at BIGINT NOT NULL,
  until       BIGINT NOT NULL
);
