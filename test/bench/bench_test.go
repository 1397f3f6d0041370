//go:build linux

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/test/bench/exporter"
	"github.com/ingot-telemetry/ingot/test/bench/sink"
	"github.com/ingot-telemetry/ingot/test/kit"
)

func TestMain(m *testing.M) { os.Exit(kit.Main(m)) }

// TestIngotUnderTinyLoads runs the whole benchmark, which fails when a sample or a line is
// lost, changed, repeated or out of order.
func TestIngotUnderTinyLoads(t *testing.T) {
	binary := kit.Binary(t)
	for _, args := range [][]string{
		{"metrics", "-load", "tiny/gzip,tiny/rw2,tiny-rules,tiny-native,tiny/outage", "-outage", "4s", "-collectors", "ingot", "-window", "1s", "-warmup", "1s"},
		{"logs", "-load", "tiny", "-window", "1s", "-warmup", "1s"},
	} {
		t.Run(args[0], func(t *testing.T) {
			var out, log bytes.Buffer
			if err := run(t.Context(), append(args, "-ingot", binary), &out, &log); err != nil {
				t.Errorf("%v\n%s%s", err, &log, &out)
			}
			if !strings.Contains(out.String(), "| tiny") {
				t.Errorf("no row of the load in:\n%s", &out)
			}
		})
	}
}

func TestWrongCommandLinesAreRefused(t *testing.T) {
	for _, args := range []string{
		"", "-x", "traces", "metrics -load M99", "metrics -load M1/quick", "metrics -outage 0s", "metrics -no-such-flag", "metrics -rounds 0", "metrics -window 0s",
		"metrics argument", "metrics -collectors nobody", "logs -load M1", "logs -backlog 0",
	} {
		// The program is not there, so that nothing can be measured by mistake.
		fields := strings.Fields(args)
		if len(fields) > 1 {
			fields = append(append([]string{fields[0], "-ingot", "/no/such/program"}, "-collectors=ingot"), fields[1:]...)
		}
		err := run(t.Context(), fields, io.Discard, io.Discard)
		if code := exitCode(err, io.Discard); !errors.Is(err, errUsage) || code != 2 {
			t.Errorf("%q: exit code %d, error %v, want one about the command line", args, code, err)
		}
	}
	for _, args := range []string{"-help", "metrics -help"} {
		err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if code := exitCode(err, io.Discard); !errors.Is(err, flag.ErrHelp) || code != 0 {
			t.Errorf("%q: exit code %d, error %v", args, code, err)
		}
	}
}

func TestGoalsAreJudged(t *testing.T) {
	for _, c := range []struct {
		goal
		value float64
		want  string
	}{
		{goal{must: 0.38, stretch: 0.28}, 0.39, "MISSED"},
		{goal{must: 0.38, stretch: 0.28}, 0.38, "ok"},
		{goal{must: 0.38, stretch: 0.28}, 0.28, "ok, stretch too"},
		{goal{must: 0}, 0, "ok"},
		{goal{must: 0}, 0.1, "MISSED"},
		{goal{must: 250, stretch: 400, atLeast: true}, 249, "MISSED"},
		{goal{must: 250, stretch: 400, atLeast: true}, 250, "ok"},
		{goal{must: 250, stretch: 400, atLeast: true}, 400, "ok, stretch too"},
	} {
		if got := c.verdict(c.value); got != c.want {
			t.Errorf("%g against %g and %g: %s, want %s", c.value, c.must, c.stretch, got, c.want)
		}
	}
}

// round is a round of 1000 samples, 10 scrapes.
func round(load, collector string, cpu time.Duration, foreign float64) metricsResult {
	return metricsResult{
		usage: usage{window: time.Second, cpu: cpu, rssMean: 10 << 20, rssHigh: 12 << 20, foreign: foreign},
		load:  load, collector: collector,
		scraped: exporter.Counts{Scrapes: 10, Exposed: 1000, Samples: 1000},
		pushed:  sink.MetricsCounts{Samples: 900, Reports: 100, Wire: 50_000},
	}
}

