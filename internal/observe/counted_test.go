package observe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

func TestCountedIsNotCountedOftener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := observe.NewRegistry()
		counts, failures := 0, 0
		var fault error
		observe.Counted(reg, observe.Metric{Name: "landline_test_rows", Help: "Rows.", Labels: []string{"kind"}}, time.Minute,
			func(context.Context) ([]observe.Sample, error) {
				counts++
				return []observe.Sample{{Value: float64(counts), Labels: []string{"a"}}}, fault
			}, func(error) { failures++ })
		want := func(value float64) {
			t.Helper()
			got := -1.0
			families, err := prometheus.Gatherers{reg}.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "landline_test_rows" {
					got = f.GetMetric()[0].GetGauge().GetValue()
				}
			}
			if got != value {
				t.Errorf("%v, want %v", got, value)
			}
		}
		want(1)
		time.Sleep(59 * time.Second)
		want(1)
		time.Sleep(2 * time.Second)
		want(2)
		fault = errors.New("no database")
		time.Sleep(time.Minute)
		want(-1) // no figure rather than an old one
		if counts != 3 || failures != 1 {
			t.Errorf("%d counts, %d failures", counts, failures)
		}
	})
}
