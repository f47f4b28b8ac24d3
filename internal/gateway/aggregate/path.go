package aggregate

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a path.
const (
	maxPathSteps = 16
	maxPathBytes = 256
)

// parsePath reads "data.flights.0.id": names of members, or numbers of items,
// with dots between. A dot or backslash in a name is written after a backslash.
func parsePath(s string) ([]string, error) {
	switch {
	case s == "":
		return nil, errors.New("the path is empty")
	case len(s) > maxPathBytes:
		return nil, fmt.Errorf("a path has at most %d bytes", maxPathBytes)
	case !utf8.ValidString(s):
		return nil, errors.New("the path is not UTF-8")
	}
	var steps []string
	var step strings.Builder
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == '.':
			if step.Len() == 0 {
				return nil, fmt.Errorf("%q has an empty step", s)
			}
			steps = append(steps, step.String())
			step.Reset()
		case s[i] == '\\':
			if i++; i == len(s) || s[i] != '.' && s[i] != '\\' {
				return nil, fmt.Errorf("in %q a backslash must be followed by a dot or a backslash", s)
			}
			step.WriteByte(s[i])
		case s[i] < ' ' || s[i] == 0x7F:
			return nil, fmt.Errorf("%q has a control character", s)
		default:
			step.WriteByte(s[i])
		}
	}
	if len(steps) > maxPathSteps {
		return nil, fmt.Errorf("a path has at most %d steps", maxPathSteps)
	}
	return steps, nil
}
