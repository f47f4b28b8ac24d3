package sqldb

import (
	"encoding/json"
	"strconv"
)

// In returns a condition that holds when column is one of the texts of the list
// in argument number arg, which InArg makes. It is the one way to pass a list
// that both engines read:
//
//	q.QueryContext(ctx, `SELECT … FROM flag WHERE `+db.In("key", 1), sqldb.InArg(keys))
//
// column is text of the program, never of a caller.
func (db *DB) In(column string, arg int) string {
	n := strconv.Itoa(arg)
	if db.name == Postgres {
		return column + " IN (SELECT jsonb_array_elements_text(CAST($" + n + " AS JSONB)))"
	}
	return column + " IN (SELECT value FROM json_each($" + n + "))"
}

// InArg makes the argument for In. A text that cannot be stored makes an
// argument that every statement refuses with ErrText.
func InArg(list []string) string {
	if list == nil {
		return "[]"
	}
	for _, text := range list {
		if checkText(text) != nil {
			return "\x00" // JSON would hide the fault
		}
	}
	b, err := json.Marshal(list)
	if err != nil { // a list of strings always marshals
		panic(err)
	}
	return string(b)
}
