-- +goose Up

-- Ways to sign in that were removed, and when a password was last set: a restored
-- backup has the one and the old other still, and is told of it by these.
CREATE TABLE identity_unlinked (
  id          key_text NOT NULL PRIMARY KEY,
  unlinked_at BIGINT   NOT NULL
);
CREATE INDEX identity_unlinked_at ON identity_unlinked (unlinked_at);

-- 0 = never, or before it was written down. secret_void: what is sealed has a
-- password that another one had replaced before the restore.
ALTER TABLE identity ADD COLUMN secret_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identity ADD COLUMN secret_void BOOLEAN NOT NULL DEFAULT FALSE;
