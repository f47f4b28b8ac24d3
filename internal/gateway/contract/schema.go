package contract

import (
	"regexp"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is one compiled JSON Schema. It does not change once it is compiled.
type schema struct {
	never    bool   // false: nothing fits
	types    kind   // 0 = any; a whole number has kindNumber and integer below
	integer  bool   // numbers must be whole
	nullable bool   // OpenAPI 3.0: null fits, whatever else is said
	asked    string // what types is called, for messages

	ref    *schema
	enum   *values
	number *numberRules
	text   *textRules
	array  *arrayRules
	object *objectRules

	combines      bool // any of the following is there
	all, any, one []*schema
	not           *schema
	when          *condition
	discriminator *discriminator
	rare          *jsonschema.Schema // does the whole of it, when not nil
	name          string             // of the component, "" for one written in place
}

// values are those of enum or const.
type values struct {
	texts map[string]struct{} // strings, unescaped
	other map[string]struct{} // canonical forms of everything else
	count int
}

type numberRules struct {
	min, max           *bound
	minOpen, maxOpen   bool // exclusive
	multiple           *decimal
	multipleText       string
	formatMin, formatM *bound // of int32 and int64
	format             string
}

// bound is a limit of numbers.
type bound struct {
	exact decimal
	float float64
	text  string
	short bool // float compares right with other short numbers
}

type textRules struct {
	min, max int // characters, -1 = no limit
	pattern  *regexp.Regexp
	source   string // of pattern, as written
	format   string
	check    func([]byte) bool
}

type arrayRules struct {
	min, max int // -1 = no limit
	prefix   []*schema
	items    *schema // of those after prefix, nil = anything
	unique   bool
}

type objectRules struct {
	min, max   int // -1 = no limit
	properties []property
	byName     map[string]int
	required   int // how many of properties must be there
	patterns   []patternProperty
	additional *schema // nil = anything
	names      *schema
	dependent  map[string][]string
}

// property is a member that the schema names.
type property struct {
	name     string
	schema   *schema // nil = anything, and as for an additional one if not declared
	declared bool    // in properties, not only in required
	required bool
}

type patternProperty struct {
	re     *regexp.Regexp
	schema *schema
}

type condition struct{ test, then, otherwise *schema }

// discriminator chooses among alternatives by one member.
type discriminator struct {
	property string
	choice   map[string]*schema
}
