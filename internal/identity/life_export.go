package identity

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

const (
	exportKeep = 7 * 24 * time.Hour // an archive, and so the time in which a second request gets the first one
	exportPart = 1 << 20            // bytes sealed in one row
	exportMax  = 2 << 30            // bytes of an archive
	fieldPart  = "identity.export"
)

func (exportArgs) Kind() string { return "identity_export" }

// RequestExport begins a copy of everything that is kept about p's user. While
// there is one that works or is fresh, it is that one again.
func (s *Service) RequestExport(ctx context.Context, p *module.Principal) (Export, error) {
	now := s.now()
	all, err := s.life.exports(ctx, p.UserID, 1)
	if err != nil {
		return Export{}, err
	}
	if len(all) == 1 && now.Before(all[0].ExpiresAt) {
		last := all[0]
		if last.State == ExportWorking && now.Sub(last.RequestedAt) < exportPatience || last.State == ExportReady && now.Sub(last.FinishedAt) < time.Hour {
			return last, nil
		}
	}
	e := Export{ID: newID(prefixExport), UserID: p.UserID, State: ExportWorking, RequestedAt: now, ExpiresAt: now.Add(exportKeep)}
	c := Change{Active: p.UserID, Audit: []audit.Entry{userEntry(ctx, p.UserID, "user.export", e.ID, "", nil)}}
	c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := exec(ctx, tx, "ExportInsert", e.ID, e.UserID, string(e.State), sqldb.Millis(e.RequestedAt), sqldb.Millis(e.ExpiresAt)); err != nil {
			return err
		}
		_, err := s.queue.Enqueue(ctx, tx, exportArgs{ID: e.ID})
		return err
	}
	done, err := s.store.Apply(ctx, c)
	if err == nil && !done {
		err = sessionRevoked(p.Anonymous)
	}
	return e, err
}

// exportAttempts is after how many tries an export has failed.
const exportAttempts = 5

// exportPatience is how long an export may work before its user can ask for
// another: longer than all its attempts together take.
const exportPatience = 24 * time.Hour

// export is the job. A repeat writes the same parts again. Once it cannot
// succeed any more its user is told, and may ask anew.
func (s *Service) export(ctx context.Context, id string, attempt int) error {
	err := s.exportOnce(ctx, id)
	if err == nil || attempt < exportAttempts && !errors.Is(err, errExportTooLarge) {
		return err
	}
	fault := "it could not be put together; ask for another one"
	if errors.Is(err, errExportTooLarge) {
		fault = "it would have more than 2 GiB; ask support for a copy"
	}
	ctx = context.WithoutCancel(ctx) // perhaps its time was over
	s.log.ErrorContext(ctx, "an export has failed", "export", id, "attempts", attempt, "error", err)
	return s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := exec(ctx, tx, "ExportFail", sqldb.Millis(s.now()), fault, id)
		return err
	})
}

func (s *Service) exportOnce(ctx context.Context, id string) error {
	e, err := s.life.export(ctx, id)
	if errors.Is(err, sqldb.ErrNotFound) {
		return nil
	}
	if err != nil || e.State != ExportWorking {
		return err
	}
	parts := &partWriter{s: s, ctx: ctx, export: e, sum: sha256.New()}
	if err = s.writeArchive(ctx, e, parts); err == nil {
		err = parts.flush()
	}
	if errors.Is(err, errExportGone) {
		return nil
	}
	if err != nil {
		return err
	}
	now := s.now()
	return s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := exec(ctx, tx, "ExportFinish", sqldb.Millis(now), parts.size, hex.EncodeToString(parts.sum.Sum(nil)), sqldb.Millis(now.Add(exportKeep)), e.ID)
		return err
	})
}

const exportFormat = "landline-export/1"

