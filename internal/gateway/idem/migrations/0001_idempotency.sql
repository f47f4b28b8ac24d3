-- +goose Up
-- One row per idempotency key. id is a hash of scope and key, so that the row's
-- name has a fixed size whatever clients send.
CREATE TABLE idempotency (
    id          BYTEA    NOT NULL PRIMARY KEY,
    subject     key_text NOT NULL,           -- user the answer is about, '' for callers without a token
    fingerprint BYTEA    NOT NULL,           -- hash of the request that the key was first seen with
    state       BIGINT   NOT NULL CHECK (state BETWEEN 0 AND 2), -- 0 in flight, 1 done, 2 outcome unknown
    holder      key_text NOT NULL,           -- random name of the attempt that may finish the row
    fence       BIGINT   NOT NULL,           -- counts the attempts
    lease_until BIGINT   NOT NULL,           -- when an attempt in flight counts as lost
    expires_at  BIGINT   NOT NULL,           -- when the row is as good as gone
    status      BIGINT   NOT NULL,           -- HTTP status of the answer, 0 while there is none
    kept        BOOLEAN  NOT NULL,           -- whether header and body below are the answer
    header      BYTEA,
    body        BYTEA
);
CREATE INDEX idempotency_expires_at ON idempotency (expires_at);

-- +goose Down
DROP TABLE idempotency;
