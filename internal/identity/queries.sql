-- The two inserts that decide who was first do nothing when another was; the
-- caller reads the count of rows.

-- name: InstallationInsert
INSERT INTO installation (id, secret_key, public_key, thumbprint, bootstrap_key, cloned_from, app_version, app_build, platform, os, device, locale, created_at, seen_at, device_level, device_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT DO NOTHING;

-- What a first launch with a secret makes: the columns left out have their
-- defaults. Nothing of an installation that is made in the same transaction can
-- be there already, so that its user and its session are inserted without asking:
-- PostgreSQL looks into each unique index twice when it is asked.

-- name: InstallationFirst
INSERT INTO installation (id, secret_key, public_key, bootstrap_key, app_version, app_build, platform, os, device, locale, created_at, seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING;

-- On PostgreSQL the installation is inserted without asking too: a group that
-- does nothing but this is one message, commit included, and who was second waits
-- for the first to commit before it fails. SQLite tells it before that.

-- name: InstallationFirstUnasked
INSERT INTO installation (id, secret_key, public_key, bootstrap_key, app_version, app_build, platform, os, device, locale, created_at, seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: UserFirst
INSERT INTO app_user (id, kind, state, installation_id, created_at) VALUES ($1, $2, $3, $4, $5);

-- name: SessionFirst
INSERT INTO session (id, user_id, installation_id, client_id, state, end_reason, key_version, current, previous, recoveries, rotated_at, created_at, auth_time, methods, scope, idle_expires_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- The same on SQLite, where what all first launches have in common is in the text:
-- each argument is boxed, checked, converted, bound and copied. PostgreSQL takes
-- the rows of many callers as one statement where all columns are arguments.

-- name: InstallationLaunch
INSERT INTO installation (id, secret_key, public_key, bootstrap_key, app_version, app_build, platform, os, device, locale, created_at, seen_at)
VALUES ($1, $2, '', $3, $4, $5, $6, $7, $8, $9, $10, $10)
ON CONFLICT DO NOTHING;

-- name: UserLaunch
INSERT INTO app_user (id, kind, state, installation_id, created_at) VALUES ($1, 'anonymous', 'active', $2, $3);

-- name: SessionLaunch
INSERT INTO session (id, user_id, installation_id, client_id, state, end_reason, key_version, current, previous, recoveries, rotated_at, created_at, auth_time, methods, scope, idle_expires_at, expires_at)
VALUES ($1, $2, $3, $4, 'active', '', $5, 1, 0, 0, $6, $6, $6, $7, $8, $9, $10);

-- name: InstallationByID
SELECT id, secret_key, public_key, thumbprint, cloned_from, app_version, app_build, platform, os, device, locale, created_at, seen_at, device_level, device_until
FROM installation WHERE id = $1;

-- name: InstallationByThumbprint
SELECT id, secret_key, public_key, thumbprint, cloned_from, app_version, app_build, platform, os, device, locale, created_at, seen_at, device_level, device_until
FROM installation WHERE thumbprint = $1;

-- name: InstallationByBootstrapKey
SELECT id, secret_key, public_key, thumbprint, cloned_from, app_version, app_build, platform, os, device, locale, created_at, seen_at, device_level, device_until
FROM installation WHERE bootstrap_key = $1;

-- name: InstallationSeen
UPDATE installation SET app_version = $1, app_build = $2, platform = $3, os = $4, device = $5, locale = $6, seen_at = $7 WHERE id = $8;

-- name: UserInsert
INSERT INTO app_user (id, kind, state, installation_id, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING;

-- name: UserByID
SELECT id, kind, state, installation_id, created_at, merged_into, state_at FROM app_user WHERE id = $1;

-- Two looks, each by a partial index of its own: with IN neither index applies.

-- name: UserAnonymous
SELECT id, kind, state, installation_id, created_at, merged_into, state_at FROM app_user
WHERE installation_id = $1 AND kind = 'anonymous' AND state = 'active'
UNION ALL
SELECT id, kind, state, installation_id, created_at, merged_into, state_at FROM app_user
WHERE installation_id = $1 AND kind = 'anonymous' AND state = 'locked'
ORDER BY state LIMIT 1;

-- name: SessionInsert
INSERT INTO session (id, user_id, installation_id, client_id, state, end_reason, key_version, current, previous, recoveries, rotated_at, created_at, auth_time, methods, scope, idle_expires_at, expires_at, formerly, device_level, device_until, jkt, via)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
ON CONFLICT DO NOTHING;

-- name: SessionByID
SELECT s.id, s.user_id, s.installation_id, s.client_id, s.state, s.end_reason, s.key_version, s.current, s.previous, s.recoveries, s.rotated_at, s.created_at, s.auth_time, s.methods, s.scope, s.idle_expires_at, s.expires_at, s.formerly, s.device_level, s.device_until, s.jkt, s.via, s.accepted_from,
       u.id, u.kind, u.state, u.installation_id, u.created_at, u.merged_into, u.state_at
FROM session s LEFT JOIN app_user u ON u.id = s.user_id
WHERE s.id = $1;

-- name: SessionsActive
SELECT s.id, s.user_id, s.installation_id, s.client_id, s.state, s.end_reason, s.key_version, s.current, s.previous, s.recoveries, s.rotated_at, s.created_at, s.auth_time, s.methods, s.scope, s.idle_expires_at, s.expires_at, s.formerly, s.device_level, s.device_until, s.jkt, s.via, s.accepted_from,
       u.id, u.kind, u.state, u.installation_id, u.created_at, u.merged_into, u.state_at
FROM session s LEFT JOIN app_user u ON u.id = s.user_id
WHERE s.installation_id = $1 AND s.state = 'active'
ORDER BY s.id;

-- name: SessionsOfUser
SELECT s.id, s.user_id, s.installation_id, s.client_id, s.state, s.end_reason, s.key_version, s.current, s.previous, s.recoveries, s.rotated_at, s.created_at, s.auth_time, s.methods, s.scope, s.idle_expires_at, s.expires_at, s.formerly, s.device_level, s.device_until, s.jkt, s.via, s.accepted_from,
       u.id, u.kind, u.state, u.installation_id, u.created_at, u.merged_into, u.state_at
FROM session s LEFT JOIN app_user u ON u.id = s.user_id
WHERE s.user_id = $1
ORDER BY s.id DESC LIMIT $2;

-- name: SessionAdvance
UPDATE session SET current = $1, previous = $2, accepted_from = $3, recoveries = $4, rotated_at = $5, idle_expires_at = $6
WHERE id = $7 AND current = $8 AND state = 'active';

-- The refresh of every day, read and written at once: of a session that is not
-- bound to a key, with its newest token, in time, by its own client, for a user
-- who may. It leaves everything else to SessionByID and SessionAdvance. One column
-- costs less than ten; none of them can hold a bar.

-- name: SessionRotate
UPDATE session SET current = current + 1, previous = current, accepted_from = 0, recoveries = 0, rotated_at = $1, idle_expires_at = $2
WHERE id = $3 AND current = $4 AND key_version = $5 AND client_id = $6 AND state = 'active' AND jkt IS NULL
  AND expires_at >= $1 AND idle_expires_at >= $1
  AND EXISTS (SELECT 1 FROM app_user u WHERE u.id = session.user_id AND u.state = 'active')
RETURNING format('%s|%s|%s|%s|%s|%s|%s|%s|%s|%s', user_id, installation_id, auth_time, methods, scope, formerly, device_level, device_until, expires_at,
  (SELECT kind FROM app_user u WHERE u.id = session.user_id));

-- A session goes on as another user (a merge) or with a newer proof of the same one.

-- name: SessionReassign
UPDATE session SET user_id = $1, formerly = $2, auth_time = $3, methods = $4, current = $5, previous = $6, accepted_from = $7, rotated_at = $8, idle_expires_at = $9
WHERE id = $10 AND user_id = $11 AND current = $12 AND state = 'active';

-- An alarm or an expiry was decided for this number; when the session has moved
-- on since, it must be decided again.

-- name: SessionEnd
UPDATE session SET state = $1, end_reason = $2 WHERE id = $3 AND current = $4 AND state = 'active';

-- name: SessionRevoke
UPDATE session SET state = 'revoked', end_reason = $1 WHERE id = $2 AND state = 'active';

-- name: RevocationInsert
INSERT INTO session_revocation (session_id, reason, revoked_at) VALUES ($1, $2, $3)
ON CONFLICT (session_id) DO UPDATE SET reason = excluded.reason, revoked_at = excluded.revoked_at;

-- name: RevocationsAfter
SELECT session_id, reason, revoked_at FROM session_revocation
WHERE (revoked_at, session_id) > ($1, $2)
ORDER BY revoked_at, session_id LIMIT $3;

-- name: ProofInsert
INSERT INTO proof_seen (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: RestoreWindow
SELECT until FROM restore_window WHERE id = 1;

-- name: RestoreWindowSet
INSERT INTO restore_window (id, declared_at, until) VALUES (1, $1, $2)
ON CONFLICT (id) DO UPDATE SET declared_at = excluded.declared_at, until = excluded.until;

-- name: CleanBootstrapKeys
UPDATE installation SET bootstrap_key = NULL WHERE id IN
  (SELECT id FROM installation WHERE bootstrap_key IS NOT NULL AND created_at < $1 LIMIT $2);

-- name: CleanProofs
DELETE FROM proof_seen WHERE id IN (SELECT id FROM proof_seen WHERE expires_at < $1 LIMIT $2);

-- name: CleanRevocations
DELETE FROM session_revocation WHERE session_id IN
  (SELECT session_id FROM session_revocation WHERE revoked_at < $1 LIMIT $2);

-- name: CleanSessions
DELETE FROM session WHERE id IN (SELECT id FROM session WHERE expires_at < $1 ORDER BY expires_at, id LIMIT $2);

-- Installations that nobody is on when the sessions go that CleanSessions removes
-- next: browsers, grants of OAuth clients, phones that were given away.

-- name: CleanInstallations
DELETE FROM installation
WHERE NOT EXISTS (SELECT 1 FROM session s WHERE s.installation_id = installation.id AND s.state = 'active' AND s.expires_at >= $1)
  AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = installation.id AND u.kind = 'anonymous' AND u.state = 'active')
  AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = installation.id AND u.kind = 'anonymous' AND u.state = 'locked')
  AND id IN (SELECT installation_id FROM session WHERE expires_at < $1 ORDER BY expires_at, id LIMIT $2);

-- name: CleanDeviceProofs
DELETE FROM device_proof
WHERE installation_id IN (SELECT installation_id FROM session WHERE expires_at < $1 ORDER BY expires_at, id LIMIT $2)
  AND NOT EXISTS (SELECT 1 FROM installation i WHERE i.id = device_proof.installation_id);

-- name: UserPromote
UPDATE app_user SET kind = 'account' WHERE id = $1 AND kind = 'anonymous' AND state = 'active';

-- name: UserMerged
UPDATE app_user SET state = 'merged', merged_into = $1, state_at = $2 WHERE id = $3 AND kind = 'anonymous' AND state = 'active';

-- name: UserState
UPDATE app_user SET state = $1, state_at = $2 WHERE id = $3 AND state = $4;

-- name: IdentityInsert
INSERT INTO identity (id, user_id, provider, lookup, email_lookup, email_verified, sealed, created_at, used_at, secret_at, secret_void)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT DO NOTHING;

-- No two seals are the same, so that sealed tells whether the row is still as it was read.

-- name: IdentityUpdate
UPDATE identity SET email_lookup = $1, email_verified = $2, sealed = $3, used_at = $4, secret_at = $5, secret_void = $6 WHERE id = $7 AND user_id = $8 AND sealed = $9;

-- name: IdentityDelete
DELETE FROM identity WHERE id = $1 AND user_id = $2;

-- name: IdentityUnlinked
INSERT INTO identity_unlinked (id, unlinked_at) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: CleanUnlinked
DELETE FROM identity_unlinked WHERE id IN (SELECT id FROM identity_unlinked WHERE unlinked_at < $1 LIMIT $2);

-- name: IdentityByLookup
SELECT i.id, i.user_id, i.provider, i.lookup, i.email_lookup, i.email_verified, i.sealed, i.created_at, i.used_at, i.secret_at, i.secret_void,
       u.id, u.kind, u.state, u.installation_id, u.created_at, u.merged_into, u.state_at
FROM identity i JOIN app_user u ON u.id = i.user_id
WHERE i.lookup = $1;

-- name: IdentitiesOfUser
SELECT id, user_id, provider, lookup, email_lookup, email_verified, sealed, created_at, used_at, secret_at, secret_void
FROM identity WHERE user_id = $1 ORDER BY id LIMIT $2;

-- name: IdentitiesByEmail
SELECT id, user_id, provider, lookup, email_lookup, email_verified, sealed, created_at, used_at, secret_at, secret_void
FROM identity WHERE email_lookup = $1 ORDER BY id LIMIT $2;

-- name: IdentitiesVerifiedByEmail
SELECT id, user_id, provider, lookup, email_lookup, email_verified, sealed, created_at, used_at, secret_at, secret_void
FROM identity WHERE email_lookup = $1 AND email_verified ORDER BY id LIMIT $2;

-- name: CredentialUseInsert
INSERT INTO credential_use (id, installation_id, user_id, merged_from, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING;

-- name: CredentialUseSettle
UPDATE credential_use SET user_id = $1, merged_from = $2, expires_at = $3 WHERE id = $4 AND installation_id = $5 AND user_id = '';

-- name: CredentialUse
SELECT id, installation_id, user_id, merged_from, expires_at FROM credential_use WHERE id = $1;

-- name: AccountMerged
UPDATE app_user SET state = 'merged', merged_into = $1, state_at = $2 WHERE id = $3 AND kind = 'account' AND state = 'active';

-- name: MergeInsert
INSERT INTO user_merge (from_user, into_user, id, installation_id, state, records, conflicts, deduped, created_at, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING;

-- name: MergeProgress
UPDATE user_merge SET state = $1, records = records + $2, conflicts = conflicts + $3, deduped = deduped + $4, finished_at = $5
WHERE from_user = $6;

-- name: MergeOf
SELECT from_user, into_user, id, installation_id, state, records, conflicts, deduped, created_at, finished_at
FROM user_merge WHERE from_user = $1;

-- name: MergedHere
SELECT m.from_user, m.created_at FROM user_merge m
WHERE m.into_user = $1 AND m.created_at > $2 AND (m.installation_id = $3
  OR EXISTS (SELECT 1 FROM session s WHERE s.user_id = m.from_user AND s.installation_id = $4))
ORDER BY m.created_at DESC, m.id DESC LIMIT $5;

-- name: MergesInto
SELECT from_user, into_user, id, installation_id, state, records, conflicts, deduped, created_at, finished_at
FROM user_merge WHERE into_user = $1 ORDER BY created_at DESC, id LIMIT $2;

-- name: ConflictInsert
INSERT INTO merge_conflict (id, merge_id, user_id, collection, record_key, sealed, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: ConflictsOfUser
SELECT id, merge_id, user_id, collection, record_key, sealed, created_at
FROM merge_conflict WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3;

-- name: ChallengeInsert
INSERT INTO challenge (id, kind, state, version, expires_at) VALUES ($1, $2, $3, 1, $4) ON CONFLICT DO NOTHING;

-- name: ChallengeUpdate
UPDATE challenge SET kind = $1, state = $2, version = version + 1, expires_at = $3 WHERE id = $4 AND version = $5;

-- name: ChallengeTake
DELETE FROM challenge WHERE id = $1 AND version = $2;

-- name: Challenge
SELECT id, kind, state, version, expires_at FROM challenge WHERE id = $1;

-- name: CleanCredentialUses
DELETE FROM credential_use WHERE id IN (SELECT id FROM credential_use WHERE expires_at < $1 LIMIT $2);

-- name: CleanChallenges
DELETE FROM challenge WHERE id IN (SELECT id FROM challenge WHERE expires_at < $1 LIMIT $2);

-- name: IdentityOwner
SELECT user_id FROM identity WHERE id = $1;

-- name: IdentityCount
SELECT COUNT(*) FROM identity WHERE user_id = $1;

-- name: BrowserInsert
INSERT INTO browser (id, installation_id, created_at, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: BrowserDelete
DELETE FROM browser WHERE id = $1;

-- name: BrowserByID
SELECT id, installation_id, created_at, expires_at FROM browser WHERE id = $1;

-- name: CleanBrowsers
DELETE FROM browser WHERE id IN (SELECT id FROM browser WHERE expires_at < $1 LIMIT $2);

-- name: ConsentUpsert
INSERT INTO oauth_consent (user_id, client_id, scope, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, client_id) DO UPDATE SET scope = excluded.scope, updated_at = excluded.updated_at;

-- name: Consent
SELECT user_id, client_id, scope, created_at, updated_at FROM oauth_consent WHERE user_id = $1 AND client_id = $2;

-- name: ConsentsOfUser
SELECT user_id, client_id, scope, created_at, updated_at FROM oauth_consent WHERE user_id = $1 ORDER BY client_id LIMIT $2;

-- name: ConsentsErase
DELETE FROM oauth_consent WHERE user_id = $1 AND client_id IN (SELECT client_id FROM oauth_consent WHERE user_id = $1 ORDER BY client_id LIMIT $2);

-- The row is written so that a lock or deletion at the same time waits or fails.

-- name: UserIsActive
UPDATE app_user SET state = 'active' WHERE id = $1 AND state = 'active';

-- name: RevocationsOfUser
INSERT INTO session_revocation (session_id, reason, revoked_at)
SELECT id, CAST($1 AS TEXT), CAST($2 AS BIGINT) FROM session WHERE user_id = $3 AND id <> $4 AND state = 'active'
ON CONFLICT (session_id) DO UPDATE SET reason = excluded.reason, revoked_at = excluded.revoked_at;

-- name: SessionsRevokeUser
UPDATE session SET state = 'revoked', end_reason = $1 WHERE user_id = $2 AND id <> $3 AND state = 'active';

-- name: Profile
SELECT sealed, updated_at FROM user_profile WHERE user_id = $1;

-- name: ProfileInsert
INSERT INTO user_profile (user_id, sealed, updated_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- No two seals are the same, so that sealed tells whether the row is still as it was read.

-- name: ProfileReplace
UPDATE user_profile SET sealed = $1, updated_at = $2 WHERE user_id = $3 AND sealed = $4;

-- name: ProfileDelete
DELETE FROM user_profile WHERE user_id = $1;

-- name: ErasureInsert
INSERT INTO erasure (user_id, state, requested_by, requested_at, erase_at, report) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (user_id) DO UPDATE SET state = excluded.state, requested_by = excluded.requested_by, requested_at = excluded.requested_at,
  erase_at = excluded.erase_at, report = excluded.report
WHERE erasure.state = 'undone';

-- name: ErasureUndo
UPDATE erasure SET state = 'undone' WHERE user_id = $1 AND state = 'waiting';

-- name: ErasureRun
UPDATE erasure SET state = 'running', report = $1 WHERE user_id = $2 AND state IN ('waiting', 'running');

-- name: ErasureFinish
UPDATE erasure SET state = 'done', finished_at = $1, report = $2 WHERE user_id = $3 AND state = 'running';

-- name: Erasure
SELECT user_id, state, requested_by, requested_at, erase_at, finished_at, report FROM erasure WHERE user_id = $1;

-- name: ErasuresFinished
SELECT user_id, state, requested_by, requested_at, erase_at, finished_at, report FROM erasure
WHERE finished_at IS NOT NULL AND (finished_at, user_id) > ($1, $2)
ORDER BY finished_at, user_id LIMIT $3;

-- name: UserErase
UPDATE app_user SET state = 'deleted', state_at = $1, installation_id = NULL WHERE id = $2 AND state <> 'merged';

-- name: UserEraseAlias
UPDATE app_user SET installation_id = NULL WHERE id = $1;

-- name: UserTombstone
INSERT INTO app_user (id, kind, state, created_at, state_at) VALUES ($1, $2, 'deleted', $3, $4) ON CONFLICT DO NOTHING;

-- name: EraseIdentities
DELETE FROM identity WHERE user_id = $1;

-- What an installation has said of its device, where nobody else is on it.

-- name: EraseDeviceProofs
DELETE FROM device_proof WHERE installation_id IN (
  SELECT u.installation_id FROM app_user u WHERE u.id = $1 AND u.installation_id IS NOT NULL
  UNION SELECT s.installation_id FROM session s WHERE s.user_id = $1)
AND NOT EXISTS (SELECT 1 FROM session s WHERE s.installation_id = device_proof.installation_id AND s.state = 'active' AND s.user_id <> $1)
AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = device_proof.installation_id AND u.kind = 'anonymous' AND u.state = 'active' AND u.id <> $1)
AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = device_proof.installation_id AND u.kind = 'anonymous' AND u.state = 'locked' AND u.id <> $1);

-- name: EraseInstallationFacts
UPDATE installation SET app_version = '', app_build = 0, platform = '', os = '', device = '', locale = '', device_level = '', device_until = 0
WHERE id IN (
  SELECT u.installation_id FROM app_user u WHERE u.id = $1 AND u.installation_id IS NOT NULL
  UNION SELECT s.installation_id FROM session s WHERE s.user_id = $1)
AND NOT EXISTS (SELECT 1 FROM session s WHERE s.installation_id = installation.id AND s.state = 'active' AND s.user_id <> $1)
AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = installation.id AND u.kind = 'anonymous' AND u.state = 'active' AND u.id <> $1)
AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = installation.id AND u.kind = 'anonymous' AND u.state = 'locked' AND u.id <> $1);

-- A browser and a client's grant never come back, and who was not seen for long
-- will not; a phone keeps its credential.

-- name: EraseInstallations
DELETE FROM installation WHERE id IN (
  SELECT u.installation_id FROM app_user u WHERE u.id = $1 AND u.installation_id IS NOT NULL
  UNION SELECT s.installation_id FROM session s WHERE s.user_id = $1)
AND NOT EXISTS (SELECT 1 FROM session s WHERE s.installation_id = installation.id AND s.state = 'active' AND s.user_id <> $1)
AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = installation.id AND u.kind = 'anonymous' AND u.state = 'active' AND u.id <> $1)
AND NOT EXISTS (SELECT 1 FROM app_user u WHERE u.installation_id = installation.id AND u.kind = 'anonymous' AND u.state = 'locked' AND u.id <> $1)
AND (platform IN ('browser', 'oauth') OR seen_at < $2);

-- name: EraseSessionProofs
DELETE FROM session_proof WHERE session_id IN (SELECT id FROM session WHERE user_id = $1);

-- The rows stay until their time is over, without anything but whose they were:
-- whoever comes with a token of one is told that the account is deleted.

-- name: EraseSessions
UPDATE session SET state = 'revoked', end_reason = 'account_deleted', installation_id = '', methods = '', scope = '', formerly = '', via = '',
  jkt = NULL, device_level = '', device_until = 0, created_at = 0, auth_time = 0, rotated_at = 0
WHERE user_id = $1;

-- name: EraseConflicts
DELETE FROM merge_conflict WHERE user_id = $1;

-- name: EraseCredentialUses
DELETE FROM credential_use WHERE user_id = $1;

-- name: EraseExportParts
DELETE FROM user_export_part WHERE export_id IN (SELECT id FROM user_export WHERE user_id = $1);

-- name: EraseExports
DELETE FROM user_export WHERE user_id = $1;

-- name: ExportInsert
INSERT INTO user_export (id, user_id, state, requested_at, expires_at, size, sha256) VALUES ($1, $2, $3, $4, $5, 0, '');

-- name: ExportFinish
UPDATE user_export SET state = 'ready', finished_at = $1, size = $2, sha256 = $3, expires_at = $4 WHERE id = $5 AND state = 'working';

-- name: ExportFail
UPDATE user_export SET state = 'failed', finished_at = $1, fault = $2 WHERE id = $3 AND state = 'working';

-- The row is written so that an erasure at the same time waits or fails.

-- name: ExportWanted
UPDATE user_export SET state = 'working' WHERE id = $1 AND state = 'working';

-- name: ExportPartPut
INSERT INTO user_export_part (export_id, part, sealed) VALUES ($1, $2, $3)
ON CONFLICT (export_id, part) DO UPDATE SET sealed = excluded.sealed;

-- name: ExportPart
SELECT sealed FROM user_export_part WHERE export_id = $1 AND part = $2;

-- name: Export
SELECT id, user_id, state, requested_at, finished_at, expires_at, size, sha256, fault FROM user_export WHERE id = $1;

-- name: ExportsOfUser
SELECT id, user_id, state, requested_at, finished_at, expires_at, size, sha256, fault FROM user_export WHERE user_id = $1 ORDER BY id DESC LIMIT $2;

-- name: CleanExportParts
DELETE FROM user_export_part WHERE export_id IN (SELECT id FROM user_export WHERE expires_at < $1 LIMIT $2);

-- name: CleanExports
DELETE FROM user_export WHERE id IN (SELECT id FROM user_export WHERE expires_at < $1 LIMIT $2)
  AND NOT EXISTS (SELECT 1 FROM user_export_part p WHERE p.export_id = user_export.id);

-- name: ErasureAgain
INSERT INTO erasure (user_id, state, requested_by, requested_at, erase_at, report) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (user_id) DO UPDATE SET state = excluded.state, erase_at = excluded.erase_at, finished_at = NULL;

-- name: DeviceInstallation
UPDATE installation SET device_level = $1, device_until = $2 WHERE id = $3;

-- name: DeviceSessions
UPDATE session SET device_level = $1, device_until = $2 WHERE installation_id = $3 AND state = 'active';

-- name: DeviceProofPut
INSERT INTO device_proof (installation_id, verdict, apple_key, counter, proven_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (installation_id) DO UPDATE SET verdict = excluded.verdict, apple_key = excluded.apple_key, counter = excluded.counter, proven_at = excluded.proven_at;

-- Of two assertions with one counter one wins.

-- name: DeviceProofAdvance
UPDATE device_proof SET verdict = $1, apple_key = $2, counter = $3, proven_at = $4 WHERE installation_id = $5 AND counter = $6;

-- name: DeviceProof
SELECT verdict, apple_key, counter, proven_at FROM device_proof WHERE installation_id = $1;

-- name: ErasuresDue
SELECT user_id, state, requested_by, requested_at, erase_at, finished_at, report FROM erasure
WHERE state IN ('waiting', 'running') AND erase_at < $1 ORDER BY erase_at LIMIT $2;

-- The next users in the order of their ids, which is that of time, and which of
-- them are anonymous, old, and neither seen nor refreshed since a time.

-- name: UsersIdle
SELECT u.id, u.created_at,
  u.kind = 'anonymous' AND u.state = 'active' AND u.created_at < $1 AND COALESCE(i.seen_at, 0) < $2
  AND NOT EXISTS (SELECT 1 FROM session s WHERE s.user_id = u.id AND s.rotated_at >= $3)
FROM app_user u LEFT JOIN installation i ON i.id = u.installation_id
WHERE u.id > $4
ORDER BY u.id LIMIT $5;

-- name: AnonymousSeen
SELECT COALESCE(MAX(t.at), 0) FROM (
  SELECT u.created_at AS at FROM app_user u WHERE u.id = $1
  UNION ALL SELECT i.seen_at FROM installation i JOIN app_user u ON u.installation_id = i.id WHERE u.id = $1
  UNION ALL SELECT s.rotated_at FROM session s WHERE s.user_id = $1
) t;

-- name: SessionsActiveOfUser
SELECT s.id, s.user_id, s.installation_id, s.client_id, s.state, s.end_reason, s.key_version, s.current, s.previous, s.recoveries, s.rotated_at, s.created_at, s.auth_time, s.methods, s.scope, s.idle_expires_at, s.expires_at, s.formerly, s.device_level, s.device_until, s.jkt, s.via, s.accepted_from,
       u.id, u.kind, u.state, u.installation_id, u.created_at, u.merged_into, u.state_at
FROM session s LEFT JOIN app_user u ON u.id = s.user_id
WHERE s.user_id = $1 AND s.state = 'active'
ORDER BY s.id DESC LIMIT $2;

-- name: SessionProofPut
INSERT INTO session_proof (session_id, identity_id, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (session_id, identity_id) DO UPDATE SET expires_at = excluded.expires_at;

-- A session that an OAuth client got is proven by what the browser's was.

-- name: SessionProofsCopy
INSERT INTO session_proof (session_id, identity_id, expires_at)
SELECT CAST($1 AS TEXT), p.identity_id, CAST($2 AS BIGINT) FROM session_proof p WHERE p.session_id = $3
ON CONFLICT DO NOTHING;

-- name: CleanSessionProofs
DELETE FROM session_proof WHERE session_id IN (SELECT session_id FROM session_proof WHERE expires_at < $1 LIMIT $2);

-- The sessions of a user that were proven with a way to sign in, and those of
-- which nothing is known.

-- name: RevocationsOfIdentity
INSERT INTO session_revocation (session_id, reason, revoked_at)
SELECT s.id, CAST($1 AS TEXT), CAST($2 AS BIGINT) FROM session s
WHERE s.user_id = $3 AND s.id <> $4 AND s.state = 'active'
  AND (EXISTS (SELECT 1 FROM session_proof p WHERE p.session_id = s.id AND p.identity_id = $5)
    OR NOT EXISTS (SELECT 1 FROM session_proof p WHERE p.session_id = s.id))
ON CONFLICT (session_id) DO UPDATE SET reason = excluded.reason, revoked_at = excluded.revoked_at;

-- name: SessionsRevokeIdentity
UPDATE session SET state = 'revoked', end_reason = $1
WHERE user_id = $2 AND id <> $3 AND state = 'active'
  AND (EXISTS (SELECT 1 FROM session_proof p WHERE p.session_id = session.id AND p.identity_id = $4)
    OR NOT EXISTS (SELECT 1 FROM session_proof p WHERE p.session_id = session.id));

-- name: UsersNoLogin
SELECT id, kind, state, installation_id, created_at, merged_into, state_at FROM app_user
WHERE state = 'locked_no_login' AND state_at < $1 ORDER BY state_at LIMIT $2;

-- name: IdentityMove
UPDATE identity SET user_id = $1, sealed = $2 WHERE id = $3 AND user_id = $4 AND sealed = $5;

-- name: MergesRedirect
UPDATE user_merge SET into_user = $1 WHERE into_user = $2;

-- name: AliasesRedirect
UPDATE app_user SET merged_into = $1 WHERE id IN (SELECT from_user FROM user_merge WHERE into_user = $2);

-- name: SessionFormerly
UPDATE session SET formerly = $1 WHERE id = $2 AND user_id = $3 AND state = 'active';

-- name: ConflictMove
UPDATE merge_conflict SET user_id = $1, sealed = $2 WHERE id = $3 AND user_id = $4;