// writeArchive writes one JSON-lines file a collection, and the manifest.
func (s *Service) writeArchive(ctx context.Context, e Export, w io.Writer) error {
	merges, err := s.store.MergesInto(ctx, e.UserID, 10_000)
	if err != nil {
		return err
	}
	m := exportManifest{Format: exportFormat, User: e.UserID, Aliases: []string{}, CreatedAt: e.RequestedAt}
	users := []string{e.UserID}
	for _, merge := range merges {
		m.Aliases = append(m.Aliases, merge.From)
		users = append(users, merge.From)
	}
	archive := zip.NewWriter(w)
	add := func(name string, write func(emit func(any) error) error) error {
		info, err := writeLines(archive, name+".jsonl", e.RequestedAt, write)
		if err != nil {
			return fmt.Errorf("identity: export %s: %w", name, err)
		}
		m.Files = append(m.Files, info)
		return nil
	}
	for _, own := range s.ownCollections() {
		if err := add(own.name, func(emit func(any) error) error { return own.write(ctx, e.UserID, emit) }); err != nil {
			return err
		}
	}
	for _, one := range s.people.All() {
		if one.Export == nil {
			continue
		}
		err := add(one.Name, func(emit func(any) error) error {
			for _, user := range users { // a merge that is still running has left rows behind
				if err := one.Export(ctx, user, emit); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	f, err := archive.CreateHeader(&zip.FileHeader{Name: "manifest.json", Method: zip.Deflate, Modified: e.RequestedAt})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(f).Encode(m); err != nil {
		return err
	}
	return archive.Close()
}

func writeLines(archive *zip.Writer, name string, at time.Time, write func(emit func(any) error) error) (exportFileInfo, error) {
	info := exportFileInfo{Name: name}
	f, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: at})
	if err != nil {
		return info, err
	}
	sum := sha256.New()
	lines := json.NewEncoder(io.MultiWriter(f, sum))
	err = write(func(record any) error {
		info.Records++
		return lines.Encode(record)
	})
	info.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return info, err
}

// partWriter seals what is written to it in pieces.
type partWriter struct {
	s      *Service
	ctx    context.Context
	export Export
	sum    hash.Hash
	size   int64
	part   int
	buffer []byte
}

// errExportGone stops the making of an export whose user is erased meanwhile.
var errExportGone = errors.New("identity: the export is no longer wanted")

var errExportTooLarge = errors.New("identity: the export has more than 2 GiB")

func (w *partWriter) Write(p []byte) (int, error) {
	w.sum.Write(p)
	if w.size += int64(len(p)); w.size > exportMax {
		return 0, errExportTooLarge
	}
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), exportPart-len(w.buffer))
		w.buffer = append(w.buffer, p[:take]...)
		p = p[take:]
		if len(w.buffer) == exportPart {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (w *partWriter) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	sealed, err := w.s.keys.Seal(w.ctx, w.export.UserID, fieldPart, w.buffer)
	if errors.Is(err, secret.ErrShredded) {
		return errExportGone
	}
	if err != nil {
		return err
	}
	err = w.s.db.Write(w.ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := exec(ctx, tx, "ExportWanted", w.export.ID)
		if err != nil {
			return err
		}
		if n != 1 { // a part without its export would stay for ever
			return errExportGone
		}
		_, err = exec(ctx, tx, "ExportPartPut", w.export.ID, w.part, sealed)
		return err
	})
	w.part++
	w.buffer = w.buffer[:0]
	return err
}

// readExport writes a ready archive of p's user to w.
func (s *Service) readExport(ctx context.Context, e Export, w io.Writer) error {
	for part, left := 0, e.Size; left > 0; part++ {
		sealed, err := s.life.exportPart(ctx, e.ID, part)
		if err != nil {
			return err
		}
		plain, err := s.keys.Open(ctx, e.UserID, fieldPart, sealed)
		if err != nil {
			return err
		}
		if _, err := w.Write(plain); err != nil {
			return err
		}
		left -= int64(len(plain))
	}
	return nil
}

// ownExport finds an export of p's user.
func (s *Service) ownExport(ctx context.Context, p *module.Principal, id string) (Export, error) {
	e, err := s.life.export(ctx, id)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && (e.UserID != p.UserID || !s.now().Before(e.ExpiresAt)) {
		return Export{}, problem.New(problem.NotFound, "there is no such export, or it has expired")
	}
	return e, err
}

type ownCollection struct {
	name  string
	write func(ctx context.Context, user string, emit func(any) error) error
}

