-- name: MasterGet
SELECT kek_id FROM secret_master WHERE id = 1;

-- name: MasterInsert
INSERT INTO secret_master (id, kek_id, created_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING;

-- name: KeyList
SELECT id, purpose, version, alg, state, kek_id, wrapped, created_at, activated_at, retired_at
FROM secret_key ORDER BY purpose, version;

-- name: KeysOf
SELECT id, version, alg, state FROM secret_key WHERE purpose = $1 ORDER BY version;

-- name: KeyInsert
INSERT INTO secret_key (id, purpose, version, alg, state, kek_id, wrapped, created_at, activated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING;

-- name: KeyRetire
UPDATE secret_key SET state = 'previous', retired_at = $1 WHERE id = $2 AND state = 'current';

-- name: KeyPromote
UPDATE secret_key SET state = 'current', activated_at = $1 WHERE id = $2 AND state = 'next';

-- name: KeyPurge
DELETE FROM secret_key WHERE purpose = $1 AND state = 'previous' AND retired_at < $2 AND version > $3;

-- name: KeyDrop
DELETE FROM secret_key WHERE id = $1 AND state = 'previous';

-- name: DataKeyGet
SELECT ref, kek_id, wrapped, shredded_at FROM secret_dek WHERE subject = $1;

-- name: DataKeyInsert
INSERT INTO secret_dek (subject, ref, kek_id, wrapped, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING;

-- name: DataKeyShred
INSERT INTO secret_dek (subject, ref, kek_id, wrapped, created_at, shredded_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (subject) DO UPDATE SET ref = excluded.ref, wrapped = excluded.wrapped, shredded_at = excluded.shredded_at
WHERE secret_dek.shredded_at IS NULL;