func TestMedianLeavesOutDisturbedRounds(t *testing.T) {
	lossy := round("M1", ingotName, 9*time.Millisecond, 0.5)
	lossy.lost = 3
	medians := metricsMedians([]metricsResult{
		round("M1", ingotName, 3*time.Millisecond, 0), lossy,
		round("M1", vmagentName, 8*time.Millisecond, 0.9),
		round("M1", ingotName, 1*time.Millisecond, 0),
		round("M1", ingotName, 2*time.Millisecond, 0.05),
		round("M5", ingotName, 4*time.Millisecond, 0),
	})
	type row struct {
		load, collector string
		perSample       float64
		lost            int64
	}
	var got []row
	for _, m := range medians {
		got = append(got, row{m.load, m.collector, m.perSample(), m.lost})
	}
	want := []row{{"M1", ingotName, 2, 3}, {"M1", vmagentName, 8, 0}, {"M5", ingotName, 4, 0}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
	known := metricsFigures(medians)
	for what, want := range map[[2]string]float64{
		{"M1", cpuRatio}: 0.25, {"M1", memoryRatio}: 1, {"M1", memory}: 10, {"M1", wireRatio}: 1,
		{"M5", churnRatio}: 2, {"M5", shuffleExtra}: 2,
	} {
		if known[what] != want {
			t.Errorf("%v is %g, want %g", what, known[what], want)
		}
	}
	if v, ok := known[[2]string{"M5", cpuRatio}]; ok {
		t.Errorf("a ratio of %g to a peer that was not measured", v)
	}
}

func TestGoalsArePrintedWithWhatWasMissed(t *testing.T) {
	var out bytes.Buffer
	b := &bench{out: &out}
	missed := b.printGoals([]goal{
		{"M1", cpuRatio, 0.38, 0.28, false}, {"L2", rate, 120, 0, true}, {"M2", memory, 95, 75, false},
	}, figures{{"M1", cpuRatio}: 0.5, {"L2", rate}: 150})
	want := `| load | goal          | measured | must   | stretch |        |
|------|---------------|----------|--------|---------|--------|
| M1   | CPU / vmagent | 0.5      | ≤ 0.38 | ≤ 0.28  | MISSED |
| L2   | MB/s          | 150      | ≥ 120  |         | ok     |

`
	if diff := cmp.Diff(want, out.String()); diff != "" || missed != 1 {
		t.Errorf("%d missed, table (-want +got):\n%s", missed, diff)
	}
}

func TestRatiosOfRoundsArePrinted(t *testing.T) {
	var out bytes.Buffer
	rounds := []metricsResult{
		round("M1", ingotName, 1*time.Millisecond, 0), round("M1", ingotName, 3*time.Millisecond, 0), round("M1", ingotName, 2*time.Millisecond, 0),
		round("M1", vmagentName, 4*time.Millisecond, 0), round("M1", vmagentName, 4*time.Millisecond, 0), round("M1", vmagentName, 10*time.Millisecond, 0),
		round("M7", ingotName, 1*time.Millisecond, 0),
	}
	for i := range rounds {
		rounds[i].round = i % 3
	}
	(&bench{out: &out}).printRatios(rounds)
	want := `| load | Ingot divided by | CPU  | of rounds | RSS  | of rounds | highest RSS | wire bytes |
|------|------------------|------|-----------|------|-----------|-------------|------------|
| M1   | vmagent          | 0.50 | 0.20-0.75 | 1.00 | 1.00-1.00 | 1.00        | 1.00       |

`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("ratios (-want +got):\n%s", diff)
	}
}

func TestCollectorsThatCannotRunALoadAreLeftOut(t *testing.T) {
	b := &bench{opts: options{only: []string{ingotName, vmagentName, promagentName}}}
	for name, want := range map[string]string{
		"M1": "ingot vmagent promagent", "M1/rw2": "ingot promagent", "M1/zstd": "ingot vmagent",
		"M6/gzip": "ingot vmagent promagent", "M7": "ingot promagent", "M8": "ingot vmagent promagent", "M8/rw2": "ingot promagent",
	} {
		load, err := findLoad(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range able(b.collectors(), load) {
			got = append(got, c.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is run by %s, want %s", name, got, want)
		}
	}
}

func TestScrapesThatAreNotAsAgreedAreFound(t *testing.T) {
	plain, compressed := metricsLoad{}, metricsLoad{compressed: true}
	for _, c := range []struct {
		load    metricsLoad
		scraped exporter.Counts
		ok      bool
	}{
		{plain, exporter.Counts{Scrapes: 2, Exposed: 9}, true},
		{plain, exporter.Counts{Scrapes: 2, Exposed: 9, Compressed: 1}, false},
		{compressed, exporter.Counts{Scrapes: 2, Exposed: 9, Compressed: 2}, true},
		{compressed, exporter.Counts{Scrapes: 2, Exposed: 9, Compressed: 1}, false},
		{plain, exporter.Counts{}, false},
	} {
		if err := c.load.asAgreed(c.scraped); (err == nil) != c.ok {
			t.Errorf("compressed %v, %+v: error %v", c.load.compressed, c.scraped, err)
		}
	}
}

func TestOwnMetricIsAddedUpOverItsLabels(t *testing.T) {
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# HELP table_bytes 7\ntable_bytes_total 5\ntable_bytes{job=\"a b\"} 1e3\ntable_bytes{job=\"c\"} 24\nplain 3\n")
	}))
	defer pages.Close()
	r := running{listen: strings.TrimPrefix(pages.URL, "http://")}
	for name, want := range map[string]float64{"table_bytes": 1024, "plain": 3, "table": -1, "none": -1} {
		got, known := r.metric(t.Context(), name)
		if !known {
			got = -1
		}
		if got != want {
			t.Errorf("%s is %g, want %g", name, got, want)
		}
	}
}

func TestEveryGoalNamesALoadThatExists(t *testing.T) {
	for _, g := range metricsGoals() {
		if _, err := findLoad(g.load); err != nil {
			t.Error(err)
		}
	}
	names := map[string]bool{}
	for _, l := range logsLoads() {
		names[l.name] = true
	}
	for _, g := range logsGoals() {
		if !names[g.load] {
			t.Errorf("a goal names the load %s, which does not exist", g.load)
		}
	}
}
