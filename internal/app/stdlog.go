package app

import (
	"log"
	"log/slog"
	"strings"
)

// TakeStandardLog makes package log write into this App's log, so that what
// libraries print there is JSON as well. It changes the whole process, which is
// for programs to decide and not for New.
func (a *App) TakeStandardLog() {
	log.SetFlags(0)
	log.SetOutput(standardLog{a.log})
}

type standardLog struct{ log *slog.Logger }

// Write drops what net/http quotes of a service's unexpected bytes: they may be anybody's data.
func (s standardLog) Write(p []byte) (int, error) {
	text, _, _ := strings.Cut(strings.TrimSpace(string(p)), ` starting with "`)
	s.log.Warn("a library reports", "text", text)
	return len(p), nil
}
