-- How jobs move from SQLite to PostgreSQL. JobsFrom runs there, the others here.

-- name: JobsFrom
SELECT id, kind, queue,
  CASE WHEN state = 'running' AND attempt < max_attempts THEN 'available' ELSE state END,
  priority, attempt, max_attempts, CAST(args AS TEXT), CAST(COALESCE(attempted_by, '[]') AS TEXT), CAST(COALESCE(errors, '[]') AS TEXT),
  CAST(metadata AS TEXT), CAST(tags AS TEXT),
  CAST(attempted_at AS TEXT), CAST(created_at AS TEXT), CAST(finalized_at AS TEXT), CAST(scheduled_at AS TEXT), unique_key, unique_states
FROM river_job ORDER BY id;

-- name: JobsThere
SELECT COUNT(*) FROM river_job;

-- name: JobTo
INSERT INTO river_job (id, kind, queue, state, priority, attempt, max_attempts, args, attempted_by, errors, metadata, tags,
  attempted_at, created_at, finalized_at, scheduled_at, unique_key, unique_states)
VALUES ($1, $2, $3, CAST(CAST($4 AS TEXT) AS river_job_state), $5, $6, $7, CAST(CAST($8 AS TEXT) AS JSONB),
  ARRAY(SELECT jsonb_array_elements_text(CAST(CAST($9 AS TEXT) AS JSONB))), ARRAY(SELECT jsonb_array_elements(CAST(CAST($10 AS TEXT) AS JSONB))),
  CAST(CAST($11 AS TEXT) AS JSONB), ARRAY(SELECT jsonb_array_elements_text(CAST(CAST($12 AS TEXT) AS JSONB))),
  $13, $14, $15, $16, $17, CAST(CAST($18 AS INTEGER) AS BIT(8)))
RETURNING kind, CAST(state AS TEXT), attempt, CAST(args AS TEXT), scheduled_at;

-- name: JobsSequence
SELECT setval(pg_get_serial_sequence('river_job', 'id'), GREATEST((SELECT MAX(id) FROM river_job), 1), EXISTS (SELECT 1 FROM river_job));
