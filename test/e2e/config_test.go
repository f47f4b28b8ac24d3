package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tree writes files below a new directory and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, text)
	}
	return dir
}

const teamFile = "features:\n  %[1]s:\n    auth: none\n    timeout: 2s\n    routes: [{match: \"/v1/%[1]s/{rest...}\", upstream: team, path: \"/echo/{rest...}\"}]\n"

func manyFiles(t *testing.T, upstream string) string {
	return tree(t, map[string]string{
		"landline.yaml": "include: [\"features/*.yaml\", \"teams/*/landline.yaml\"]\napp: {id: com.example.small, public_url: \"https://api.example.test\"}\n" +
			"upstreams: {team: {targets: [{url: \"" + upstream + "\"}]}}\nlog: {level: info}\n",
		"landline.staging.yaml":             "log: {level: debug}\n",
		"features/search.yaml":              fmt.Sprintf(teamFile, "search"),
		"features/search.staging.yaml":      "features: {search: {timeout: 5s}}\n",
		"teams/trips/landline.yaml":         fmt.Sprintf(teamFile, "trips"),
		"teams/seats/landline.yaml":         fmt.Sprintf(teamFile, "seats"),
		"teams/seats/landline.staging.yaml": "features: {seats: null}\n",
	})
}

// Included files and overlays make one configuration; faults point into the file that has them.
func TestConfigurationOfManyFiles(t *testing.T) {
	up := newUpstream(t)
	dir := manyFiles(t, up.URL)
	file := filepath.Join(dir, "landline.yaml")
	out, stderr, exit := run(t, nil, "config", "check", "--config", file)
	if exit != 0 || !strings.Contains(out, "with 3 more files") {
		t.Errorf("%d %s%s", exit, out, stderr)
	}
	for env, want := range map[string][]string{"": {"  seats:", "level: info"}, "staging": {"level: debug", "timeout: 5s"}} {
		out, stderr, exit = run(t, []string{"LANDLINE_ENV=" + env}, "config", "print", "--config", file)
		if exit != 0 || strings.Contains(out, "include") || strings.Contains(out, "  seats:") != (env == "") {
			t.Errorf("%q: exit code %d\n%s%s", env, exit, out, stderr)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q: no %q in\n%s", env, w, out)
			}
		}
	}
	_, stderr, exit = run(t, nil, "config", "check", "--config", file, "--env", "stagin")
	if exit != 78 || !strings.Contains(stderr, "the environment stagin has no file") {
		t.Errorf("%d %s", exit, stderr)
	}
	writeFile(t, filepath.Join(dir, "features", "trips.yaml"), fmt.Sprintf(teamFile, "trips")+"  broken: {timeout: 5}\n")
	_, stderr, exit = run(t, nil, "config", "check", "--config", file)
	for _, want := range []string{
		"teams/trips/landline.yaml:2:3: features.trips: the key is written in two files; the first is " + dir + "/features/trips.yaml:2:3",
		"features/trips.yaml:6:21: features.broken.timeout: expected a duration",
	} {
		if !strings.Contains(stderr, want) || exit != 78 {
			t.Errorf("%d: no %q in\n%s", exit, want, stderr)
		}
	}
}

