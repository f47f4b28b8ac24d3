-- +goose Up

-- A sign-in looks for the accounts whose verified address it has: those of
-- people who merely say that they have it must cost it nothing. Not CONCURRENTLY:
-- that waits for every snapshot, of which a node that waits for its turn to
-- migrate has one, and that node waits for this one.
CREATE INDEX identity_email_verified ON identity (email_lookup, id) WHERE email_verified;
