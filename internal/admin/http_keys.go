package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/rest"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

type keyRotate struct {
	Body struct {
		Purpose string `json:"purpose" minLength:"1" maxLength:"128" doc:"Which keys: a purpose of the list."`
		Reason  string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
	}
}

type keyDrop struct {
	ID     string `path:"id" maxLength:"64"`
	Reason string `query:"reason" maxLength:"1000" doc:"Why, for the audit log."`
}

func (s *Server) registerKeys() {
	huma.Register(s.api, operation(http.MethodGet, "/keys", "list-keys", "keys", "Keys by purpose, without their material", module.Owner),
		func(context.Context, *struct{}) (*body[rest.List[secret.KeyInfo]], error) {
			return &body[rest.List[secret.KeyInfo]]{rest.NewList(s.o.Ring.Keys(), "")}, nil
		})
	rotate := operation(http.MethodPost, "/keys/rotate", "rotate-keys", "keys", "Make a purpose's next key the current one", module.Owner)
	rotate.Description = "What the previous key signed stays valid until it expires. The answer names the keys."
	huma.Register(s.api, rotate, s.rotateKeys)
	drop := operation(http.MethodDelete, "/keys/{id}", "drop-key", "keys", "Forget a previous key at once, after it has leaked", module.Owner)
	drop.Description = "Everything it signed stops being valid now. The current and the next key cannot be dropped; rotate first."
	huma.Register(s.api, drop, s.dropKey)
}

func (s *Server) rotateKeys(ctx context.Context, in *keyRotate) (*body[secret.Rotation], error) {
	if !slices.ContainsFunc(s.o.Ring.Keys(), func(k secret.KeyInfo) bool { return k.Purpose == in.Body.Purpose }) {
		return nil, problem.New(problem.NotFound, "purpose: there are no keys of that purpose")
	}
	var done secret.Rotation
	err := s.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if done, err = s.o.Ring.RotateTx(ctx, tx, in.Body.Purpose); err != nil {
			return err
		}
		return s.o.Audit.Record(ctx, tx, audit.Entry{Action: "key.rotate", Target: done.Current, Reason: in.Body.Reason, After: done})
	})
	if err != nil {
		return nil, keyProblem(err)
	}
	return &body[secret.Rotation]{done}, s.reloadKeys(ctx)
}

func (s *Server) dropKey(ctx context.Context, in *keyDrop) (*struct{}, error) {
	all := s.o.Ring.Keys()
	i := slices.IndexFunc(all, func(k secret.KeyInfo) bool { return k.ID == in.ID })
	if i < 0 {
		return nil, problem.New(problem.NotFound, "there is no such key")
	}
	if all[i].State != secret.Previous {
		return nil, problem.New(problem.Conflict, "the key is %s; rotate its purpose until it is previous, then drop it", all[i].State)
	}
	err := s.o.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := s.o.Ring.Drop(ctx, tx, in.ID); err != nil {
			return err
		}
		return s.o.Audit.Record(ctx, tx, audit.Entry{Action: "key.drop", Target: in.ID, Reason: in.Reason, Before: all[i]})
	})
	if err != nil {
		return nil, keyProblem(err)
	}
	return nil, s.reloadKeys(ctx)
}

// reloadKeys makes this node use what was just committed.
func (s *Server) reloadKeys(ctx context.Context) error {
	if err := s.o.Ring.Reload(ctx); err != nil {
		return problem.New(problem.StorageUnavailable, "the change is stored, but this node could not read its keys again; it keeps trying").Wrap(err)
	}
	return nil
}

func keyProblem(err error) error {
	if errors.Is(err, sqldb.ErrConflict) {
		return problem.New(problem.Conflict, "the keys changed meanwhile; look at them again").Wrap(err)
	}
	return notFound(err, "key")
}
