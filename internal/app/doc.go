// Package app is Landline's table of contents: it reads the configuration,
// builds the kernel and every capability, starts them, and stops them in
// reverse. It is the only package that imports capabilities (modules.go).
//
// New refuses to start on any fault of the configuration and lists all of them.
// Run returns nil after a clean drain; otherwise the error's ExitCode tells an
// init system what happened.
package app
