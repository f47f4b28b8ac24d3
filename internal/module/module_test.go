package module

import (
	"context"
	"testing"

	"github.com/danielgtaylor/huma/v2"
)

func TestAuthOfDeniesByDefault(t *testing.T) {
	for name, c := range map[string]struct {
		security []map[string][]string
		want     Auth
	}{
		"nothing said":                    {nil, AuthAccount},
		"Public":                          {Public, AuthNone},
		"SignedIn":                        {SignedIn, AuthAnonymous},
		"Account":                         {Account, AuthAccount},
		"an unknown scheme":               {[]map[string][]string{{"anonymus": {}}}, AuthAccount},
		"an empty alternative":            {[]map[string][]string{{}}, AuthAccount},
		"one of several alternatives":     {[]map[string][]string{{"account": {}}, {"anonymous": {}}}, AuthAnonymous},
		"a scheme that only looks public": {[]map[string][]string{{"none": {}}}, AuthAccount},
	} {
		t.Run(name, func(t *testing.T) {
			if got := AuthOf(&huma.Operation{Security: c.security}); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRoleOfIsOwnerUnlessRequireSaysLess(t *testing.T) {
	for name, c := range map[string]struct {
		metadata map[string]any
		want     Role
	}{
		"nothing said":         {nil, Owner},
		"other metadata":       {map[string]any{"x": 1}, Owner},
		"a string, not a Role": {map[string]any{"role": "viewer"}, Owner},
		"viewer":               {Require(Viewer), Viewer},
		"support":              {Require(Support), Support},
		"operator":             {Require(Operator), Operator},
		"owner":                {Require(Owner), Owner},
	} {
		t.Run(name, func(t *testing.T) {
			if got := RoleOf(&huma.Operation{Metadata: c.metadata}); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRolesIncludeThoseBeforeThem(t *testing.T) {
	order := []Role{Viewer, Support, Operator, Owner}
	for i, have := range order {
		for j, least := range order {
			if got := have.Allows(least); got != (i >= j) {
				t.Errorf("%s.Allows(%s) = %v", have, least, got)
			}
		}
	}
	for _, bad := range []Role{"", "root", "OWNER", "owner "} {
		for _, r := range order {
			if bad.Allows(r) {
				t.Errorf("the role %q may do what %s may", bad, r)
			}
			if r.Allows(bad) {
				t.Errorf("%s may do what needs the unknown role %q", r, bad)
			}
		}
		if bad.Allows(bad) {
			t.Errorf("%q allows itself", bad)
		}
	}
}

func TestContextCarriesPrincipalAndClient(t *testing.T) {
	ctx := context.Background()
	if PrincipalFrom(ctx) != nil {
		t.Error("a bare context has a principal")
	}
	if c := ClientFrom(ctx); c == nil || *c != (Client{}) {
		t.Errorf("a bare context has the client %+v, want the empty one", c)
	}
	p, c := &Principal{UserID: "usr_1"}, &Client{App: "com.example.flights"}
	ctx = WithClient(WithPrincipal(ctx, p), c)
	if PrincipalFrom(ctx) != p || ClientFrom(ctx) != c {
		t.Error("what was put in does not come out")
	}
	if ClientFrom(WithClient(context.Background(), nil)) == nil {
		t.Error("a nil client comes out as nil")
	}
}
