package identity

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"landline/internal/sqldb"
)

// aliasFor is how long after a merge the writes that were made as the merged
// user are still taken for the account's, on the installation that was theirs (L11).
const aliasFor = 180 * 24 * time.Hour

// maxFormerly bounds the users that a session remembers to have been. An
// installation's user is merged each time somebody signs in after a sign-out.
const maxFormerly = 16

// formerAt is an entry of Session.Formerly: a user, and the Unix day of the merge.
// Entries of older sessions have no day, and last as long as the session.
func formerAt(user string, at time.Time) string {
	return user + "/" + strconv.FormatInt(at.Unix()/86400, 10)
}

// withFormer puts the user in front of the space separated list.
func withFormer(list, user string, at time.Time) string {
	all := slices.DeleteFunc(strings.Fields(list), func(s string) bool { return s == user || strings.HasPrefix(s, user+"/") })
	all = append([]string{formerAt(user, at)}, all...)
	return strings.Join(all[:min(len(all), maxFormerly)], " ")
}

// formerNow is who of the list counts at now, space separated.
func formerNow(list string, now time.Time) string {
	if list == "" {
		return ""
	}
	var users []string
	for _, entry := range strings.Fields(list) {
		user, day, dated := strings.Cut(entry, "/")
		if n, err := strconv.ParseInt(day, 10, 64); !dated || err == nil && now.Before(time.Unix(n*86400, 0).Add(aliasFor+24*time.Hour)) {
			users = append(users, user)
		}
	}
	return strings.Join(users, " ")
}

// formerlyHere lists, for a session, who became part of user on the
// installation: after a sign-out the app may still hold writes made as them (L11).
// An account that was merged counts where it had been signed in.
func (s *Service) formerlyHere(ctx context.Context, user, installation string) (string, error) {
	all, err := list(ctx, s.db, "MergedHere", func(r row) (string, error) {
		var from string
		var at int64
		err := r.Scan(&from, &at)
		return formerAt(from, sqldb.Time(at)), err
	}, user, sqldb.Millis(s.now().Add(-aliasFor)), installation, installation, maxFormerly)
	return strings.Join(all, " "), err
}
