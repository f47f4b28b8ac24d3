-- +goose Up
CREATE TABLE api_key (
  id            key_text PRIMARY KEY,
  name          key_text NOT NULL,
  token_mac     BYTEA NOT NULL,
  token_version BIGINT NOT NULL,  -- key version the MAC was made with
  rate_limit    BIGINT,           -- requests per rate_window, NULL: as the feature says
  rate_window   BIGINT,           -- milliseconds
  rate_burst    BIGINT,
  created_at    BIGINT NOT NULL,
  expires_at    BIGINT,           -- NULL: never
  disabled_at   BIGINT            -- the row stays, so that the audit log's ids keep a name
);
CREATE UNIQUE INDEX api_key_mac ON api_key (token_mac);
CREATE UNIQUE INDEX api_key_name ON api_key (name) WHERE disabled_at IS NULL;

-- +goose Down
DROP TABLE api_key;
