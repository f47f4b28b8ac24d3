-- name: Insert
INSERT INTO idempotency (id, subject, fingerprint, state, holder, fence, lease_until, expires_at, status, kept)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING;

-- name: Get
SELECT fingerprint, state, holder, fence, lease_until, expires_at, status, kept, header, body
FROM idempotency
WHERE id = $1;

-- name: Known
SELECT expires_at FROM idempotency WHERE id = $1;

-- name: TakeOver
UPDATE idempotency
SET subject = $1, fingerprint = $2, state = 0, holder = $3, fence = $4, lease_until = $5, expires_at = $6,
    status = 0, kept = FALSE, header = NULL, body = NULL
WHERE id = $7 AND holder = $8 AND fence = $9;

-- name: Finish
UPDATE idempotency
SET state = $1, status = $2, kept = $3, header = $4, body = $5
WHERE id = $6 AND holder = $7 AND fence = $8;

-- name: Release
DELETE FROM idempotency
WHERE id = $1 AND holder = $2 AND fence = $3;

-- name: Sweep
DELETE FROM idempotency
WHERE id IN (SELECT id FROM idempotency WHERE expires_at <= $1 AND lease_until <= $2 ORDER BY expires_at LIMIT $3);

-- name: Erase
DELETE FROM idempotency
WHERE subject = $1 AND (state <> 0 OR lease_until <= $2);
