package docs

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The generated pages and API documents are those of the present source.
func TestGeneratedPages(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "landline/cmd/landline", "documents", "--dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pages := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		pages++
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is out of date: run make docs and commit the result (%v)", name, err)
		}
		return nil
	})
	if err != nil || pages < 6 {
		t.Errorf("%d pages, %v", pages, err)
	}
}
