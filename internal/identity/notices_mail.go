package identity

import (
	"context"
	"strings"

	"landline/internal/mail"
	"landline/internal/sqldb"
)

// withNotice makes c send the user a message, with what c changes: to the first
// address that they have proved. Users without one, and servers without mail,
// have the security events alone.
func (s *Service) withNotice(ctx context.Context, c *Change, user string, name mail.Name, v mail.Values) error {
	if s.mail == nil {
		return nil
	}
	to, err := s.addressOf(ctx, user)
	if err != nil || to == "" {
		return err
	}
	locale := ""
	if p, err := s.ownProfile(ctx, user); err != nil {
		return err
	} else if p.Locale != nil {
		locale = *p.Locale
	}
	v.App = s.app.Name
	job, err := s.sealMail(ctx, user, mailArgs{To: to, Name: name, Locale: locale, Values: v})
	if err != nil {
		return err
	}
	before := c.Within
	c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
		if before != nil {
			if err := before(ctx, tx); err != nil {
				return err
			}
		}
		_, err := s.queue.Enqueue(ctx, tx, job)
		return err
	}
	return nil
}

// addressOf is "" when the user has proved none.
func (s *Service) addressOf(ctx context.Context, user string) (string, error) {
	all, err := s.store.IdentitiesOf(ctx, user, maxIdentities)
	if err != nil {
		return "", err
	}
	for _, i := range all {
		if !i.EmailVerified {
			continue
		}
		p, err := s.profile(ctx, i)
		if err != nil {
			return "", err
		}
		if p.Email != "" && !p.EmailOff {
			return p.Email, nil
		}
	}
	return "", nil
}

const unknownDevice = "unknown"

// deviceName is what people call a device.
func deviceName(i Installation) string {
	var words []string
	for _, w := range []string{i.App.Device, i.App.Platform, i.App.Version} {
		if w != "" {
			words = append(words, w)
		}
	}
	if len(words) == 0 {
		return unknownDevice
	}
	return strings.Join(words, ", ")
}

// providerName is what people call a way to sign in.
func providerName(provider string) string {
	kind, name, _ := strings.Cut(provider, ":")
	switch kind {
	case "apple":
		return "Apple"
	case "google":
		return "Google"
	case providerEmail:
		return "e-mail"
	case providerPasskey:
		return "passkey"
	}
	return name
}
