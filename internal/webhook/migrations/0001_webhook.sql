-- +goose Up
CREATE TABLE webhook_event (
  id         key_text NOT NULL PRIMARY KEY, -- evt_…, the webhook-id
  type       key_text NOT NULL,
  subject    key_text NOT NULL,  -- id of the user that it is about, '' for none
  sequence   BIGINT NOT NULL,    -- grows within the subject; 0 without one
  payload    TEXT NOT NULL,      -- the body, byte by byte as it is signed
  trace_id   key_text NOT NULL,
  final      BOOLEAN NOT NULL,   -- tells of the subject's end: erasure leaves it
  created_at BIGINT NOT NULL
);
CREATE INDEX webhook_event_subject ON webhook_event (subject, id) WHERE subject <> '';
CREATE INDEX webhook_event_created ON webhook_event (created_at);

-- The last sequence of a subject. Numbers are at least the time in
-- milliseconds, so that a row may go when its last event has gone.
CREATE TABLE webhook_subject (
  subject key_text NOT NULL PRIMARY KEY,
  last    BIGINT NOT NULL
);

CREATE TABLE webhook_delivery (
  id          key_text NOT NULL PRIMARY KEY, -- whd_…
  event_id    key_text NOT NULL,
  endpoint    key_text NOT NULL,
  subject     key_text NOT NULL,
  sequence    BIGINT NOT NULL,
  state       key_text NOT NULL CHECK (state IN ('pending', 'sending', 'delivered', 'dead')),
  attempts    BIGINT NOT NULL,   -- made in all
  round       BIGINT NOT NULL,   -- made since the event or its last replay
  replays     BIGINT NOT NULL,
  due_at      BIGINT NOT NULL,
  lease_until BIGINT,            -- of a sending one: then its node is taken for dead
  expires_at  BIGINT NOT NULL,   -- then a pending one is dead
  status      BIGINT NOT NULL,   -- of the last answer, 0 for none
  error       TEXT NOT NULL,     -- of the last attempt, '' when it was delivered
  created_at  BIGINT NOT NULL,
  finished_at BIGINT,
  UNIQUE (event_id, endpoint)
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint, due_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_open ON webhook_delivery (endpoint, subject, sequence) WHERE state IN ('pending', 'sending');
CREATE INDEX webhook_delivery_endpoint ON webhook_delivery (endpoint, id);
CREATE INDEX webhook_delivery_subject ON webhook_delivery (subject) WHERE subject <> '';
CREATE INDEX webhook_delivery_state ON webhook_delivery (state, id);

CREATE TABLE webhook_attempt (
  delivery_id key_text NOT NULL,
  number      BIGINT NOT NULL,
  at          BIGINT NOT NULL,
  took        BIGINT NOT NULL,   -- milliseconds
  status      BIGINT NOT NULL,   -- 0: no answer
  error       TEXT NOT NULL,
  excerpt     TEXT NOT NULL,     -- beginning of a refusal's body, redacted
  PRIMARY KEY (delivery_id, number)
);

-- An endpoint that is disabled; others have no row.
CREATE TABLE webhook_endpoint (
  name        key_text NOT NULL PRIMARY KEY,
  disabled_at BIGINT NOT NULL,
  reason      TEXT NOT NULL
);

-- +goose Down
DROP TABLE webhook_endpoint;
DROP TABLE webhook_attempt;
DROP TABLE webhook_delivery;
DROP TABLE webhook_subject;
DROP TABLE webhook_event;
