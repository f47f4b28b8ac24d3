// Package contract checks requests and answers against an OpenAPI 3.0 or 3.1
// document.
//
// What it guarantees:
//   - A document is read and compiled once (Load); checking a body compiles
//     nothing. A body is read in one pass into a list of tokens and checked
//     there: a valid one of 1 KB takes a few microseconds and no memory of its own.
//   - What a check says never holds a value of the body, of a parameter or of a
//     header: a Violation has the place, what the document asks for, and the
//     shape of what was there.
//   - Work is bounded, whatever is sent: 64 levels of nesting, a number of values
//     and a number of steps; beyond them the body is refused, not passed.
//   - A fault of a document is told with file, line and column.
//
// What it does not: it does not change or complete what it checks (defaults are
// not filled in), it does not check multipart and XML bodies, and it takes
// patterns that only a backtracking engine could run as always true (Notes says
// which). A format is checked if it is one of those in format.go.
//
// Where documents commonly deviate from the letter, it is on their side: with
// nullable: true null passes although enum or allOf leave it out; a property
// that is readOnly is not missed in requests, one that is writeOnly not in answers.
package contract
