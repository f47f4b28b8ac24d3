package identity

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"landline/internal/id"
)

// erasureJournal remembers outside of the database who was erased, so that a
// restored backup cannot bring anybody back. It holds ids and times alone.
//
// Each node has its own, in its data directory. Where several nodes share a
// database, GET /admin/v1/erasures collects all of them before a restore.
type erasureJournal struct {
	mu   sync.Mutex
	path string
}

const journalFile = "erasures.jsonl"

func newErasureJournal(dir string) *erasureJournal {
	return &erasureJournal{path: filepath.Join(dir, journalFile)}
}

// append returns once the lines are on the disk. A line may be there twice.
func (j *erasureJournal) append(at time.Time, users ...string) (err error) {
	lines := []byte{'\n'} // ends a line that a crash has cut short
	for _, user := range users {
		line, err := json.Marshal(erasureLine{user, at})
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(lines); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(j.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// users lists everybody who is in the journal. A last line that a crash has cut
// short is ignored: its erasure had not been finished, and its job goes on.
func (j *erasureJournal) users() ([]string, error) {
	f, err := os.Open(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []string
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line erasureLine
		if json.Unmarshal(lines.Bytes(), &line) != nil || id.Check(id.User, line.User) != nil || seen[line.User] {
			continue
		}
		seen[line.User] = true
		all = append(all, line.User)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("identity: read %s: %w", journalFile, err)
	}
	return all, nil
}