// ownCollections are what this capability itself knows of a person.
func (s *Service) ownCollections() []ownCollection {
	return []ownCollection{
		{"account", s.exportAccount}, {"identities", s.exportIdentities}, {"sessions", s.exportSessions},
		{"device_proofs", s.exportDeviceProofs}, {"merges", s.exportMerges}, {"merge_conflicts", s.exportConflicts}, {"audit", s.exportAudit},
	}
}

func (s *Service) exportAccount(ctx context.Context, user string, emit func(any) error) error {
	u, err := s.store.User(ctx, user)
	if err != nil {
		return err
	}
	p, err := s.ownProfile(ctx, user)
	if err != nil {
		return err
	}
	return emit(exportedUser{userWire{ID: u.ID, Kind: u.Kind, CreatedAt: u.CreatedAt}, p})
}

func (s *Service) exportIdentities(ctx context.Context, user string, emit func(any) error) error {
	all, err := s.store.IdentitiesOf(ctx, user, maxIdentities)
	for _, i := range all {
		p, err := s.profile(ctx, i)
		if err != nil {
			return err
		}
		err = emit(exportedIdentity{identityWire{ID: i.ID, Provider: i.Provider, Email: p.Email, EmailVerified: i.EmailVerified, Name: p.Name, CreatedAt: i.CreatedAt, UsedAt: i.UsedAt}, p.Issuer, p.Subject})
		if err != nil {
			return err
		}
	}
	return err
}

func (s *Service) exportSessions(ctx context.Context, user string, emit func(any) error) error {
	all, err := s.store.SessionsOf(ctx, user, 10_000)
	if err != nil {
		return err
	}
	for _, g := range all {
		i, err := s.store.Installation(ctx, g.Session.InstallationID)
		if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
			return err
		}
		if err := emit(deviceSessionOf(g.Session, i, "")); err != nil {
			return err
		}
	}
	return nil
}

// exportDeviceProofs is of the installations that an erasure would take them from.
func (s *Service) exportDeviceProofs(ctx context.Context, user string, emit func(any) error) error {
	u, err := s.store.User(ctx, user)
	if err != nil {
		return err
	}
	all, err := s.store.SessionsOf(ctx, user, 10_000)
	if err != nil {
		return err
	}
	told := map[string]bool{"": true}
	for _, g := range append(all, Grant{Session: Session{InstallationID: u.InstallationID}}) {
		i := g.Session.InstallationID
		if told[i] {
			continue
		}
		told[i] = true
		p, err := s.life.deviceProof(ctx, i)
		if err != nil {
			return err
		}
		if p == nil {
			continue
		}
		if err := emit(exportedDeviceProof{i, p.Verdict}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) exportMerges(ctx context.Context, user string, emit func(any) error) error {
	all, err := s.store.MergesInto(ctx, user, 10_000)
	for _, m := range all {
		if err := emit(mergedWire{ID: m.ID, From: m.From, Into: m.Into, State: m.State, Records: m.Records, Conflicts: m.Conflicts}); err != nil {
			return err
		}
	}
	return err
}

func (s *Service) exportConflicts(ctx context.Context, user string, emit func(any) error) error {
	for after := ""; ; {
		page, err := s.store.Conflicts(ctx, user, after, 100)
		if err != nil {
			return err
		}
		for _, c := range page {
			w, err := s.conflictWireOf(ctx, c)
			if err != nil {
				return err
			}
			if err := emit(w); err != nil {
				return err
			}
			after = c.ID
		}
		if len(page) < 100 {
			return nil
		}
	}
}

// exportAudit is what the audit log says that the user did, and was done to them.
func (s *Service) exportAudit(ctx context.Context, user string, emit func(any) error) error {
	for _, f := range []audit.Filter{{ActorID: user, Limit: 200}, {Target: user, Limit: 200}} {
		for {
			rows, next, err := s.audit.List(ctx, f)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if f.Target != "" && r.Actor.ID == user { // told already
					continue
				}
				err := emit(auditWire{At: r.At, Actor: r.Actor.Type, Action: r.Action, Target: r.Target, Reason: r.Reason})
				if err != nil {
					return err
				}
			}
			if f.Cursor = next; next == "" {
				break
			}
		}
	}
	return nil
}
