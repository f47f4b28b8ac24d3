package app

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The kinds of package, from the top of the house to its ground.
var (
	capabilityPackages = []string{
		"identity", "flag", "release", "push", "datasync", "realtime", "media", "telemetry", "monitor", "privacy", "console",
	}
	kernelPackages = []string{
		"problem", "sqldb", "queue", "kv", "bus", "blob", "egress", "secret", "observe", "clock", "id", "testkit",
		"config", "audit", "rest", "module", "limit", "mail", "webhook",
	}
)

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// area is the folder below internal, "" for what is elsewhere.
func area(importPath string) string {
	rest, ok := strings.CutPrefix(importPath, "landline/internal/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "landline/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// Rule 1 of CONTRIBUTING.md: cmd → command → app → capability → kernel, never up, never sideways.
func TestImportsOnlyGoDown(t *testing.T) {
	for _, p := range packages(t) {
		from := area(p.ImportPath)
		for _, imported := range p.Imports {
			if why := forbidden(p.ImportPath, from, imported); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, why)
			}
		}
	}
}

func forbidden(importer, from, imported string) string {
	to := area(imported)
	switch {
	case strings.HasPrefix(importer, "landline/test/"):
		return "" // programs that test and measure
	case imported == "landline/internal/sqldb/faultfs":
		return "a disk that fails is for tests"
	case to == "" || to == from:
		return ""
	case importer == "landline" && to != "app":
		return "the public API stands on app alone"
	case to == "app" && from != "command" && importer != "landline/cmd/landline" && importer != "landline":
		return "only the command line and the public API call app"
	case to == "command" && importer != "landline/cmd/landline":
		return "only main calls the command line"
	case slices.Contains(capabilityPackages, to) && from != "app":
		return "app is the only importer of capabilities"
	case slices.Contains(kernelPackages, from) && !slices.Contains(kernelPackages, to):
		return "the kernel knows nothing above it"
	case slices.Contains(capabilityPackages, from) && !slices.Contains(kernelPackages, to):
		return "a capability stands on the kernel alone"
	case to == "testkit":
		return "testkit is for tests"
	}
	return ""
}

// Rule 2 of CONTRIBUTING.md: who may talk to databases, Redis and the network.
func TestDriversHaveOneDoor(t *testing.T) {
	doors := map[string][]string{
		"modernc.org/sqlite":           {"sqldb"},
		"github.com/jackc/pgx/v5":      {"sqldb", "queue"}, // the queue listens on a connection of its own
		"github.com/redis/go-redis/v9": {"kv", "bus", "realtime"},
		"github.com/riverqueue/river":  {"queue"},
	}
	for _, p := range packages(t) {
		if area(p.ImportPath) == "" || area(p.ImportPath) == "testkit" {
			continue
		}
		for _, imported := range p.Imports {
			for driver, allowed := range doors {
				if (imported == driver || strings.HasPrefix(imported, driver+"/")) && !slices.Contains(allowed, area(p.ImportPath)) {
					t.Errorf("%s imports %s, which belongs to %v", p.ImportPath, imported, allowed)
				}
			}
		}
	}
}

// Outgoing calls go through egress, or through gateway to upstreams.
func TestNobodyDialsAround(t *testing.T) {
	root := filepath.Join("..", "..", "internal")
	marks := []string{"http.DefaultClient", "http.DefaultTransport", "http.Get(", "http.Post(", "&http.Client{", "http.Client{", "net.Dial("}
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch first, _, _ := strings.Cut(filepath.ToSlash(rel), "/"); first {
		case "egress", "gateway", "testkit":
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, mark := range marks {
			if bytes.Contains(source, []byte(mark)) {
				t.Errorf("%s uses %s: outgoing calls go through egress", rel, mark)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Rule 3 of CONTRIBUTING.md: without a capability's folder and its line in modules.go the tree still builds.
// What crosses the wire or is kept as JSON stands in the wire files of a capability.
func TestJSONHasItsFiles(t *testing.T) {
	for _, c := range capabilities() {
		files, err := filepath.Glob(filepath.Join("..", c.Name, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(c.Name, files, err)
		}
		for _, file := range files {
			if name := filepath.Base(file); strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "wire") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(source, []byte("`json:\"")) {
				t.Errorf("%s has a struct with json tags, which belongs to wire.go", file)
			}
		}
	}
}

func TestEveryCapabilityCanBeDeleted(t *testing.T) {
	source, err := os.ReadFile("modules.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range capabilities() {
		t.Run(c.Name, func(t *testing.T) {
			dir := t.TempDir()
			var kept []string
			for line := range strings.Lines(string(source)) {
				if !strings.Contains(line, `"landline/internal/`+c.Name+`"`) && !strings.Contains(line, c.Name+".Capability()") {
					kept = append(kept, line)
				}
			}
			modules := filepath.Join(dir, "modules.go")
			if err := os.WriteFile(modules, []byte(strings.Join(kept, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			replace := map[string]string{absolute(t, "modules.go"): modules}
			folder := absolute(t, filepath.Join("..", c.Name))
			err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
				if err == nil && !entry.IsDir() {
					replace[path] = "" // "does not exist" in go build -overlay
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]any{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("go", "build", "-overlay", file, "-o", filepath.Join(dir, "landline"), "landline/cmd/landline").CombinedOutput()
			if err != nil {
				t.Errorf("the tree does not build without %s:\n%s", c.Name, out)
			}
		})
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
