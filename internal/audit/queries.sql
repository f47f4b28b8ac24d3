-- name: NextSeq
UPDATE audit_head SET size = size + 1 WHERE id = 1 RETURNING size;

-- name: Size
SELECT size FROM audit_head WHERE id = 1;

-- name: Stage
INSERT INTO audit_staged (at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: AnyStaged
SELECT id FROM audit_staged ORDER BY id LIMIT 1;

-- name: Staged
SELECT id, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json
FROM audit_staged ORDER BY id LIMIT $1;

-- name: Unstage
DELETE FROM audit_staged WHERE id = $1;

-- name: Insert
INSERT INTO audit_entry (seq, staged_id, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: List
SELECT seq, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash
FROM audit_entry
WHERE seq < $1 AND at >= $2 AND at < $3 AND action >= $4 AND action < $5
ORDER BY seq DESC LIMIT $6;

-- name: ListByActor
SELECT seq, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash
FROM audit_entry
WHERE seq < $1 AND at >= $2 AND at < $3 AND action >= $4 AND action < $5 AND actor_id = $6
ORDER BY seq DESC LIMIT $7;

-- name: ListByTarget
SELECT seq, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash
FROM audit_entry
WHERE seq < $1 AND at >= $2 AND at < $3 AND action >= $4 AND action < $5 AND target = $6
ORDER BY seq DESC LIMIT $7;

-- name: ListByActorAndTarget
SELECT seq, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash
FROM audit_entry
WHERE seq < $1 AND at >= $2 AND at < $3 AND action >= $4 AND action < $5 AND target = $6 AND actor_id = $7
ORDER BY seq DESC LIMIT $8;

-- name: Walk
SELECT seq, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash
FROM audit_entry
WHERE seq > $1
ORDER BY seq LIMIT $2;
