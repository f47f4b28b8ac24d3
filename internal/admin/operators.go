package admin

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/id"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the table admin_operator.
var Migrations = sqldb.Embedded("admin", migrations)

// Queries are every statement of this package.
var Queries = sqldb.MustParse(queriesSQL)

// Operators keeps the operators and their tokens. It is safe for concurrent use.
type Operators struct {
	db    *sqldb.DB
	ring  *secret.Ring
	audit *audit.Log
	clock clock.Clock

	changed func(ctx context.Context, operatorID string) // told after the commit; nil = nobody
}

// NewOperators returns the operators kept in db, and makes the key their tokens
// are stored under on first use. Migrations must have run.
func NewOperators(ctx context.Context, db *sqldb.DB, ring *secret.Ring, log *audit.Log, clk clock.Clock) (*Operators, error) {
	if err := ring.Ensure(ctx, tokenPurpose, secret.HMAC); err != nil {
		return nil, err
	}
	return &Operators{db: db, ring: ring, audit: log, clock: clk}, nil
}

// AddOperator adds an operator and returns its token, which is shown nowhere again.
func AddOperator(ctx context.Context, db *sqldb.DB, ring *secret.Ring, log *audit.Log, name string, role module.Role) (token string, err error) {
	ops, err := NewOperators(ctx, db, ring, log, clock.System)
	if err != nil {
		return "", err
	}
	_, token, err = ops.Add(ctx, name, role, "")
	return token, err
}

// subject is what an operator looks like in the audit log.
type subject struct {
	Name string      `json:"name"`
	Role module.Role `json:"role"`
}

// Add makes an operator. A name that an active operator has is a conflict.
func (o *Operators) Add(ctx context.Context, name string, role module.Role, reason string) (Operator, string, error) {
	if err := checkOperator(name, role); err != nil {
		return Operator{}, "", problem.New(problem.InvalidRequest, err.Error())
	}
	token := newToken()
	version, mac, err := o.ring.MAC(tokenPurpose, []byte(token))
	if err != nil {
		return Operator{}, "", err
	}
	now := o.now()
	op := Operator{ID: id.New(id.Operator), Name: name, Role: role, CreatedAt: now, RotatedAt: now}
	err = o.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, Queries.Get("OperatorInsert"), op.ID, name, string(role), mac, version, sqldb.Millis(now), sqldb.Millis(now))
		if err != nil {
			return err
		}
		return o.audit.Record(ctx, tx, audit.Entry{Action: "operator.add", Target: op.ID, Reason: reason, After: subject{name, role}})
	})
	if errors.Is(err, sqldb.ErrConflict) {
		return Operator{}, "", problem.New(problem.Conflict, "an operator named %s exists; choose another name, or rotate that one's token", name).Wrap(err)
	}
	if err != nil {
		return Operator{}, "", err
	}
	return op, token, nil
}

// SetRole changes an operator's role; it takes effect with the next request.
func (o *Operators) SetRole(ctx context.Context, opID string, role module.Role, reason string) (Operator, error) {
	if !role.Allows(role) {
		return Operator{}, problem.New(problem.InvalidRequest, "role: must be one of viewer, support, operator, owner")
	}
	return o.change(ctx, opID, audit.Entry{Action: "operator.set_role", Reason: reason}, func(ctx context.Context, tx *sqldb.Tx, op *Operator) error {
		op.Role = role
		return affectOne(tx.ExecContext(ctx, Queries.Get("OperatorRole"), string(role), op.ID))
	})
}

// Remove shuts an operator out at once. Its row stays for the audit log.
func (o *Operators) Remove(ctx context.Context, opID, reason string) error {
	now := o.now()
	_, err := o.change(ctx, opID, audit.Entry{Action: "operator.remove", Reason: reason}, func(ctx context.Context, tx *sqldb.Tx, op *Operator) error {
		op.DisabledAt = now
		return affectOne(tx.ExecContext(ctx, Queries.Get("OperatorDisable"), sqldb.Millis(now), op.ID))
	})
	return err
}

