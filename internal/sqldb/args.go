package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// checkArgs refuses what the engines store differently: PostgreSQL refuses text
// with a NUL byte or invalid UTF-8, SQLite takes it; a time.Time becomes a
// timestamp there and a text here.
func checkArgs(args []any) error {
	for i, a := range args {
		if err := checkArg(a); err != nil {
			return fmt.Errorf("sqldb: argument $%d: %w", i+1, err)
		}
	}
	return nil
}

func checkArg(a any) error {
	switch v := a.(type) {
	case nil, int64, int, bool, []byte, int32, float64, sql.NullInt64, sql.NullBool:
		return nil
	case string:
		return checkText(v)
	case sql.NullString:
		return checkText(v.String)
	case time.Time, *time.Time, sql.NullTime:
		return errors.New("times are stored as milliseconds: pass Millis or NullMillis")
	case driver.Valuer:
		if r := reflect.ValueOf(a); r.Kind() == reflect.Pointer && r.IsNil() {
			return nil
		}
		value, err := v.Value()
		if err != nil {
			return err
		}
		if _, again := value.(driver.Valuer); again {
			return fmt.Errorf("%T gives a value that is no database value", a)
		}
		return checkArg(value)
	}
	switch r := reflect.ValueOf(a); r.Kind() {
	case reflect.Pointer:
		if r.IsNil() {
			return nil
		}
		return checkArg(r.Elem().Interface())
	case reflect.String:
		return checkText(r.String())
	case reflect.Uint64, reflect.Uint, reflect.Uintptr:
		if r.Uint() > 1<<63-1 {
			return errors.New("the number does not fit into a BIGINT")
		}
	}
	return nil
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: invalid UTF-8", ErrText)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%w: a NUL byte", ErrText)
	}
	return nil
}

// refuse makes the *sql.Row of a statement that is not run: database/sql lets
// nobody else put an error into one.
func (db *DB) refuse(err error) *sql.Row {
	return db.refuser.QueryRowContext(context.WithValue(context.Background(), refusalKey{}, err), "")
}

type refusalKey struct{}

// refusing is a driver.Connector whose every connection fails with the error in the context.
type refusing struct{}

func (refusing) Connect(ctx context.Context) (driver.Conn, error) {
	if err, ok := ctx.Value(refusalKey{}).(error); ok {
		return nil, err
	}
	return nil, errors.New("sqldb: refused")
}

func (refusing) Driver() driver.Driver { return nil }
