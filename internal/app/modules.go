package app

import (
	"landline/internal/identity"
	"landline/internal/module"
)

// capabilities is the table of contents. Each line is one folder; deleting both
// removes the capability (deps_test.go proves it).
func capabilities() []module.Capability {
	return []module.Capability{
		identity.Capability(),
	}
}
