-- +goose Up

-- What an installation has proven about itself, and until when that counts. Its
-- sessions have a copy, so that a refresh needs no other row.
ALTER TABLE installation ADD COLUMN device_level key_text NOT NULL DEFAULT '';
ALTER TABLE installation ADD COLUMN device_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN device_level key_text NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN device_until BIGINT NOT NULL DEFAULT 0;

-- The last evidence. counter and apple_key are of an App Attest key.
CREATE TABLE device_proof (
  installation_id key_text NOT NULL PRIMARY KEY,
  verdict         TEXT     NOT NULL,
  apple_key       TEXT     NOT NULL,
  counter         BIGINT   NOT NULL,
  proven_at       BIGINT   NOT NULL
);

UPDATE installation SET device_level = 'key' WHERE public_key <> '';
UPDATE session SET device_level = 'key' WHERE state = 'active' AND installation_id IN (SELECT id FROM installation WHERE public_key <> '');
