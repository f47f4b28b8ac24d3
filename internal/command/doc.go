// Package command is Landline's command line: it parses flags, calls app, and
// prints. Faults of the command line end with exit code 64; the others are
// listed at app.ExitCode.
package command
