package audit_test

import (
	"slices"
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/problem"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestListFilters(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, clk *clock.Fake) {
		for i, e := range []audit.Entry{
			{Actor: audit.Actor{Type: audit.TypeOperator, ID: "opr_1"}, Action: "session.revoke", Target: "ses_1"},     // 1
			{Actor: audit.Actor{Type: audit.TypeUser, ID: "usr_1"}, Action: "session.start", Target: "ses_2"},          // 2
			{Actor: audit.Actor{Type: audit.TypeOperator, ID: "opr_1"}, Action: "sessions.purge", Target: ""},          // 3
			{Actor: audit.Actor{Type: audit.TypeOperator, ID: "opr_2"}, Action: "config.reload", Target: "ses_1"},      // 4
			{Actor: audit.Actor{Type: audit.TypeOperator, ID: "opr_1"}, Action: "session.revoke_all", Target: "usr_1"}, // 5
		} {
			if i > 0 {
				clk.Advance(time.Minute)
			}
			record(t, db, log, e)
		}
		for name, c := range map[string]struct {
			f    audit.Filter
			want []int64
		}{
			"all":                     {audit.Filter{}, []int64{5, 4, 3, 2, 1}},
			"actor":                   {audit.Filter{ActorID: "opr_1"}, []int64{5, 3, 1}},
			"action prefix":           {audit.Filter{Action: "session."}, []int64{5, 2, 1}},
			"whole action":            {audit.Filter{Action: "config.reload"}, []int64{4}},
			"target":                  {audit.Filter{Target: "ses_1"}, []int64{4, 1}},
			"actor and target":        {audit.Filter{ActorID: "opr_1", Target: "ses_1"}, []int64{1}},
			"from":                    {audit.Filter{From: start.Add(2 * time.Minute)}, []int64{5, 4, 3}},
			"until excludes":          {audit.Filter{Until: start.Add(2 * time.Minute)}, []int64{2, 1}},
			"all filters":             {audit.Filter{ActorID: "opr_1", Action: "session", Target: "usr_1", From: start, Until: start.Add(time.Hour)}, []int64{5}},
			"nobody":                  {audit.Filter{ActorID: "opr_3"}, nil},
			"no injection":            {audit.Filter{Action: "' OR 1=1 --"}, nil},
			"wildcards mean no more":  {audit.Filter{Action: "%"}, nil},
			"text no engine can hold": {audit.Filter{Target: "a\x00b\xff", ActorID: "\x00", Action: "\xff\x00"}, nil},
		} {
			rows, _ := list(t, log, c.f)
			if got := seqs(rows); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %v, want %v", name, got, c.want)
			}
		}
	})
}

func TestPagesHoldEachEntryOnceWhileTheLogGrows(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, _ *clock.Fake) {
		for range 7 {
			record(t, db, log, audit.Entry{Action: "a.b"})
		}
		var got []int64
		cursor := ""
		for pages := 0; ; pages++ {
			rows, next := list(t, log, audit.Filter{Limit: 3, Cursor: cursor})
			got = append(got, seqs(rows)...)
			record(t, db, log, audit.Entry{Action: "a.later"})
			if cursor = next; next == "" {
				break
			}
			if pages > 5 {
				t.Fatal("the pages do not end")
			}
		}
		if !slices.Equal(got, []int64{7, 6, 5, 4, 3, 2, 1}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestBadCursorsAreTheCallersFault(t *testing.T) {
	log := audit.New(testkit.SQLite(t, audit.Migrations), clock.System)
	for _, c := range []string{"x", "0", "-1", "1;DROP TABLE audit_entry", "99999999999999999999", " 1"} {
		if _, _, err := log.List(t.Context(), audit.Filter{Cursor: c}); !problem.HasCode(err, problem.InvalidRequest) {
			t.Errorf("cursor %q: %v", c, err)
		}
	}
}