// RotateToken gives an operator a new token; the old one ends at once.
func (o *Operators) RotateToken(ctx context.Context, opID, reason string) (Operator, string, error) {
	token := newToken()
	version, mac, err := o.ring.MAC(tokenPurpose, []byte(token))
	if err != nil {
		return Operator{}, "", err
	}
	now := o.now()
	op, err := o.change(ctx, opID, audit.Entry{Action: "operator.rotate_token", Reason: reason}, func(ctx context.Context, tx *sqldb.Tx, op *Operator) error {
		op.RotatedAt = now
		return affectOne(tx.ExecContext(ctx, Queries.Get("OperatorRotate"), mac, version, sqldb.Millis(now), op.ID))
	})
	return op, token, err
}

// change runs fn on an active operator, audits it, and sees that an owner is
// left. Writes are serializable: of two that each remove an owner at once, the
// second counts what the first left.
func (o *Operators) change(ctx context.Context, opID string, e audit.Entry, fn func(context.Context, *sqldb.Tx, *Operator) error) (Operator, error) {
	var op Operator
	err := o.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := scanOperator(tx.QueryRowContext(ctx, Queries.Get("OperatorByID"), opID))
		if err != nil {
			return err
		}
		op = r.Operator
		if !op.DisabledAt.IsZero() {
			return sqldb.ErrNotFound
		}
		e.Target, e.Before = op.ID, subject{op.Name, op.Role}
		if err := fn(ctx, tx, &op); err != nil {
			return err
		}
		e.After = nil
		if op.DisabledAt.IsZero() {
			e.After = subject{op.Name, op.Role}
		}
		if err := o.audit.Record(ctx, tx, e); err != nil {
			return err
		}
		if r.Role != module.Owner {
			return nil
		}
		var owners int
		if err := tx.QueryRowContext(ctx, Queries.Get("OwnerCount")).Scan(&owners); err != nil {
			return err
		}
		if owners == 0 {
			return problem.New(problem.Conflict, "this is the last owner; make another operator an owner first")
		}
		return nil
	})
	if err == nil && o.changed != nil {
		o.changed(ctx, op.ID)
	}
	return op, notFound(err, "operator")
}

// List returns operators by age, removed ones too, and the cursor of the next page.
func (o *Operators) List(ctx context.Context, limit int, cursor string) (out []Operator, next string, err error) {
	if limit == 0 {
		limit = 50
	}
	limit = min(max(limit, 1), 200)
	if cursor != "" && id.Check(id.Operator, cursor) != nil {
		return nil, "", problem.New(problem.InvalidRequest, "cursor: give the value of page.next, unchanged")
	}
	err = o.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
		out = nil
		rows, err := q.QueryContext(ctx, Queries.Get("OperatorList"), cursor, limit+1)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			r, err := scanOperator(rows)
			if err != nil {
				return err
			}
			out = append(out, r.Operator)
		}
		return rows.Err()
	})
	if len(out) > limit {
		out = out[:limit]
		next = out[limit-1].ID
	}
	return out, next, err
}

// ByName returns the active operator of that name, or a not_found problem.
func (o *Operators) ByName(ctx context.Context, name string) (Operator, error) {
	var r operatorRow
	err := o.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
		r, err = scanOperator(q.QueryRowContext(ctx, Queries.Get("OperatorByName"), name))
		return err
	})
	return r.Operator, notFound(err, "operator")
}

// operatorRow is an Operator with what its token is checked against.
type operatorRow struct {
	Operator
	mac     []byte
	version int
}

func scanOperator(row interface{ Scan(...any) error }) (operatorRow, error) {
	var r operatorRow
	var role string
	var created, rotated int64
	var used, disabled sql.NullInt64
	err := row.Scan(&r.ID, &r.Name, &role, &r.mac, &r.version, &created, &rotated, &used, &disabled)
	r.Role, r.CreatedAt, r.RotatedAt = module.Role(role), sqldb.Time(created), sqldb.Time(rotated)
	if used.Valid {
		r.LastUsedAt = sqldb.Time(used.Int64)
	}
	if disabled.Valid {
		r.DisabledAt = sqldb.Time(disabled.Int64)
	}
	return r, err
}

func (o *Operators) now() time.Time { return sqldb.Time(sqldb.Millis(o.clock.Now())) }

func affectOne(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = sqldb.ErrNotFound
	}
	return err
}

// notFound turns the absence of a row into its problem.
func notFound(err error, what string) error {
	if errors.Is(err, sqldb.ErrNotFound) || errors.Is(err, sql.ErrNoRows) {
		return problem.New(problem.NotFound, fmt.Sprintf("there is no such %s", what)).Wrap(err)
	}
	return err
}
