-- name: Used
SELECT used FROM quota_usage WHERE id = $1;

-- name: Take
INSERT INTO quota_usage (id, used, ends_at) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET used = quota_usage.used + excluded.used;

-- name: GiveBack
UPDATE quota_usage SET used = used - $1 WHERE id = $2 AND used >= $3;

-- name: Sweep
DELETE FROM quota_usage
WHERE id IN (SELECT id FROM quota_usage WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2);
