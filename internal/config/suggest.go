package config

import "strings"

// suggest returns the known name that is most like name, "" when none is near.
func suggest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	name = plainName(name)
	best, at := "", max(1, len(name)/3)+1
	for _, k := range known {
		if d := distance(name, plainName(k), at+1); d < at || d == at && best != "" && k < best {
			best, at = k, d
		}
	}
	return best
}

func plainName(s string) string {
	return strings.ToLower(strings.ReplaceAll(s, "-", "_"))
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour (optimal string alignment), or limit when it is not less.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return min(above[len(b)], limit)
}
