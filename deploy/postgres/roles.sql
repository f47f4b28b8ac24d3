-- What the role that Landline runs as may do, and no more: rows, no tables. Run
-- it in Landline's database as the role that owns the tables, after every
-- `landline db migrate`; it may be run again at any time. The roles are made
-- before, once: see docs/operations/database-roles.md.

GRANT USAGE ON SCHEMA public TO landline_runtime;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM landline_runtime;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO landline_runtime;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO landline_runtime;

-- The audit log grows, and nothing else. An entry is recorded in audit_staged
-- and moves from there to its place in audit_entry; a trigger refuses the
-- deletion of one that has not moved.
REVOKE ALL ON audit_entry, audit_staged, audit_head FROM landline_runtime;
GRANT SELECT, INSERT ON audit_entry TO landline_runtime;
GRANT SELECT, INSERT, DELETE ON audit_staged TO landline_runtime;
GRANT SELECT, UPDATE (size) ON audit_head TO landline_runtime;

-- Which migrations were applied is for reading.
DO $$
DECLARE history TEXT;
BEGIN
  FOR history IN
    SELECT format('%I', tablename) FROM pg_catalog.pg_tables
    WHERE schemaname = 'public' AND (tablename LIKE 'migration\_%' OR tablename = 'river_migration')
  LOOP
    EXECUTE 'REVOKE INSERT, UPDATE, DELETE ON ' || history || ' FROM landline_runtime';
  END LOOP;
END $$;
