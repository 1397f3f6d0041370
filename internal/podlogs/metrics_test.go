package podlogs

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// metric returns the sum of a metric's values that have the given label, if one is given.
func (r *rig) metric(name string, label ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			ok := len(label) == 0
			for _, l := range m.GetLabel() {
				ok = ok || l.GetName() == label[0] && l.GetValue() == label[1]
			}
			if ok {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// conserved checks that every line that was read is accounted for.
func (r *rig) conserved() {
	r.t.Helper()
	read, pushed := r.metric("ingot_podlogs_lines_read_total"), r.metric("ingot_podlogs_lines_pushed_total")
	rest := r.metric("ingot_podlogs_lines_dropped_total") + r.metric("ingot_podlogs_parts_joined_total") + r.metric("ingot_podlogs_parts_pending")
	if read != pushed+rest {
		r.t.Errorf("%v lines were read, but %v were pushed and %v dropped, joined or pending", read, pushed, rest)
	}
	if int(pushed) != len(r.sink.texts()) {
		r.t.Errorf("%v lines were counted as pushed, %d arrived", pushed, len(r.sink.texts()))
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	r := newRig(t)
	r.start()
	eventually(t, "a scan", func() bool { return !r.c.Status().Scanned.IsZero() })
	r.finish()
	problems, err := testutil.GatherAndLint(r.reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
