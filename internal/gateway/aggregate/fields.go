package aggregate

import (
	"fmt"
	"strings"
)

// Bounds of ?fields=.
const (
	maxFields      = 64
	maxFieldsBytes = 1024
)

// Fields is what a client asks for with ?fields=a,b.c; nil is everything.
type Fields = *tree

// ParseFields reads "board.time,airport": paths with commas between. The error
// is for the client.
func ParseFields(s string) (Fields, error) {
	if len(s) > maxFieldsBytes {
		return nil, fmt.Errorf("fields is longer than %d bytes", maxFieldsBytes)
	}
	if n := strings.Count(s, ",") + 1; n > maxFields {
		return nil, fmt.Errorf("fields names %d paths, more than %d", n, maxFields)
	}
	t := &tree{}
	for p := range strings.SplitSeq(s, ",") {
		path, err := parsePath(strings.TrimSpace(p))
		if err != nil {
			return nil, fmt.Errorf("fields: %w; write for example fields=a,b.c", err)
		}
		t.pick(path)
	}
	return t, nil
}
