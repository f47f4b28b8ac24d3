-- name: JobList
SELECT id, kind, queue, state, priority, attempt, max_attempts, CAST(args AS TEXT), CAST(COALESCE(errors, '[]') AS TEXT),
  created_at, scheduled_at, attempted_at, finalized_at
FROM river_job
WHERE ($1 = '' OR state = $1) AND ($2 = '' OR kind = $2) AND ($3 = '' OR queue = $3) AND id < $4
ORDER BY id DESC LIMIT $5;

-- name: JobGet
SELECT id, kind, queue, state, priority, attempt, max_attempts, CAST(args AS TEXT), CAST(COALESCE(errors, '[]') AS TEXT),
  created_at, scheduled_at, attempted_at, finalized_at
FROM river_job WHERE id = $1;

-- Jobs that were running when the process that owned the file ended.
-- name: JobReclaim
UPDATE river_job SET
  state = CASE WHEN attempt >= max_attempts THEN 'discarded' ELSE 'available' END,
  finalized_at = CASE WHEN attempt >= max_attempts THEN strftime('%Y-%m-%d %H:%M:%f', 'now') END,
  errors = json_insert(COALESCE(errors, json('[]')), '$[#]',
    json_object('at', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 'attempt', attempt, 'error', CAST($1 AS TEXT), 'trace', ''))
WHERE state = 'running';
