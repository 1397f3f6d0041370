package stage

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// counting is a bench whose metrics can be looked at.
func counting(t *testing.T, stages string) (*bench, *Metrics) {
	t.Helper()
	prog := compile(t, stages)
	b := &bench{t: t, now: start}
	m, err := NewMetrics(func() time.Time { return b.now }, prog)
	if err != nil {
		t.Fatal(err)
	}
	b.r = prog.NewRunner(Deps{Metrics: m, Rand: rand.New(rand.NewPCG(7, 7))})
	b.p = b.r.NewPipeline()
	return b, m
}

func TestMetricsObserveLines(t *testing.T) {
	f := func(metric, lines, want string) {
		t.Helper()
		b, m := counting(t, "- logfmt: {mapping: {v: , w: }}\n- metrics:\n    test: {"+metric+"}")
		for line := range strings.SplitSeq(lines, "|") {
			b.one(line)
		}
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(m)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
			t.Errorf("%s after %s: %v", metric, lines, err)
		}
	}
	counter := func(v string) string {
		return "# HELP ingot_custom_test h\n# TYPE ingot_custom_test counter\ningot_custom_test{app=\"web\",namespace=\"shop\"} " + v + "\n"
	}
	gauge := func(v string) string { return strings.ReplaceAll(counter(v), "counter", "gauge") }
	f("type: Counter, description: h, source: v, config: {action: inc}", "v=1|v=x|w=1", counter("2"))
	f("type: counter, description: h, source: v, config: {action: Add}", "v=1|v=2.5|v=x|v=-1|v=10ms|w=1", counter("3.51"))
	f("type: counter, description: h, source: v, config: {action: inc, value: a}", "v=a|v=b|w=a", counter("1"))
	f("type: counter, description: h, config: {match_all: true, action: inc}", "v=a|b|c", counter("3"))
	f("type: counter, description: h, config: {match_all: true, count_entry_bytes: true, action: add}", "abc|é", counter("5"))
	f("type: counter, description: h, source: v, config: {action: inc}", "w=1", "")
	f("type: gauge, description: h, source: v, config: {action: set}", "v=1|v=-7", gauge("-7"))
	f("type: gauge, description: h, source: v, config: {action: add}", "v=1|v=-7", gauge("-6"))
	f("type: gauge, description: h, source: v, config: {action: sub}", "v=1|v=-7", gauge("6"))
	f("type: gauge, description: h, source: v, config: {action: inc}", "v=1|v=x", gauge("2"))
	f("type: gauge, description: h, source: v, config: {action: dec}", "v=1|v=x", gauge("-2"))
	f("type: histogram, description: h, source: v, config: {buckets: [1, 2.5]}", "v=0.5|v=1|v=2|v=9|v=500ms|v=x",
		"# HELP ingot_custom_test h\n# TYPE ingot_custom_test histogram\n"+
			"ingot_custom_test_bucket{app=\"web\",namespace=\"shop\",le=\"1\"} 3\n"+
			"ingot_custom_test_bucket{app=\"web\",namespace=\"shop\",le=\"2.5\"} 4\n"+
			"ingot_custom_test_bucket{app=\"web\",namespace=\"shop\",le=\"+Inf\"} 5\n"+
			"ingot_custom_test_sum{app=\"web\",namespace=\"shop\"} 13\n"+
			"ingot_custom_test_count{app=\"web\",namespace=\"shop\"} 5\n")
	f("type: counter, description: h, prefix: my_, source: v, config: {action: inc}", "v=1",
		"# HELP my_test h\n# TYPE my_test counter\nmy_test{app=\"web\",namespace=\"shop\"} 1\n")
}

func TestMetricsReadJSONsKinds(t *testing.T) {
	b, m := counting(t, "- json: {expressions: {v: }}\n- metrics: {v: {type: gauge, config: {action: add}}}")
	for _, line := range []string{`{"v":true}`, `{"v":"2"}`, `{"v":4}`, `{"v":false}`, `{"v":null}`, `{"v":"true"}`} {
		b.one(line)
	}
	if got := testutil.ToFloat64(m); got != 7 {
		t.Errorf("gauge = %v, want 7", got)
	}
	if c := b.r.Counts(func(string, int) {}); c.Unobserved != 2 {
		t.Errorf("unobserved = %d, want null and the text", c.Unobserved)
	}
}

