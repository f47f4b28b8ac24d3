-- +goose Up

-- merged_into is where a merged user went. state_at is when the state last changed.
ALTER TABLE app_user ADD COLUMN merged_into key_text;
ALTER TABLE app_user ADD COLUMN state_at BIGINT;

-- formerly are the users, space separated and the newest first, who were merged
-- into this session's user on this installation: writes made as one of them are this user's.
ALTER TABLE session ADD COLUMN formerly TEXT NOT NULL DEFAULT '';

-- A way to prove an account. lookup is a keyed hash of issuer and subject,
-- email_lookup one of the address; what they hide is sealed with the user's data key.
CREATE TABLE identity (
  id             key_text NOT NULL PRIMARY KEY,
  user_id        key_text NOT NULL,
  provider       key_text NOT NULL,
  lookup         key_text NOT NULL,
  email_lookup   key_text,
  email_verified BOOLEAN  NOT NULL,
  sealed         BYTEA    NOT NULL,
  created_at     BIGINT   NOT NULL,
  used_at        BIGINT   NOT NULL
);
CREATE UNIQUE INDEX identity_lookup ON identity (lookup);
CREATE INDEX identity_user ON identity (user_id);
CREATE INDEX identity_email ON identity (email_lookup) WHERE email_lookup IS NOT NULL;

-- A credential that may be used once. The installation that used it gets the
-- same answer again until it expires.
CREATE TABLE credential_use (
  id              key_text NOT NULL PRIMARY KEY,
  installation_id key_text NOT NULL,
  user_id         key_text NOT NULL,
  merged_from     key_text,
  expires_at      BIGINT   NOT NULL
);
CREATE INDEX credential_use_expires ON credential_use (expires_at);

-- A merge is an alias for ever: from_user was into_user. A running one goes on
-- where it stopped.
CREATE TABLE user_merge (
  from_user       key_text NOT NULL PRIMARY KEY,
  into_user       key_text NOT NULL,
  id              key_text NOT NULL,
  installation_id key_text NOT NULL,
  state           key_text NOT NULL,
  records         BIGINT   NOT NULL,
  conflicts       BIGINT   NOT NULL,
  deduped         BIGINT   NOT NULL,
  created_at      BIGINT   NOT NULL,
  finished_at     BIGINT
);
CREATE UNIQUE INDEX user_merge_id ON user_merge (id);
CREATE INDEX user_merge_into ON user_merge (into_user);

-- What lost in a merge, sealed with the data key of user_id, who may read it.
CREATE TABLE merge_conflict (
  id         key_text NOT NULL PRIMARY KEY,
  merge_id   key_text NOT NULL,
  user_id    key_text NOT NULL,
  collection key_text NOT NULL,
  record_key TEXT     NOT NULL,
  sealed     BYTEA    NOT NULL,
  created_at BIGINT   NOT NULL
);
CREATE INDEX merge_conflict_user ON merge_conflict (user_id, id);

-- What a credential of several steps remembers between them. version counts the
-- changes, so that of two answers to one challenge one wins.
CREATE TABLE challenge (
  id         key_text NOT NULL PRIMARY KEY,
  kind       key_text NOT NULL,
  state      BYTEA    NOT NULL,
  version    BIGINT   NOT NULL,
  expires_at BIGINT   NOT NULL
);
CREATE INDEX challenge_expires ON challenge (expires_at);
