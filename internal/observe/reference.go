package observe

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Reference writes docs/reference/metrics.md: every metric that was declared on
// reg, with a sample or without, sorted by name. It is an error if reg holds a
// metric that was registered past Counter, Gauge, GaugeFunc and Histogram,
// those of the Go runtime and the process aside.
func Reference(w io.Writer, reg *prometheus.Registry) error {
	list := declarationsOf(reg).sorted()
	if err := undeclared(list, reg); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString(`# Metrics

Served at /metrics on the admin listener in the Prometheus text format. A
histogram gives three series: _bucket (with label le), _sum and _count. Labels
that clients could fill are capped; what is beyond the cap is "other". Beside
these there are the Go runtime's go_* and the process's process_* metrics.

| metric | type | labels | meaning |
|---|---|---|---|
`)
	for _, m := range list {
		labels := "–"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, cell(m.Help))
	}
	_, err := w.Write(b.Bytes())
	return err
}

func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// A Desc shows its name only in its text form.
var descName = regexp.MustCompile(`fqName: "([^"]*)"`)

func undeclared(list []Metric, reg *prometheus.Registry) error {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		reg.Describe(descs)
	}()
	var names []string
	for d := range descs {
		m := descName.FindStringSubmatch(d.String())
		if m == nil || strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") || strings.HasPrefix(m[1], "promhttp_") {
			continue
		}
		if !slices.ContainsFunc(list, func(l Metric) bool { return l.Name == m[1] }) {
			names = append(names, m[1])
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		return fmt.Errorf("observe: metrics registered without observe.Counter, Gauge, GaugeFunc, Histogram or Collect: %s", strings.Join(slices.Compact(names), ", "))
	}
	return nil
}
