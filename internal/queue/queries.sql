-- name: PeriodicClaim
INSERT INTO queue_periodic (id, period) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET period = excluded.period WHERE queue_periodic.period < excluded.period;

-- name: JobsOpen
SELECT queue, state, COUNT(*) FROM river_job
WHERE state IN ('available', 'scheduled', 'running', 'retryable', 'discarded') GROUP BY queue, state;
