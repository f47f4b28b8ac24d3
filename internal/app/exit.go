package app

import (
	"errors"

	"landline/internal/config"
	"landline/internal/sqldb"
)

// Exit codes of the process, after sysexits(3), so that an init system and an
// operator can tell what to do without reading the log.
const (
	ExitOK          = 0  // clean drain
	ExitDiffers     = 1  // config diff found a difference
	ExitUsage       = 64 // the command line is wrong
	ExitCorrupt     = 65 // the database or a backup of it is damaged: restore a sound one
	ExitUnavailable = 69 // the database or Redis does not answer, or an address is taken: try again
	ExitInternal    = 70 // a fault of Landline
	ExitDrain       = 75 // stopped, but something was still running when shutdown.grace ended
	ExitConfig      = 78 // the configuration is wrong: trying again cannot help
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// ExitCode is what the process should end with after err.
func ExitCode(err error) int {
	var known *exitError
	var faults config.Faults
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, sqldb.ErrCorrupt):
		return ExitCorrupt
	case errors.As(err, &known):
		return known.code
	case errors.As(err, &faults):
		return ExitConfig
	}
	return ExitInternal
}

// ErrDiffers ends a command whose answer was that something differs; there is
// nothing more to say.
var ErrDiffers = withExit(ExitDiffers, errors.New(""))

// Usage marks err as a fault of the command line.
func Usage(err error) error { return withExit(ExitUsage, err) }

// Unavailable marks err as something that may pass: try again.
func Unavailable(err error) error { return withExit(ExitUnavailable, err) }

// Misconfigured marks err as a fault of the configuration.
func Misconfigured(err error) error { return withExit(ExitConfig, err) }

func withExit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}
