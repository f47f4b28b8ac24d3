// Package config turns landline.yaml and the environment into the structs of
// the packages that own its sections.
//
// What it guarantees:
//
//   - Every fault of a file is reported at once, each with line, column, path
//     and a way out. Only a file that is no YAML at all gives a single fault.
//   - Nothing is guessed. An unknown or repeated key, a value of another type,
//     a number that does not fit, a duration without a unit is a fault.
//   - Loading is all or nothing: while there is one fault, no section changes.
//   - The text of a Secret appears in no fault, error, page or printed
//     configuration, and neither does any text that came from the environment
//     or a file when a value is refused.
//   - Work is bounded: 4 MiB, 64 levels, 500,000 values a file with aliases
//     counted wherever they are used, 64 KiB for a value from outside; 5,000
//     files, 64 MiB and 1,000,000 values in all.
//
// What it does not: it does not notice that a file changed, and it keeps no
// values of its own. A section's struct must hold its defaults when Load is
// called, so a reload builds new structs, loads them and swaps.
//
// # The file
//
// One YAML 1.2 document, a mapping of section keys. Anchors, aliases and merge
// keys (<<) work; tags (!!str), directives (%YAML) and "? " keys do not.
// Top-level keys that start with "x-" are ignored: a place for anchors.
//
// In any scalar, but not in keys:
//
//	${NAME}            the environment variable, a fault when it is not set
//	${NAME:-default}   default when it is not set or empty
//	${file:path}       the file's text without its last newline; path is
//	                   relative to the configuration file
//	$${                the two characters ${
//
// A Secret must be one whole expression without a default text of its own;
// ${NAME:-} makes it optional.
//
// # More files
//
// include is a list of paths relative to the file that it stands in, with the
// wildcards *, ? and [ab]. They may not lead out of the folder of the first
// file, by .. or by a link; an absolute path may, because it is meant. Files are
// parts of one configuration: the keys of a section may stand in any of them,
// but each in one; what two files write is a fault that names both places. A
// file is read once; one that includes itself is a fault. Anchors and "x-" keys
// belong to their file.
//
// With Env.Overlay = "production", x.production.yaml is read on top of x.yaml
// for every file that is read, and must be there for the first. Overlays are
// joined in the same way, then merged into the rest: mappings key by key, null
// removes what is written below, lists and scalars replace. A wildcard does not
// take overlays for parts; it takes those of the environment for overlays.
//
// Faults point into the file in which the value was written. When a file could
// not be read at all, the faults that follow from that are left out: checks run
// on a whole configuration only.
//
// # The structs
//
// A field is a key when it has a yaml tag; others are left alone. An embedded
// struct without a tag, and a struct tagged ",inline", adds its keys to the
// struct around it. Further tags:
//
//	doc:"…"          meaning, unit and effect; shown in Commented and Reference
//	example:"…"      YAML text to show where there is no default
//	enum:"a,b,c"     the only values of a text or of the texts of a list
//	min:"…" max:"…"  limits of a number, duration or size (by value), of a text
//	                 (in characters), of a list or mapping (in entries)
//	required:"true"  the key must be written, and not be empty
//
// Types: bool, integers, floats, string, Duration, Bytes, Secret, Raw, anything
// with UnmarshalText and MarshalText, structs, pointers, slices, and maps with
// string keys. A named string type with a method Choices() []string has an
// enum of its own. A pointer is optional: null makes it nil.
//
// A list replaces the default list. A mapping adds to the default mapping, key
// by key. null on a struct, list or mapping leaves the default.
package config
