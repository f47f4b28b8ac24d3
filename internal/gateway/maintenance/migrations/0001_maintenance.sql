-- +goose Up
-- One row per switch that an operator has thrown; feature '' is the whole app.
CREATE TABLE gateway_maintenance (
    feature     key_text NOT NULL PRIMARY KEY,
    title       TEXT     NOT NULL,
    message     TEXT     NOT NULL,
    starts_at   BIGINT,            -- NULL = from the moment it was set
    ends_at     BIGINT,            -- NULL = until it is switched off
    retry_after BIGINT   NOT NULL, -- milliseconds, 0 = the default
    allowed     TEXT     NOT NULL, -- JSON list of features that stay reachable, of the whole app's row alone
    set_at      BIGINT   NOT NULL
);

-- +goose Down
DROP TABLE gateway_maintenance;
