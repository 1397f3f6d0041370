package scrape

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
)

func TestStartTimestampsAreTakenWhereWanted(t *testing.T) {
	const om = "application/openmetrics-text"
	const body = "# TYPE a counter\na_total 5\na_created 1500\n# TYPE b gauge\nb 1\n# EOF\n"
	f := func(job string, change func(*Config), want ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			if change != nil {
				change(&cfg)
			}
			r := run(t, cfg, jobOf(t, job, newList("a:1"), bodyOf(om, func(int) string { return body })))
			untilScraped(t, r.ledger)
			var got []string
			for _, s := range r.take()[0] {
				if s.Family.Family != "" {
					got = append(got, fmt.Sprintf("%s %v since %d", s.Labels.Get("__name__"), s.V, s.Start))
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", job, diff)
			}
		})
	}
	on := func(c *Config) { c.StartTimestamps = true }
	taken := []string{"a_total 5 since 1500000", "b 1 since 0"}
	// The _created line is no part of the family of a counter, nor is what follows up to the
	// next comment.
	series := []string{"a_total 5 since 0", "b 1 since 0"}
	f(job10s, nil, series...)
	f("{job_name: j, scrape_interval: 10s, scrape_timeout: 5s, start_timestamps: true}", nil, taken...)
	f(job10s, on, taken...)
	f("{job_name: j, scrape_interval: 10s, scrape_timeout: 5s, start_timestamps: false}", on, series...)
}

func TestTargetsChooseHowHistogramsAreRead(t *testing.T) {
	var job JobConfig
	full := job.WithDefaults(DefaultConfig())
	native := full
	yes := true
	native.ScrapeNativeHistograms = &yes
	f := func(cfg *JobConfig, want expfmt.Options, set ...string) {
		t.Helper()
		lb := labels.NewBuilder(labels.EmptyLabels())
		found, err := newTarget(lb, cfg, labels.FromStrings(append(set, "__address__", "a:1", "__scheme__", "http")...))
		if err != nil {
			t.Error(err)
			return
		}
		if found.parsing != want {
			t.Errorf("%v is parsed with %+v, want %+v", set, found.parsing, want)
		}
	}
	f(&full, expfmt.Options{IgnoreNative: true})
	f(&native, expfmt.Options{})
	f(&native, expfmt.Options{IgnoreNative: true}, nativeLabel, "false")
	f(&full, expfmt.Options{KeepClassic: true}, nativeLabel, "1", classicLabel, "true")
	f(&full, expfmt.Options{IgnoreNative: true, ConvertClassic: true}, convertLabel, "t")

	_, err := newTarget(labels.NewBuilder(labels.EmptyLabels()), &full, labels.FromStrings("__address__", "a:1", convertLabel, "maybe"))
	if want := `__convert_classic_histograms_to_nhcb__ must be true or false, is "maybe"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
