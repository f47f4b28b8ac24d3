-- name: Insert
INSERT INTO api_key (id, name, token_mac, token_version, rate_limit, rate_window, rate_burst, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: Count
SELECT COUNT(*) FROM api_key WHERE disabled_at IS NULL;

-- name: Get
SELECT id, name, token_mac, token_version, rate_limit, rate_window, rate_burst, created_at, expires_at, disabled_at
FROM api_key WHERE id = $1;

-- name: Page
SELECT id, name, token_mac, token_version, rate_limit, rate_window, rate_burst, created_at, expires_at, disabled_at
FROM api_key WHERE id > $1 ORDER BY id LIMIT $2;

-- name: Live
SELECT id, name, token_mac, token_version, rate_limit, rate_window, rate_burst, created_at, expires_at, disabled_at
FROM api_key WHERE disabled_at IS NULL ORDER BY id LIMIT $1;

-- name: Disable
UPDATE api_key SET disabled_at = $1 WHERE id = $2 AND disabled_at IS NULL;
