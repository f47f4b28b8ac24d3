-- name: OperatorInsert
INSERT INTO admin_operator (id, name, role, token_mac, token_version, created_at, rotated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: OperatorByMAC
SELECT id, name, role, token_mac, token_version, created_at, rotated_at, last_used_at, disabled_at
FROM admin_operator WHERE token_mac = $1 AND disabled_at IS NULL;

-- name: OperatorMACs
SELECT token_version, token_mac FROM admin_operator WHERE disabled_at IS NULL ORDER BY id LIMIT $1;

-- name: OperatorByID
SELECT id, name, role, token_mac, token_version, created_at, rotated_at, last_used_at, disabled_at
FROM admin_operator WHERE id = $1;

-- name: OperatorByName
SELECT id, name, role, token_mac, token_version, created_at, rotated_at, last_used_at, disabled_at
FROM admin_operator WHERE name = $1 AND disabled_at IS NULL;

-- name: OperatorList
SELECT id, name, role, token_mac, token_version, created_at, rotated_at, last_used_at, disabled_at
FROM admin_operator WHERE id > $1 ORDER BY id LIMIT $2;

-- name: OperatorUsed
UPDATE admin_operator SET last_used_at = $1, token_mac = $2, token_version = $3
WHERE id = $4 AND token_mac = $5 AND disabled_at IS NULL;

-- name: OperatorRole
UPDATE admin_operator SET role = $1 WHERE id = $2 AND disabled_at IS NULL;

-- name: OperatorDisable
UPDATE admin_operator SET disabled_at = $1 WHERE id = $2 AND disabled_at IS NULL;

-- name: OperatorRotate
UPDATE admin_operator SET token_mac = $1, token_version = $2, rotated_at = $3
WHERE id = $4 AND disabled_at IS NULL;

-- name: OwnerCount
SELECT COUNT(*) FROM admin_operator WHERE role = 'owner' AND disabled_at IS NULL;
