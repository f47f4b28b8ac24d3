package gateway

import (
	"maps"
	"slices"

	"landline/internal/gateway/contract"
)

// Coverage is a route with the operations of a document that it leads to.
type Coverage struct {
	Feature    string
	Match      string
	Operations []*contract.Operation
}

// Covered lists the routes that a document describes, by feature, and the
// operations that no route leads to.
func (s *Settings) Covered(d *contract.Document) (routes []Coverage, rest []*contract.Operation) {
	led := map[*contract.Operation]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Features)) {
		if s.Features[name] == nil {
			continue
		}
		for _, r := range s.Features[name].Routes {
			p, err := parsePattern(r.Match)
			if err != nil {
				continue // told when the configuration is checked
			}
			rc, err := bindContract(d, ContractConfig{}, r, p)
			if err != nil {
				continue // the document does not have it
			}
			routes = append(routes, Coverage{name, r.Match, rc.binding.Operations})
			for _, op := range rc.binding.Operations {
				led[op] = true
			}
		}
	}
	for _, op := range d.Operations {
		if !led[op] {
			rest = append(rest, op)
		}
	}
	return routes, rest
}