// A reload reads new, changed and removed files; diff tells what it would do before.
func TestDiffOfARunningNode(t *testing.T) {
	up := newUpstream(t)
	dir, data := manyFiles(t, up.URL), t.TempDir()
	file := filepath.Join(dir, "landline.yaml")
	token, stderr, exit := run(t, nil, "operator", "add", "ada", "--role", "operator", "--config", file, "--data", data)
	if exit != 0 {
		t.Fatal(stderr)
	}
	n := startNode(t, file, data, "LANDLINE_ENV=staging", "DB_KEY=T/QraY58S+Jf2Hv3hR5JKVY/JYqFmTbj85wWI2V/3pE=", "OTHER_KEY=second-very-secret")
	env := []string{"LANDLINE_ADMIN_URL=" + n.Admin, "LANDLINE_ADMIN_TOKEN=" + strings.TrimSpace(token)}
	diff := func(args ...string) (string, int) {
		out, stderr, exit := run(t, env, append([]string{"config", "diff"}, args...)...)
		return out + stderr, exit
	}
	if out, exit := diff(); exit != 0 || out != "nothing has changed\n" {
		t.Errorf("at first: %d %s", exit, out)
	}
	if got := get(t, n.Public+"/v1/seats/x"); got != http.StatusNotFound {
		t.Errorf("the overlay removes seats, which answers %d", got)
	}
	writeFile(t, filepath.Join(dir, "features", "search.staging.yaml"), "features: {search: {timeout: 6s}}\n")
	writeFile(t, filepath.Join(dir, "features", "meals.yaml"), fmt.Sprintf(teamFile, "meals"))
	writeFile(t, filepath.Join(dir, "teams", "seats", "landline.staging.yaml"), "")
	if err := os.RemoveAll(filepath.Join(dir, "teams", "trips")); err != nil {
		t.Fatal(err)
	}
	out, exit := diff()
	for _, want := range []string{"+ features.meals.routes[0].match: ", "+ features.seats.auth: none", "~ features.search.timeout: 5s → 6s\n", "- features.trips.timeout: 2s"} {
		if !strings.Contains(out, want) || exit != 1 {
			t.Errorf("%d: no %q in\n%s", exit, want, out)
		}
	}
	if strings.Contains(out, "restart") {
		t.Error(out)
	}
	n.signal(syscall.SIGHUP)
	eventually(t, patience, "the new files are in use", func() bool { return get(t, n.Public+"/v1/meals/x") == 200 })
	if a, b := get(t, n.Public+"/v1/seats/x"), get(t, n.Public+"/v1/trips/x"); a != 200 || b != 404 {
		t.Errorf("seats %d, trips %d", a, b)
	}
	if out, exit := diff(); exit != 0 {
		t.Errorf("after the reload: %d %s", exit, out)
	}
	writeFile(t, filepath.Join(dir, "landline.staging.yaml"), "log: {level: warn}\nsecrets: {master_key: \"${DB_KEY}\"}\n")
	var changes struct {
		Restart bool
		Changes []struct {
			Path, Old, New, File string
			Secret, Restart      bool
			Line                 int
		}
	}
	out, exit = diff("--json")
	if err := json.Unmarshal([]byte(out), &changes); err != nil || exit != 1 || len(changes.Changes) != 2 || !changes.Restart {
		t.Fatalf("%d %v %s", exit, err, out)
	}
	secret, level := changes.Changes[0], changes.Changes[1]
	if secret.Path != "secrets.master_key" || secret.Old != "" || secret.New != "[redacted]" || !secret.Restart || !secret.Secret || secret.Line != 2 ||
		!strings.HasSuffix(secret.File, "landline.staging.yaml") || level.Old != "debug" || level.New != "warn" || level.Restart {
		t.Error(out)
	}
	writeFile(t, filepath.Join(dir, "landline.staging.yaml"), "log: {level: wrn}\n")
	if out, exit := diff(); exit != 78 || !strings.Contains(out, "landline.staging.yaml:1:14: log.level") {
		t.Errorf("%d %s", exit, out)
	}
	if both := out + n.logs.String(); strings.Contains(both, "very-secret") || strings.Contains(both, "T/QraY58S+Jf2Hv3hR5J") {
		t.Error("a secret shows")
	}
}

// Two configurations are compared without a node.
func TestDiffOfTwoFiles(t *testing.T) {
	dir := manyFiles(t, "http://127.0.0.1:9")
	file := filepath.Join(dir, "landline.yaml")
	out, stderr, exit := run(t, nil, "config", "diff", "--against", file, "--config", file)
	if exit != 0 || out != "nothing has changed\n" {
		t.Errorf("%d %s%s", exit, out, stderr)
	}
	other := writeFile(t, filepath.Join(dir, "other.yaml"), "profile: development\nlisten: {public: \"127.0.0.1:1\"}\ninclude: landline.yaml\n")
	out, stderr, exit = run(t, nil, "config", "diff", "--against", file, "--config", other)
	if exit != 1 || out != "~ listen.public: 127.0.0.1:8080 → 127.0.0.1:1  (needs a restart)\n" || stderr != "" {
		t.Errorf("%d %s%s", exit, out, stderr)
	}
	out, _, exit = run(t, nil, "config", "diff", "--against", file, "--config", file, "--env", "staging")
	if exit != 1 || !strings.Contains(out, "~ log.level: info → debug\n") || !strings.Contains(out, "- features.seats.auth: none\n") {
		t.Errorf("%d %s", exit, out)
	}
}

// What only the whole gateway can tell, `config check` tells as well, with its place.
func TestCheckFindsWhatServeWouldRefuse(t *testing.T) {
	for name, c := range map[string]struct{ features, want string }{
		"a built-in route":   {`b: {auth: none, routes: [{match: "GET /v1/me", upstream: u}]}`, ":4:"},
		"a built-in name":    {`account: {auth: none, routes: [{match: "GET /a", upstream: u}]}`, ":4:"},
		"a misspelt feature": {`instalations: {timeout: 1s}`, ":4:"},
	} {
		file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), "app: {id: com.example.x}\nupstreams: {u: {targets: [{url: \"http://127.0.0.1:1\"}]}}\nfeatures:\n  "+c.features+"\n")
		_, stderr, exit := run(t, nil, "config", "check", "--config", file)
		if exit != 78 || !strings.Contains(stderr, file+c.want) {
			t.Errorf("%s: exit %d, %s", name, exit, stderr)
		}
	}
}
