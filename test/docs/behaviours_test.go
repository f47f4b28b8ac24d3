package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every row of the matrix and every behaviour has tests, and the tests are there.
func TestBehavioursHaveTheirTests(t *testing.T) {
	declared := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			declared[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "reference", "identity-behaviours.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	row, name := regexp.MustCompile(`(?m)^\| ([LB]-?\d+) \|.*\| ([^|]*) \|$`), regexp.MustCompile("`(Test\\w+)`")
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s is there twice", m[1])
		}
		rows[m[1]] = nil
		for _, n := range name.FindAllStringSubmatch(m[2], -1) {
			rows[m[1]] = append(rows[m[1]], n[1])
			if !declared[n[1]] {
				t.Errorf("%s: there is no %s", m[1], n[1])
			}
		}
	}
	for i := 1; i <= 30; i++ {
		if len(rows[fmt.Sprintf("L%d", i)]) == 0 {
			t.Errorf("L%d has no test", i)
		}
	}
	for i := 1; i <= 25; i++ {
		if len(rows[fmt.Sprintf("B-%02d", i)]) == 0 {
			t.Errorf("B-%02d has no test", i)
		}
	}
	if len(rows) != 55 {
		t.Errorf("%d rows, want 55", len(rows))
	}
}
