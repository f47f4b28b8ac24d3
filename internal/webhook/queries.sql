-- name: SequenceNext
INSERT INTO webhook_subject (subject, last) VALUES ($1, $2)
ON CONFLICT (subject) DO UPDATE SET last = CASE WHEN excluded.last > webhook_subject.last THEN excluded.last ELSE webhook_subject.last + 1 END
RETURNING last;

-- name: EventInsert
INSERT INTO webhook_event (id, type, subject, sequence, payload, trace_id, final, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: EventGet
SELECT id, type, subject, sequence, payload, trace_id, created_at FROM webhook_event WHERE id = $1;

-- name: EventList
SELECT id, type, subject, sequence, payload, trace_id, created_at FROM webhook_event
WHERE id < $1 AND created_at >= $2 AND created_at < $3 AND ($4 = '' OR type = $4)
ORDER BY id DESC LIMIT $5;

-- name: EventListOfSubject
SELECT id, type, subject, sequence, payload, trace_id, created_at FROM webhook_event
WHERE id < $1 AND created_at >= $2 AND created_at < $3 AND ($4 = '' OR type = $4) AND subject = $5 AND subject <> ''
ORDER BY id DESC LIMIT $6;

-- name: EventsSince
SELECT id, type, subject, sequence FROM webhook_event
WHERE created_at >= $1 AND created_at <= $2 AND id > $3 ORDER BY id LIMIT $4;

-- name: EventsOld
SELECT e.id FROM webhook_event e WHERE e.created_at < $1
AND NOT EXISTS (SELECT 1 FROM webhook_delivery d WHERE d.event_id = e.id AND d.state IN ('pending', 'sending'))
ORDER BY e.created_at LIMIT $2;

-- name: SubjectsOld
DELETE FROM webhook_subject WHERE last < $1;

-- name: DeliveryInsert
INSERT INTO webhook_delivery (id, event_id, endpoint, subject, sequence, state, attempts, round, replays, due_at, expires_at, status, error, created_at)
VALUES ($1, $2, $3, $4, $5, 'pending', 0, 0, 0, $6, $7, 0, '', $8);

-- A delivery again from its beginning, or one that the endpoint never had.
-- name: DeliveryReplay
INSERT INTO webhook_delivery (id, event_id, endpoint, subject, sequence, state, attempts, round, replays, due_at, expires_at, status, error, created_at)
VALUES ($1, $2, $3, $4, $5, 'pending', 0, 0, 0, $6, $7, 0, '', $8)
ON CONFLICT (event_id, endpoint) DO UPDATE SET state = 'pending', round = 0, replays = webhook_delivery.replays + 1,
  due_at = excluded.due_at, expires_at = excluded.expires_at, finished_at = NULL
WHERE webhook_delivery.state <> 'sending';

-- What the endpoint may be sent now: of every subject only the oldest that is open.
-- name: Due
SELECT d.id FROM webhook_delivery d
WHERE d.endpoint = $1 AND d.state = 'pending' AND d.due_at <= $2
AND NOT EXISTS (SELECT 1 FROM webhook_endpoint x WHERE x.name = d.endpoint)
AND NOT EXISTS (SELECT 1 FROM webhook_delivery o WHERE o.endpoint = d.endpoint AND o.subject = d.subject AND o.subject <> ''
  AND o.sequence < d.sequence AND o.state IN ('pending', 'sending'))
ORDER BY d.due_at, d.sequence LIMIT $3;

-- name: DueInAnyOrder
SELECT d.id FROM webhook_delivery d
WHERE d.endpoint = $1 AND d.state = 'pending' AND d.due_at <= $2
AND NOT EXISTS (SELECT 1 FROM webhook_endpoint x WHERE x.name = d.endpoint)
ORDER BY d.due_at LIMIT $3;

-- name: DueEndpoints
SELECT DISTINCT endpoint FROM webhook_delivery WHERE state = 'pending' AND due_at <= $1;

-- name: DeliveryClaim
UPDATE webhook_delivery SET state = 'sending', lease_until = $1 WHERE id = $2 AND state = 'pending';

-- name: DeliveryMessage
SELECT d.id, d.event_id, d.attempts, d.round, e.payload, e.trace_id, e.created_at
FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id WHERE d.id = $1;

-- name: DeliveryRecord
UPDATE webhook_delivery SET state = $1, attempts = attempts + 1, round = round + 1, due_at = $2, lease_until = NULL, status = $3, error = $4, finished_at = $5
WHERE id = $6 AND state = 'sending' AND attempts = $7;

-- name: DeliveryRelease
UPDATE webhook_delivery SET state = 'pending', lease_until = NULL WHERE id = $1 AND state = 'sending' AND attempts = $2;

-- name: AttemptInsert
INSERT INTO webhook_attempt (delivery_id, number, at, took, status, error, excerpt) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: AttemptList
SELECT number, at, took, status, error, excerpt FROM webhook_attempt WHERE delivery_id = $1 ORDER BY number DESC LIMIT $2;

-- name: DeliveryGet
SELECT d.id, d.event_id, e.type, d.endpoint, d.subject, d.state, d.attempts, d.replays, d.due_at, d.status, d.error, d.created_at, d.finished_at
FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id WHERE d.id = $1;

-- name: DeliveriesOfEvent
SELECT d.id, d.event_id, e.type, d.endpoint, d.subject, d.state, d.attempts, d.replays, d.due_at, d.status, d.error, d.created_at, d.finished_at
FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id WHERE d.event_id = $1 ORDER BY d.endpoint;

-- name: DeliveryList
SELECT d.id, d.event_id, e.type, d.endpoint, d.subject, d.state, d.attempts, d.replays, d.due_at, d.status, d.error, d.created_at, d.finished_at
FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id
WHERE d.id < $1 AND d.created_at >= $2 AND d.created_at < $3 AND ($4 = '' OR d.endpoint = $4) AND ($5 = '' OR d.state = $5) AND ($6 = '' OR e.type = $6) AND ($7 = '' OR d.subject = $7)
ORDER BY d.id DESC LIMIT $8;

-- name: DeliveriesDead
SELECT d.id, d.event_id, d.subject, d.sequence FROM webhook_delivery d
WHERE d.endpoint = $1 AND d.state = 'dead' AND d.created_at >= $2 AND d.created_at <= $3 AND d.id > $4 ORDER BY d.id LIMIT $5;

-- name: LeasesEnded
SELECT id, attempts FROM webhook_delivery WHERE state = 'sending' AND lease_until < $1 LIMIT $2;

-- name: Expired
SELECT id FROM webhook_delivery WHERE state = 'pending' AND expires_at < $1 LIMIT $2;

-- name: DeliveryExpire
UPDATE webhook_delivery SET state = 'dead', finished_at = $1, error = CASE WHEN error = '' THEN $2 ELSE error END WHERE id = $3 AND state = 'pending';

-- name: Counts
SELECT endpoint, state, COUNT(*) FROM webhook_delivery WHERE state IN ('pending', 'sending', 'dead') GROUP BY endpoint, state;

-- name: EndpointDisabled
SELECT disabled_at, reason FROM webhook_endpoint WHERE name = $1;

-- name: EndpointsDisabled
SELECT name, disabled_at, reason FROM webhook_endpoint ORDER BY name;

-- name: EndpointDisable
INSERT INTO webhook_endpoint (name, disabled_at, reason) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING;

-- name: EndpointEnable
DELETE FROM webhook_endpoint WHERE name = $1;

-- name: AttemptErase
DELETE FROM webhook_attempt WHERE delivery_id IN
  (SELECT d.id FROM webhook_delivery d JOIN webhook_event e ON e.id = d.event_id WHERE d.subject = $1 AND d.subject <> '' AND e.final = FALSE);

-- name: DeliveryErase
DELETE FROM webhook_delivery WHERE event_id IN (SELECT e.id FROM webhook_event e WHERE e.subject = $1 AND e.subject <> '' AND e.final = FALSE);

-- name: EventErase
DELETE FROM webhook_event WHERE subject = $1 AND subject <> '' AND final = FALSE;
