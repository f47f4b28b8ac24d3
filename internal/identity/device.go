package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"landline/internal/audit"
	"landline/internal/identity/attest"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// deviceProof is the last evidence of an installation.
type deviceProof struct {
	Verdict attest.Verdict
	Apple   *attest.AppleKey // nil unless it is an App Attest key
	At      time.Time
}

// ProveDevice verifies evidence of p's installation. With assertion it is one of
// the App Attest key that was attested before. What it proves is in the access
// tokens that are issued from then on.
func (s *Service) ProveDevice(ctx context.Context, p *module.Principal, e attest.Evidence, assertion bool) (attest.Verdict, error) {
	i, err := s.store.Installation(ctx, p.InstallationID)
	if err != nil {
		return attest.Verdict{}, err
	}
	now := s.now()
	want := attest.Expected{Subject: i.ID, Thumbprint: i.Thumbprint}
	var before *deviceProof
	var got attest.Result
	if assertion {
		if before, err = s.life.deviceProof(ctx, i.ID); err != nil {
			return attest.Verdict{}, err
		}
		if before == nil || before.Apple == nil {
			return attest.Verdict{}, invalid("assertion", "needs a key that this installation has attested before: send the attestation first")
		}
		got, err = s.device.VerifyAssertion(*before.Apple, e, want, now)
	} else {
		got, err = s.device.Verify(e, want, now)
	}
	if err != nil {
		return attest.Verdict{}, s.deviceRefusal(err)
	}
	return got.Verdict, s.keepDevice(ctx, p, i, before, got, now)
}

func (s *Service) deviceRefusal(err error) error {
	var bad *attest.Error
	switch {
	case errors.As(err, &bad):
		s.metrics.devices.WithLabelValues(string(bad.Kind), "refused").Inc()
		return problem.New(problem.DeviceProofInvalid, "%s", bad.Error())
	case errors.Is(err, attest.ErrUnsupported):
		return invalid("kind", "is not accepted by this server")
	}
	return err
}

// keepDevice stores what was proven, and spends the challenge, in one transaction.
func (s *Service) keepDevice(ctx context.Context, p *module.Principal, i Installation, before *deviceProof, got attest.Result, now time.Time) error {
	level, until := module.DeviceLevel(got.Verdict.Level.String()), now.Add(s.config.DeviceMaxAge.D())
	if got.Verdict.Level < attest.LevelKey && i.Thumbprint != "" {
		level, until = module.DeviceKey, time.Time{} // its key is proven whatever the platform says
	}
	verdict, err := json.Marshal(got.Verdict)
	if err != nil {
		return err
	}
	apple, counter := "", int64(0)
	if got.Apple != nil {
		raw, err := json.Marshal(got.Apple)
		if err != nil {
			return err
		}
		apple, counter = string(raw), int64(got.Apple.Counter)
	}
	c := Change{
		Use:   &CredentialUse{ID: "device " + got.Challenge.ID, InstallationID: i.ID, UserID: p.UserID, ExpiresAt: got.Challenge.Expires},
		Audit: []audit.Entry{installationEntry(ctx, i.ID, "installation.prove_device", i.ID, string(got.Verdict.Kind)+" "+string(level), "")},
	}
	raced := problem.New(problem.DeviceProofInvalid, "the challenge or the counter was used by another request; get a new challenge")
	c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
		if before != nil {
			n, err := exec(ctx, tx, "DeviceProofAdvance", string(verdict), apple, counter, sqldb.Millis(now), i.ID, int64(before.Apple.Counter))
			if err == nil && n != 1 {
				err = raced
			}
			if err != nil {
				return err
			}
		} else if _, err := exec(ctx, tx, "DeviceProofPut", i.ID, string(verdict), apple, counter, sqldb.Millis(now)); err != nil {
			return err
		}
		for _, query := range []string{"DeviceInstallation", "DeviceSessions"} {
			if _, err := exec(ctx, tx, query, string(level), millisOrZero(until), i.ID); err != nil {
				return err
			}
		}
		return nil
	}
	done, err := s.store.Apply(ctx, c)
	if err == nil && !done {
		err = raced
	}
	if err == nil {
		s.metrics.devices.WithLabelValues(string(got.Verdict.Kind), string(level)).Inc()
	}
	return err
}

// deviceProof is nil when the installation has none.
func (l lifeStore) deviceProof(ctx context.Context, installation string) (*deviceProof, error) {
	p, err := one(ctx, l.db, "DeviceProof", scanDeviceProof, installation)
	if errors.Is(err, sqldb.ErrNotFound) || errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &p, err
}

func scanDeviceProof(r row) (p deviceProof, err error) {
	var verdict, apple string
	var counter, at int64
	if err = r.Scan(&verdict, &apple, &counter, &at); err != nil {
		return p, err
	}
	p.At = sqldb.Time(at)
	if apple != "" {
		p.Apple = &attest.AppleKey{}
		if err = json.Unmarshal([]byte(apple), p.Apple); err != nil {
			return p, err
		}
	}
	return p, json.Unmarshal([]byte(verdict), &p.Verdict)
}
