-- name: Put
INSERT INTO gateway_maintenance (feature, title, message, starts_at, ends_at, retry_after, allowed, set_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (feature) DO UPDATE SET title = excluded.title, message = excluded.message, starts_at = excluded.starts_at,
    ends_at = excluded.ends_at, retry_after = excluded.retry_after, allowed = excluded.allowed, set_at = excluded.set_at;

-- name: Delete
DELETE FROM gateway_maintenance WHERE feature = $1;

-- name: Get
SELECT feature, title, message, starts_at, ends_at, retry_after, allowed, set_at
FROM gateway_maintenance WHERE feature = $1;

-- name: List
SELECT feature, title, message, starts_at, ends_at, retry_after, allowed, set_at
FROM gateway_maintenance ORDER BY feature LIMIT 10001;
