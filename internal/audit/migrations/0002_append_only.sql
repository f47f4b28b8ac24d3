-- +goose Up
-- +goose StatementBegin
CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'audit_entry is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'audit_entry is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_entry_at_head BEFORE INSERT ON audit_entry
WHEN NEW.seq IS NOT (SELECT size FROM audit_head WHERE id = 1)
  OR EXISTS (SELECT 1 FROM audit_entry WHERE seq >= NEW.seq)
BEGIN SELECT RAISE(ABORT, 'audit_entry grows at its head only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_head_by_one BEFORE UPDATE ON audit_head
WHEN NEW.id IS NOT OLD.id OR NEW.size IS NOT OLD.size + 1
BEGIN SELECT RAISE(ABORT, 'audit_head moves by one only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'audit_head stays'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_staged_no_update BEFORE UPDATE ON audit_staged
BEGIN SELECT RAISE(ABORT, 'audit_staged is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_staged_moves BEFORE DELETE ON audit_staged
WHEN NOT EXISTS (SELECT 1 FROM audit_entry WHERE staged_id = OLD.id)
BEGIN SELECT RAISE(ABORT, 'audit_staged entries move to audit_entry'); END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER audit_staged_moves;
DROP TRIGGER audit_staged_no_update;
DROP TRIGGER audit_head_no_delete;
DROP TRIGGER audit_head_by_one;
DROP TRIGGER audit_entry_at_head;
DROP TRIGGER audit_entry_no_delete;
DROP TRIGGER audit_entry_no_update;
