-- +goose Up
CREATE TABLE audit_head (
  id   BIGINT PRIMARY KEY CHECK (id = 1),
  size BIGINT NOT NULL CHECK (size >= 0) -- number of entries = seq of the last one
);
INSERT INTO audit_head (id, size) VALUES (1, 0);

CREATE TABLE audit_entry (
  seq         BIGINT PRIMARY KEY,
  staged_id   BIGINT NOT NULL UNIQUE, -- its id in audit_staged: an entry is moved once
  at          BIGINT NOT NULL,
  actor_type  key_text NOT NULL,
  actor_id    key_text NOT NULL,
  actor_ip    key_text NOT NULL,
  action      key_text NOT NULL,
  target      key_text NOT NULL,
  reason      TEXT NOT NULL,
  request_id  key_text NOT NULL,
  salt        BYTEA NOT NULL,
  before_json BYTEA,
  after_json  BYTEA,
  leaf_hash   BYTEA NOT NULL
);
CREATE TABLE audit_staged ( -- recorded, not yet given a place in the log
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  at          BIGINT NOT NULL,
  actor_type  key_text NOT NULL,
  actor_id    key_text NOT NULL,
  actor_ip    key_text NOT NULL,
  action      key_text NOT NULL,
  target      key_text NOT NULL,
  reason      TEXT NOT NULL,
  request_id  key_text NOT NULL,
  salt        BYTEA NOT NULL,
  before_json BYTEA,
  after_json  BYTEA
);
CREATE INDEX audit_entry_actor ON audit_entry (actor_id, seq);
CREATE INDEX audit_entry_target ON audit_entry (target, seq);
CREATE INDEX audit_entry_at ON audit_entry (at);

-- +goose Down
DROP TABLE audit_staged;
DROP TABLE audit_entry;
DROP TABLE audit_head;
