-- name: JobList
SELECT id, kind, queue, state::text, priority, attempt, max_attempts, args::text, COALESCE(array_to_json(errors), '[]')::text,
  created_at, scheduled_at, attempted_at, finalized_at
FROM river_job
WHERE ($1::text = '' OR state::text = $1) AND ($2::text = '' OR kind = $2) AND ($3::text = '' OR queue = $3) AND id < $4
ORDER BY id DESC LIMIT $5;

-- name: JobGet
SELECT id, kind, queue, state::text, priority, attempt, max_attempts, args::text, COALESCE(array_to_json(errors), '[]')::text,
  created_at, scheduled_at, attempted_at, finalized_at
FROM river_job WHERE id = $1;
