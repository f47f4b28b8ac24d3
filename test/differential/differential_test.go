package differential

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// seed of the generator. Any other must do as well; this one makes failures repeatable.
const seed = 20261123

// cases is how many requests are generated, beside the written ones.
const cases = 700

// facts is what is compared of one exchange.
type facts map[string]string

func gather(got *message, failed error, seen []*message) facts {
	f := facts{"upstream.requests": fmt.Sprint(len(seen)), "client.complete": fmt.Sprint(failed == nil)}
	if len(seen) > 0 {
		m := seen[len(seen)-1]
		f["upstream.start"], f["upstream.framing"], f["upstream.body"] = m.Start, m.Framing, m.Body
		f["upstream.cut"] = fmt.Sprint(m.Cut)
		for name, value := range listFields(m.Fields) {
			f["upstream.field."+name] = value
		}
		for name, value := range listFields(m.Trailers) {
			f["upstream.trailer."+name] = value
		}
	}
	if got == nil {
		return f
	}
	f["client.status"], f["client.framing"], f["client.body"] = fmt.Sprint(got.status()), got.Framing, got.Body
	_, f["client.reason"], _ = strings.Cut(strings.TrimPrefix(got.Start, "HTTP/1.1 "), " ")
	for name, value := range listFields(got.Fields) {
		f["client.field."+name] = value
	}
	for name, value := range listFields(got.Trailers) {
		f["client.trailer."+name] = value
	}
	for _, m := range got.Interim {
		f["client.interim"] += m.Start + fmt.Sprint(sortedKeys(listFields(m.Fields))) + "\n"
	}
	return f
}

// differing lists the facts in which a and b differ.
func differing(a, b facts) []string {
	var keys []string
	for k, v := range a {
		if other, there := b[k]; !there || other != v {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, there := a[k]; !there {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func allCases() []*testCase {
	g := newGenerator(seed)
	var list []*testCase
	for i := range cases {
		list = append(list, g.testCase(i+1))
	}
	for _, c := range written() {
		c.ID = len(list) + 1
		list = append(list, c)
	}
	return list
}

func TestLandlineProxiesAsNginxDoes(t *testing.T) {
	list := allCases()
	answers := func(id int) answer {
		if id < 1 || id > len(list) {
			return answer{Pieces: []string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}}
		}
		return list[id-1].Answer
	}
	behindNginx, behindLandline := newRecorder(t, answers), newRecorder(t, answers)
	nginx, landline := startNginx(t, behindNginx.addr()), startLandline(t, behindLandline.addr())
	used := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	queue := make(chan *testCase)
	for range 8 {
		wg.Go(func() {
			for c := range queue {
				a, aerr := send(t, nginx, c)
				b, berr := send(t, landline, c)
				theirs, ours := gather(a, aerr, behindNginx.requests(c.ID)), gather(b, berr, behindLandline.requests(c.ID))
				mu.Lock()
				compare(t, c, theirs, ours, used)
				mu.Unlock()
			}
		})
	}
	for _, c := range list {
		queue <- c
	}
	close(queue)
	wg.Wait()
	for _, fault := range behindLandline.faults() {
		t.Errorf("landline sent what is no request: %s", fault)
	}
	if len(list) < 500 {
		t.Errorf("%d cases, at least 500 are promised", len(list))
	}
	reportUse(t, used)
	t.Logf("%d requests compared", len(list))
}

func compare(t *testing.T, c *testCase, theirs, ours facts, used map[string]int) {
	t.Helper()
	var open []string
	for _, key := range differing(theirs, ours) {
		d := &difference{c: c, key: key, nginx: theirs[key], landline: ours[key], theirs: theirs, ours: ours}
		name := d.accepted()
		if name == "" {
			open = append(open, fmt.Sprintf("  %s\n    nginx    %.300q\n    landline %.300q", key, theirs[key], ours[key]))
			continue
		}
		used[name]++
	}
	if len(open) > 0 {
		t.Errorf("%s\n--- differs, and no accepted difference covers it\n%s", c, strings.Join(open, "\n"))
	}
}

// reportUse fails for accepted differences that no request showed, or that the page does not explain.
func reportUse(t *testing.T, used map[string]int) {
	t.Helper()
	page, err := os.ReadFile("../../docs/reference/gateway/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range acceptedDifferences {
		if used[rule.name] == 0 {
			t.Errorf("no request shows the accepted difference %q: drop it from the list", rule.name)
		}
		if !strings.Contains(string(page), "### "+rule.name+"\n") {
			t.Errorf("docs/reference/gateway/differences.md has no section %q", rule.name)
		}
		t.Logf("%5d × %s", used[rule.name], rule.name)
	}
	if n := strings.Count(string(page), "\n### "); n != len(acceptedDifferences) {
		t.Errorf("the page has %d sections, the list %d differences", n, len(acceptedDifferences))
	}
}
