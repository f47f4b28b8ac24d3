-- +goose Up
CREATE TABLE secret_master (
  id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
  kek_id     key_text NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE secret_key (
  id           key_text NOT NULL PRIMARY KEY,
  purpose      key_text NOT NULL,
  version      BIGINT NOT NULL,
  alg          key_text NOT NULL,
  state        key_text NOT NULL CHECK (state IN ('next', 'current', 'previous')),
  kek_id       key_text NOT NULL,
  wrapped      BYTEA NOT NULL,
  created_at   BIGINT NOT NULL,
  activated_at BIGINT,
  retired_at   BIGINT,
  UNIQUE (purpose, version)
);

-- One key signs and one waits, whatever two nodes do at the same time.
CREATE UNIQUE INDEX secret_key_current ON secret_key (purpose) WHERE state = 'current';
CREATE UNIQUE INDEX secret_key_next ON secret_key (purpose) WHERE state = 'next';

CREATE TABLE secret_dek (
  subject     key_text NOT NULL PRIMARY KEY,
  ref         BYTEA NOT NULL,
  kek_id      key_text NOT NULL,
  wrapped     BYTEA NOT NULL,
  created_at  BIGINT NOT NULL,
  shredded_at BIGINT
);

-- +goose Down
DROP TABLE secret_dek;
DROP TABLE secret_key;
DROP TABLE secret_master;
