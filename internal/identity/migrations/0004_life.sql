-- +goose Up

-- What a user says of themselves, sealed with their data key.
CREATE TABLE user_profile (
  user_id    key_text NOT NULL PRIMARY KEY,
  sealed     BYTEA    NOT NULL,
  updated_at BIGINT   NOT NULL
);

-- The way of a user out of the system. The row stays, without anything personal,
-- so that neither a late write nor a restored backup brings the user back.
CREATE TABLE erasure (
  user_id      key_text NOT NULL PRIMARY KEY,
  state        key_text NOT NULL,
  requested_by key_text NOT NULL,
  requested_at BIGINT   NOT NULL,
  erase_at     BIGINT   NOT NULL,
  finished_at  BIGINT,
  report       TEXT     NOT NULL
);
CREATE INDEX erasure_due ON erasure (erase_at) WHERE state IN ('waiting', 'running');
CREATE INDEX erasure_finished ON erasure (finished_at, user_id) WHERE finished_at IS NOT NULL;

CREATE TABLE user_export (
  id           key_text NOT NULL PRIMARY KEY,
  user_id      key_text NOT NULL,
  state        key_text NOT NULL,
  requested_at BIGINT   NOT NULL,
  finished_at  BIGINT,
  expires_at   BIGINT   NOT NULL,
  size         BIGINT   NOT NULL,
  sha256       TEXT     NOT NULL
);
CREATE INDEX user_export_user ON user_export (user_id, id);
CREATE INDEX user_export_expires ON user_export (expires_at);

CREATE TABLE user_export_part (
  export_id key_text NOT NULL,
  part      BIGINT   NOT NULL,
  sealed    BYTEA    NOT NULL,
  PRIMARY KEY (export_id, part)
);
