-- +goose Up
CREATE TABLE admin_operator (
  id            key_text PRIMARY KEY,
  name          key_text NOT NULL,
  role          key_text NOT NULL CHECK (role IN ('viewer', 'support', 'operator', 'owner')),
  token_mac     BYTEA NOT NULL,
  token_version BIGINT NOT NULL, -- key version the MAC was made with
  created_at    BIGINT NOT NULL,
  rotated_at    BIGINT NOT NULL, -- when the present token was made
  last_used_at  BIGINT,          -- within five minutes
  disabled_at   BIGINT           -- the row stays, so that the audit log's ids keep a name
);
CREATE UNIQUE INDEX admin_operator_mac ON admin_operator (token_mac);
CREATE UNIQUE INDEX admin_operator_name ON admin_operator (name) WHERE disabled_at IS NULL;

-- +goose Down
DROP TABLE admin_operator;
