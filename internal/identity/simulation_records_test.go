package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing/fstest"

	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// simRecords is a capability that keeps a user's records: one collection for
// each merge policy. writes counts how often a record was written, so that a
// write that takes effect twice shows.
type simRecords struct{ db *sqldb.DB }

var simMigrations = sqldb.Migrations{Module: "sim", FS: fstest.MapFS{"0001_sim.sql": {Data: []byte(`-- +goose Up
CREATE TABLE sim_record (
  user_id    key_text NOT NULL,
  collection key_text NOT NULL,
  name       key_text NOT NULL,
  value      TEXT     NOT NULL,
  stamp      BIGINT   NOT NULL,
  writes     BIGINT   NOT NULL,
  PRIMARY KEY (user_id, collection, name)
);
`)}}}

// The collections, and what becomes of a record that both users have.
var simCollections = map[string]module.MergePolicy{
	"sums":     module.SumOps,      // operations by id: the same one counts once
	"likes":    module.Union,       // a set
	"card":     module.AccountWins, // one record
	"settings": module.Newest,      // by stamp
	"files":    module.Rename,      // by name
}

// simRecord is one row, and the body of a write.
type simRecord struct {
	Collection string `json:"collection"`
	Name       string `json:"name"`
	Value      string `json:"value"`
	Stamp      int64  `json:"stamp"`
	Writes     int64  `json:"writes,omitempty"`
}

func (r *simRecords) handlers() []module.Handler {
	return []module.Handler{
		{Match: "POST /v1/records", Auth: module.AuthAnonymous, Write: r.write},
		{Match: "GET /v1/records", Auth: module.AuthAnonymous, Serve: r.serve},
	}
}

func (r *simRecords) write(ctx context.Context, tx *sqldb.Tx, w http.ResponseWriter, req *http.Request) error {
	var one simRecord
	if err := json.NewDecoder(req.Body).Decode(&one); err != nil {
		return problem.New(problem.InvalidRequest, "the body is no record")
	}
	statement := `INSERT INTO sim_record (user_id, collection, name, value, stamp, writes) VALUES ($1, $2, $3, $4, $5, 1)
ON CONFLICT (user_id, collection, name) DO UPDATE SET value = excluded.value, stamp = excluded.stamp, writes = sim_record.writes + 1`
	if p := simCollections[one.Collection]; p == module.SumOps || p == module.Union {
		statement = `INSERT INTO sim_record (user_id, collection, name, value, stamp, writes) VALUES ($1, $2, $3, $4, $5, 1) ON CONFLICT DO NOTHING`
	}
	if _, err := tx.ExecContext(ctx, statement, module.PrincipalFrom(req.Context()).UserID, one.Collection, one.Name, one.Value, one.Stamp); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (r *simRecords) serve(w http.ResponseWriter, req *http.Request) error {
	all, err := r.of(req.Context(), module.PrincipalFrom(req.Context()).UserID)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{"data": all})
}

func (r *simRecords) of(ctx context.Context, user string) (all []simRecord, err error) {
	err = r.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		all = []simRecord{}
		rows, err := q.QueryContext(ctx, `SELECT collection, name, value, stamp, writes FROM sim_record WHERE user_id = $1`, user)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var one simRecord
			if err := rows.Scan(&one.Collection, &one.Name, &one.Value, &one.Stamp, &one.Writes); err != nil {
				return err
			}
			all = append(all, one)
		}
		return rows.Err()
	})
	return all, err
}

func (r *simRecords) participants() (all []module.Participant) {
	for name, policy := range simCollections {
		all = append(all, module.Participant{
			Name: name, Policies: []module.MergePolicy{policy},
			Count: func(ctx context.Context, q sqldb.Querier, user string) (n int64, err error) {
				err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM sim_record WHERE user_id = $1 AND collection = $2`, user, name).Scan(&n)
				return n, err
			},
			Merge: func(ctx context.Context, tx *sqldb.Tx, m module.Merge) (module.Moved, error) {
				return r.merge(ctx, tx, m, name)
			},
			Erase: func(ctx context.Context, tx *sqldb.Tx, user string, _ int) (int64, error) {
				result, err := tx.ExecContext(ctx, `DELETE FROM sim_record WHERE user_id = $1 AND collection = $2`, user, name)
				if err != nil {
					return 0, err
				}
				_, err = result.RowsAffected()
				return 0, err // all at once
			},
		})
	}
	return all
}

func (r *simRecords) merge(ctx context.Context, tx *sqldb.Tx, m module.Merge, collection string) (out module.Moved, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT name, value, stamp FROM sim_record WHERE user_id = $1 AND collection = $2 ORDER BY name LIMIT $3`, m.From, collection, m.Limit+1)
	if err != nil {
		return out, err
	}
	var all []simRecord
	for rows.Next() {
		var one simRecord
		if err := rows.Scan(&one.Name, &one.Value, &one.Stamp); err != nil {
			return out, errors.Join(err, rows.Close())
		}
		all = append(all, one)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return out, err
	}
	if out.More = len(all) > m.Limit; out.More {
		all = all[:m.Limit]
	}
	for _, one := range all {
		if err := r.mergeOne(ctx, tx, m, collection, one, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (r *simRecords) mergeOne(ctx context.Context, tx *sqldb.Tx, m module.Merge, collection string, one simRecord, out *module.Moved) error {
	there := func(name string) (simRecord, bool, error) {
		var x simRecord
		err := tx.QueryRowContext(ctx, `SELECT name, value, stamp FROM sim_record WHERE user_id = $1 AND collection = $2 AND name = $3`, m.Into, collection, name).Scan(&x.Name, &x.Value, &x.Stamp)
		if errors.Is(err, sql.ErrNoRows) {
			return x, false, nil
		}
		return x, err == nil, err
	}
	drop := func(user string) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM sim_record WHERE user_id = $1 AND collection = $2 AND name = $3`, user, collection, one.Name)
		return err
	}
	move := func(name string) error {
		out.Records++
		_, err := tx.ExecContext(ctx, `UPDATE sim_record SET user_id = $1, name = $2 WHERE user_id = $3 AND collection = $4 AND name = $5`, m.Into, name, m.From, collection, one.Name)
		return err
	}
	other, clash, err := there(one.Name)
	if err != nil {
		return err
	}
	if !clash {
		return move(one.Name)
	}
	switch m.Policy {
	case module.SumOps, module.Union:
		out.Deduped++
		return drop(m.From)
	case module.Rename:
		name := one.Name
		for i := 2; clash; i++ {
			name = fmt.Sprintf("%s (%d)", one.Name, i)
			if _, clash, err = there(name); err != nil {
				return err
			}
		}
		return move(name)
	}
	out.Conflicts++
	loser, winner := one, m.Into
	if m.Policy == module.Newest && one.Stamp > other.Stamp {
		loser, winner = other, m.From
	}
	raw, err := json.Marshal(loser.Value)
	if err != nil {
		return err
	}
	if err := m.Conflict(one.Name, raw); err != nil {
		return err
	}
	if winner == m.Into {
		return drop(m.From)
	}
	if err := drop(m.Into); err != nil {
		return err
	}
	out.Records-- // the account's record is the conflict; this one takes its place
	return move(one.Name)
}
