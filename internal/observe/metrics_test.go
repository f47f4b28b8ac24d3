package observe

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// metricValue is the sum of a metric's samples that have the label values, and their number.
func metricValue(t *testing.T, g prometheus.Gatherer, name string, labels ...string) (sum float64, samples int) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			has := map[string]bool{}
			for _, l := range m.Label {
				has[l.GetValue()] = true
			}
			if slices.ContainsFunc(labels, func(l string) bool { return !has[l] }) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			samples++
		}
	}
	return sum, samples
}

func TestDeclaredTwiceIsOneMetric(t *testing.T) {
	reg := NewRegistry()
	Counter(reg, "landline_a_b_total", "Help.", "l").WithLabelValues("x").Inc()
	second := Counter(reg, "landline_a_b_total", "Help.", "l")
	second.WithLabelValues("x").Inc()
	if got, _ := metricValue(t, reg, "landline_a_b_total", "x"); got != 2 {
		t.Errorf("the counter shows %v, want 2", got)
	}
	g := GaugeFunc(reg, "landline_a_size", "Help.", func() float64 { return 1 })
	if again := GaugeFunc(reg, "landline_a_size", "Help.", func() float64 { return 2 }); again != g {
		t.Error("a second GaugeFunc is not the first")
	}
	h := Histogram(reg, "landline_a_seconds", "Help.", nil)
	if again := Histogram(reg, "landline_a_seconds", "Help.", nil); again != h {
		t.Error("a second Histogram is not the first")
	}
	other := NewRegistry()
	Counter(other, "landline_a_b_total", "Help.", "l").WithLabelValues("x").Inc()
	if got, _ := metricValue(t, other, "landline_a_b_total", "x"); got != 1 {
		t.Errorf("another registry's counter shows %v, want 1", got)
	}
	Gauge(nil, "landline_a_g", "Help.").WithLabelValues().Set(1)
}

func TestDeclarationFaultsPanic(t *testing.T) {
	reg := NewRegistry()
	Counter(reg, "landline_x_total", "Help.", "l")
	for name, declare := range map[string]func(){
		"foreign name": func() { Counter(reg, "x_total", "Help.") },
		"no help":      func() { Counter(reg, "landline_y_total", " ") },
		"other labels": func() { Counter(reg, "landline_x_total", "Help.", "m") },
		"other type":   func() { Gauge(reg, "landline_x_total", "Help.", "l") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			declare()
		}()
	}
}

func TestReferenceListsEverything(t *testing.T) {
	reg := NewRegistry()
	Histogram(reg, "landline_b_request_duration_seconds", "Time of\n  a | request.", nil, "feature", "status") // no child yet
	Counter(reg, "landline_a_total", "Things.")
	GaugeFunc(reg, "landline_c_size", "Size.", func() float64 { return 0 })
	var out bytes.Buffer
	if err := Reference(&out, reg); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for l := range strings.Lines(out.String()) {
		if strings.HasPrefix(l, "| `") {
			rows = append(rows, strings.TrimSpace(l))
		}
	}
	want := []string{
		"| `landline_a_total` | counter | – | Things. |",
		"| `landline_b_request_duration_seconds` | histogram | `feature`, `status` | Time of a \\| request. |",
		"| `landline_c_size` | gauge | – | Size. |",
		"| `landline_observe_metrics_declared` | gauge | – | Number of metrics that Landline declares, those without a sample included. |",
	}
	if strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
	if n, _ := metricValue(t, reg, "landline_observe_metrics_declared"); n != 4 {
		t.Errorf("%v metrics are declared, want 4", n)
	}
}

func TestReferenceRefusesStrangers(t *testing.T) {
	reg := NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "sneaked_in_total", Help: "h"}))
	if err := Reference(&bytes.Buffer{}, reg); err == nil || !strings.Contains(err.Error(), "sneaked_in_total") {
		t.Errorf("%v; want an error that names the metric", err)
	}
}

func TestCapLabel(t *testing.T) {
	c := CapLabel(2)
	for _, step := range []struct{ in, want string }{
		{"a", "a"}, {strings.Repeat("x", 129), Other}, {"\xff", Other}, {Other, Other}, {"b", "b"}, {"c", Other}, {"a", "a"}, {"b", "b"}, {"", Other},
	} {
		if got := c.Value(step.in); got != step.want {
			t.Errorf("Value(%q) = %q, want %q", step.in, got, step.want)
		}
	}
	if CapLabel(0).Value("a") != Other {
		t.Error("a cap of 0 let a value through")
	}
}

func TestCapLabelConcurrently(t *testing.T) {
	const limit = 50
	c := CapLabel(limit)
	var mu sync.Mutex
	out := map[string]bool{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				in := fmt.Sprint((i*7 + g) % 200)
				got := c.Value(in)
				if got != in && got != Other {
					t.Errorf("Value(%q) = %q", in, got)
				}
				mu.Lock()
				out[got] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(out) != limit+1 || !out[Other] {
		t.Errorf("%d distinct values, want %d and other", len(out), limit)
	}
	for v := range out {
		if c.Value(v) != v {
			t.Errorf("%q was let through once and not again", v)
		}
	}
}

func TestCapLabelAtTheLastPlace(t *testing.T) {
	for range 300 {
		c := CapLabel(1)
		start := make(chan struct{})
		got := make(chan string)
		for g := range 8 {
			go func() {
				<-start
				got <- c.Value(fmt.Sprint(g))
			}()
		}
		close(start)
		let := 0
		for range 8 {
			if <-got != Other {
				let++
			}
		}
		if let != 1 {
			t.Fatalf("%d values were let through at once, want 1", let)
		}
	}
}

func FuzzCapLabel(f *testing.F) {
	f.Add("a", "b", "c")
	f.Fuzz(func(t *testing.T, a, b, d string) {
		c := CapLabel(2)
		reg := NewRegistry()
		counter := Counter(reg, "landline_fuzz_total", "Help.", "l")
		for _, s := range []string{a, b, d, a} {
			counter.WithLabelValues(c.Value(s)).Inc() // panics on what Prometheus cannot take
		}
		if _, n := metricValue(t, reg, "landline_fuzz_total"); n > 3 {
			t.Errorf("%d series, want at most 3", n)
		}
	})
}

func BenchmarkCapLabelHit(b *testing.B) {
	c := CapLabel(1000)
	for i := range 1000 {
		c.Value(fmt.Sprint(i))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Value("500")
		}
	})
}
