package bench

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// SaveProfile measures one more round of row, whose process is Landline, under
// the profiler, if -profile was given.
func (o *Options) SaveProfile(row *Row) error {
	if o.profile == "" {
		return nil
	}
	const seconds = 11
	fetched := make(chan error, 1)
	go func() {
		res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", row.Process.Admin, seconds))
		if err != nil {
			fetched <- err
			return
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("profile: %s", res.Status)
		}
		fetched <- errors.Join(err, os.WriteFile(o.profile, data, 0o600))
	}()
	once := *o
	once.Rounds = 1
	once.Duration = (seconds + 1) * time.Second
	return errors.Join(once.Compare([]*Row{row}), <-fetched)
}
