-- What ended, read from a database that a backup replaces, and ended again in
-- the backup. Each list is read page by page: id, state, reason.

-- name: SessionsEnded
SELECT id, state, end_reason FROM session WHERE state <> 'active' AND id > $1 ORDER BY id LIMIT $2;

-- name: RevocationsAll
SELECT session_id, 'revoked', reason FROM session_revocation WHERE session_id > $1 ORDER BY session_id LIMIT $2;

-- Who was erased has rows in the backup again: deleting, until they are erased once more.

-- name: UsersGone
SELECT id, CASE state WHEN 'deleted' THEN 'deleting' ELSE state END, CAST(COALESCE(state_at, 0) AS TEXT) FROM app_user WHERE state IN ('locked', 'locked_no_login', 'deleting', 'deleted') AND id > $1 ORDER BY id LIMIT $2;

-- name: SessionEndAgain
UPDATE session SET state = $1, end_reason = $2 WHERE id = $3 AND state = 'active';

-- name: RevocationAgain
INSERT INTO session_revocation (session_id, reason, revoked_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- name: UserEndAgain
UPDATE app_user SET state = $1, state_at = $2 WHERE id = $3 AND state = 'active';

-- name: IdentitiesUnlinked
SELECT id, '', CAST(unlinked_at AS TEXT) FROM identity_unlinked WHERE id > $1 ORDER BY id LIMIT $2;

-- name: IdentityUnlinkAgain
DELETE FROM identity WHERE id = $1 RETURNING user_id;

-- name: PasswordsSet
SELECT id, '', CAST(secret_at AS TEXT) FROM identity WHERE secret_at > 0 AND id > $1 ORDER BY id LIMIT $2;

-- name: PasswordVoid
UPDATE identity SET secret_void = TRUE, secret_at = $1 WHERE id = $2 AND secret_at < $3;

-- name: ErasuresBegun
SELECT user_id, CASE state WHEN 'waiting' THEN 'waiting' ELSE 'running' END, CAST(erase_at AS TEXT) FROM erasure
WHERE state IN ('waiting', 'running', 'done') AND user_id > $1 ORDER BY user_id LIMIT $2;

-- name: ErasureBeginAgain
INSERT INTO erasure (user_id, state, requested_by, requested_at, erase_at, report)
SELECT u.id, CAST($1 AS TEXT), '', CAST($2 AS BIGINT), CAST($3 AS BIGINT), '{}' FROM app_user u WHERE u.id = $4 AND u.state <> 'deleted'
ON CONFLICT (user_id) DO UPDATE SET state = excluded.state, erase_at = excluded.erase_at WHERE erasure.state = 'undone';