func TestMetricsHaveTheLabelsOfTheirPlace(t *testing.T) {
	b, m := counting(t, "- logfmt: {mapping: {level: , team: }}\n- labels: {level: }\n- tenant: {source: team}\n"+
		"- metrics: {lines: {type: counter, description: d, config: {match_all: true, action: inc}}}\n- label_drop: [level]")
	for _, line := range []string{"level=info", "level=warn team=a", "level=warn team=b", "x"} {
		b.one(line)
	}
	want := `# HELP ingot_custom_lines d
# TYPE ingot_custom_lines counter
ingot_custom_lines{app="web",level="info",namespace="shop"} 1
ingot_custom_lines{app="web",level="warn",namespace="shop"} 2
ingot_custom_lines{app="web",namespace="shop"} 1
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestIdleSeriesEnd(t *testing.T) {
	b, m := counting(t, "- metrics: {lines: {type: counter, max_idle_duration: 1m, config: {match_all: true, action: inc}}}")
	b.one("x")
	b.now = b.now.Add(59 * time.Second)
	if n := testutil.CollectAndCount(m); n != 1 {
		t.Errorf("%d series after 59s, want 1", n)
	}
	b.now = b.now.Add(time.Second)
	if n := testutil.CollectAndCount(m); n != 0 {
		t.Errorf("%d series after 1m, want none", n)
	}
	if b.one("x"); testutil.ToFloat64(m) != 1 {
		t.Error("a series that comes back does not start again")
	}
}

func TestSeriesAreBounded(t *testing.T) {
	b, m := counting(t, "- logfmt: {mapping: {id: }}\n- labels: {id: }\n- metrics: {lines: {type: counter, max_idle_duration: 10s, config: {match_all: true, action: inc}}}")
	for i := range maxSeries + 10 {
		b.one(fmt.Sprintf("id=%d", i))
	}
	if n := testutil.CollectAndCount(m); n != maxSeries {
		t.Errorf("%d series, want %d", n, maxSeries)
	}
	if c := b.r.Counts(func(string, int) {}); c.Unobserved != 10 {
		t.Errorf("unobserved = %d, want 10", c.Unobserved)
	}
	// Idle ones make room.
	b.now = b.now.Add(time.Minute)
	b.one("id=new")
	if n := testutil.CollectAndCount(m); n != 1 {
		t.Errorf("%d series, want 1", n)
	}
}

func TestProgramsShareMetricsOrAreTold(t *testing.T) {
	one := compile(t, "- metrics: {lines: {type: counter, config: {match_all: true, action: inc}}}")
	two := compile(t, "- metrics: {lines: {type: counter, config: {match_all: true, action: inc}}}\n- drop: {expression: x}")
	longer := compile(t, "- metrics: {lines: {type: counter, max_idle_duration: 1h, config: {match_all: true, action: inc}}}")
	other := compile(t, "- metrics: {lines: {type: gauge, config: {action: inc}}}")
	m, err := NewMetrics(func() time.Time { return start.Add(30 * time.Minute) }, one, two, longer)
	if err != nil {
		t.Fatal(err)
	}
	for _, prog := range []*Program{one, two} {
		prog.NewRunner(Deps{Metrics: m}).NewPipeline().Apply(&Entry{Line: []byte("y"), Labels: model.Labels("")}, start)
	}
	if got := testutil.ToFloat64(m); got != 2 {
		t.Errorf("two programs count %v, want 2", got)
	}
	if _, err := NewMetrics(time.Now, one, other); err == nil || !strings.Contains(err.Error(), "ingot_custom_lines is defined twice") {
		t.Errorf("error = %v, want the metric that is defined twice", err)
	}
	// Without Metrics nothing is counted, and nothing breaks.
	if e := (&Entry{Line: []byte("y")}); one.NewRunner(Deps{}).NewPipeline().Apply(e, start) != Keep {
		t.Error("a line is lost")
	}
}
