package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// scenario is one file of scenarios/.
type scenario struct {
	Name  string `yaml:"name"`
	Pin   bool   `yaml:"pin"` // every step on the first node: what it shows is kept per node
	Steps []step `yaml:"steps"`
}

// step is a request and what must come back. {{name}} stands for a saved
// value, {{unique}} for text that no other run has.
type step struct {
	Title   string            `yaml:"title"`
	Request string            `yaml:"request"` // "POST /v1/installations"; a whole URL goes elsewhere than to Landline
	Repeat  int               `yaml:"repeat"`  // send it that often; the last answer counts
	Headers map[string]string `yaml:"headers"`
	JSON    *string           `yaml:"json"` // body, and its Content-Type
	Form    string            `yaml:"form"`
	Within  string            `yaml:"within"` // try again until it fits, this long at most
	Expect  expectation       `yaml:"expect"`
	Save    map[string]string `yaml:"save"` // name: path in the JSON answer, or header:Name
}

type expectation struct {
	Status  int               `yaml:"status"`
	Headers map[string]string `yaml:"headers"` // regular expressions; "" = must be absent
	JSON    map[string]string `yaml:"json"`    // path: regular expression of the value as text; "" = must be absent
}

// house is what scenarios run against.
type house struct {
	nodes    []*node
	upstream *upstream
}

func loadScenarios(t *testing.T) []scenario {
	t.Helper()
	files, err := filepath.Glob("scenarios/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("scenarios: %v, %v", files, err)
	}
	var all []scenario
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s scenario
		if err := yaml.UnmarshalWithOptions(data, &s, yaml.Strict()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if s.Name == "" || len(s.Steps) == 0 {
			t.Fatalf("%s: no name or no steps", file)
		}
		all = append(all, s)
	}
	return all
}

func (h *house) run(t *testing.T, s scenario) {
	random := make([]byte, 8)
	rand.Read(random)
	vars := map[string]string{"unique": hex.EncodeToString(random), "upstream": h.upstream.URL}
	for i, st := range s.Steps {
		n := h.nodes[0]
		if !s.Pin {
			n = h.nodes[i%len(h.nodes)]
		}
		within, err := time.ParseDuration(st.Within)
		if err != nil && st.Within != "" {
			t.Fatalf("%s: within: %v", st.Title, err)
		}
		vars["node"] = n.Public
		deadline := time.Now().Add(within)
		for {
			faults := h.step(t, n, st, vars)
			if len(faults) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("step %d, %s (node %d):\n  %s", i+1, st.Title, i%len(h.nodes), strings.Join(faults, "\n  "))
			}
			time.Sleep(20 * time.Millisecond) // between tries of a step that says "within"
		}
	}
}

var variable = regexp.MustCompile(`{{(\w+)}}`)

func fill(t *testing.T, text string, vars map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(m string) string {
		v, ok := vars[m[2:len(m)-2]]
		if !ok {
			t.Fatalf("%s is not saved by an earlier step", m)
		}
		return v
	})
}

// step sends one request and lists what does not fit.
func (h *house) step(t *testing.T, n *node, st step, vars map[string]string) []string {
	t.Helper()
	var res *http.Response
	var body []byte
	for range max(1, st.Repeat) {
		res, body = h.send(t, n, st, vars)
	}
	var faults []string
	if res.StatusCode != st.Expect.Status {
		faults = append(faults, fmt.Sprintf("status %d, want %d", res.StatusCode, st.Expect.Status))
	}
	for name, pattern := range st.Expect.Headers {
		got, there := strings.Join(res.Header.Values(name), ", "), len(res.Header.Values(name)) > 0
		if pattern == "" && there || pattern != "" && !(there && matches(t, fill(t, pattern, vars), got)) {
			faults = append(faults, fmt.Sprintf("header %s: %q, want %q", name, got, pattern))
		}
	}
	var document any
	if len(st.Expect.JSON) > 0 || len(st.Save) > 0 {
		if err := json.Unmarshal(body, &document); err != nil {
			faults = append(faults, "not JSON: "+err.Error())
		}
	}
	for path, pattern := range st.Expect.JSON {
		got, there := lookup(document, path)
		if pattern == "" && there || pattern != "" && !(there && matches(t, fill(t, pattern, vars), got)) {
			faults = append(faults, fmt.Sprintf("%s: %q, want %q", path, got, pattern))
		}
	}
	if len(faults) > 0 {
		return append(faults, fmt.Sprintf("answer: %.800s", body))
	}
	for name, path := range st.Save {
		value, there := lookup(document, path)
		if header, ok := strings.CutPrefix(path, "header:"); ok {
			value, there = res.Header.Get(header), res.Header.Get(header) != ""
		}
		if !there {
			return []string{"nothing to save at " + path}
		}
		vars[name] = value
	}
	return nil
}

func (h *house) send(t *testing.T, n *node, st step, vars map[string]string) (*http.Response, []byte) {
	t.Helper()
	method, target, ok := strings.Cut(fill(t, st.Request, vars), " ")
	if !ok {
		t.Fatalf("request %q: want METHOD /path", st.Request)
	}
	if strings.HasPrefix(target, "/admin/") {
		target = n.Admin + target
	} else if strings.HasPrefix(target, "/") {
		target = n.Public + target
	}
	var body io.Reader
	if st.JSON != nil {
		body = strings.NewReader(fill(t, *st.JSON, vars))
	} else if st.Form != "" {
		body = strings.NewReader(fill(t, st.Form, vars))
	}
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	if st.JSON != nil {
		req.Header.Set("Content-Type", "application/json")
	} else if st.Form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range st.Headers {
		req.Header.Set(name, fill(t, value, vars))
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, bytes.TrimSpace(answer)
}

var client = &http.Client{
	Timeout:       patience,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func matches(t *testing.T, pattern, text string) bool {
	t.Helper()
	re, err := regexp.Compile("^(?s:" + pattern + ")$")
	if err != nil {
		t.Fatal(err)
	}
	return re.MatchString(text)
}

// lookup finds "session.access_token" or "data.0.id" in a JSON document, as text.
func lookup(document any, path string) (string, bool) {
	for _, part := range strings.Split(path, ".") {
		switch d := document.(type) {
		case map[string]any:
			v, ok := d[part]
			if !ok {
				return "", false
			}
			document = v
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(d) {
				return "", false
			}
			document = d[i]
		default:
			return "", false
		}
	}
	switch d := document.(type) {
	case string:
		return d, true
	case float64:
		return strconv.FormatFloat(d, 'f', -1, 64), true
	default:
		b, err := json.Marshal(d)
		return string(b), err == nil
	}
}
