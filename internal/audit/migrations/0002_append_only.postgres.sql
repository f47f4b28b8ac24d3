-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION audit_at_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.seq IS DISTINCT FROM (SELECT size FROM audit_head WHERE id = 1)
     OR EXISTS (SELECT 1 FROM audit_entry WHERE seq >= NEW.seq) THEN
    RAISE EXCEPTION 'audit_entry grows at its head only' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION audit_by_one() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id IS DISTINCT FROM OLD.id OR NEW.size IS DISTINCT FROM OLD.size + 1 THEN
    RAISE EXCEPTION 'audit_head moves by one only' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION audit_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM audit_entry WHERE staged_id = OLD.id) THEN
    RAISE EXCEPTION 'audit_staged entries move to audit_entry' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN OLD;
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_entry_no_change BEFORE UPDATE OR DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entry_no_truncate BEFORE TRUNCATE ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entry_at_head BEFORE INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_at_head();
CREATE TRIGGER audit_head_by_one BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_by_one();
CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_no_truncate BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_staged_no_update BEFORE UPDATE ON audit_staged FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_staged_moves BEFORE DELETE ON audit_staged FOR EACH ROW EXECUTE FUNCTION audit_moved();
CREATE TRIGGER audit_staged_no_truncate BEFORE TRUNCATE ON audit_staged FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- +goose Down
DROP TRIGGER audit_staged_no_truncate ON audit_staged;
DROP TRIGGER audit_staged_moves ON audit_staged;
DROP TRIGGER audit_staged_no_update ON audit_staged;
DROP TRIGGER audit_head_no_truncate ON audit_head;
DROP TRIGGER audit_head_no_delete ON audit_head;
DROP TRIGGER audit_head_by_one ON audit_head;
DROP TRIGGER audit_entry_at_head ON audit_entry;
DROP TRIGGER audit_entry_no_truncate ON audit_entry;
DROP TRIGGER audit_entry_no_change ON audit_entry;
DROP FUNCTION audit_moved();
DROP FUNCTION audit_by_one();
DROP FUNCTION audit_at_head();
DROP FUNCTION audit_refuse();
