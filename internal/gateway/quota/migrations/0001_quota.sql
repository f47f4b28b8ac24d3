-- +goose Up
-- One row per quota, caller and period. id is a hash of the three, so that the
-- table shows nobody's address.
CREATE TABLE quota_usage (
    id      BYTEA  NOT NULL PRIMARY KEY,
    used    BIGINT NOT NULL,  -- units that nodes have taken, used or not
    ends_at BIGINT NOT NULL   -- when the period is over
);
CREATE INDEX quota_usage_ends_at ON quota_usage (ends_at);

-- +goose Down
DROP TABLE quota_usage;
