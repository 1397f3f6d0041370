package app_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// targetStatus is what /status/targets says about one target, as far as these tests look.
type targetStatus struct {
	URL    string            `json:"url"`
	Labels map[string]string `json:"labels"`
	Health string            `json:"health"`
	Reason string            `json:"reason"`
	Error  string            `json:"error"`
}

// targetStatuses returns the status of all scraped targets by their label instance.
func targetStatuses(p *kit.Process) (map[string]targetStatus, error) {
	var page struct {
		Jobs []struct {
			Targets []targetStatus `json:"targets"`
		} `json:"jobs"`
	}
	if err := getJSON(p, "/status/targets", &page); err != nil {
		return nil, err
	}
	byInstance := make(map[string]targetStatus)
	for _, j := range page.Jobs {
		for _, s := range j.Targets {
			byInstance[s.Labels["instance"]] = s
		}
	}
	return byInstance, nil
}

// P29, S9, S10: targets that answer badly have up 0, a reason in the status and a counter;
// the healthy target beside them loses no scrape and is scraped on time, and memory stays
// bounded.
func TestBadTargetsDisturbNobody(t *testing.T) {
	t.Parallel()
	mimir := kit.StartMetrics(t, kit.MetricsConfig{})
	reasons := map[kit.Mode][]string{
		kit.ModeGarbage:      {"parse"},
		kit.ModeHTML:         {"content_type", "parse"},
		kit.ModeError:        {"status"},
		kit.ModeEndless:      {"body_size_limit", "timeout"}, // whichever comes first
		kit.ModeSlow:         {"timeout"},
		kit.ModeHang:         {"timeout"},
		kit.ModeRedirectLoop: {"redirect"},
		kit.ModeGzipBomb:     {"body_size_limit", "encoding", "timeout"},
		kit.ModeTruncated:    {"network"},
		kit.ModeLabels:       {"body_size_limit", "timeout", "labels", "label_limit", "parse"},
		kit.ModeSeries:       {"body_size_limit", "timeout"},
	}
	want := make(map[string][]string) // by instance
	var jobs []string
	for mode, reason := range reasons {
		bad := kit.StartTarget(t, 3)
		bad.SetMode(mode)
		want[bad.Addr()] = reason
		jobs = append(jobs, scrapeJob(fmt.Sprintf("%q", mode), []*kit.Target{bad}, "body_size_limit: 4MiB"))
	}
	gone := kit.StartTarget(t, 1)
	gone.Down()
	want[gone.Addr()] = []string{"connection_refused"}
	jobs = append(jobs, scrapeJob("gone", []*kit.Target{gone}))
	slices.Sort(jobs)
	healthy := targets(t, 1, 5)
	jobs = append(jobs, scrapeJob("healthy", healthy))
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{prometheusTo("metrics", mimir.PushURL())}, jobs)})

	if err := healthy[0].WaitScrapes(t.Context(), soon, 10); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, soon, "the status of every target", func() error {
		have, err := targetStatuses(p)
		if err != nil {
			return err
		}
		for instance, reason := range want {
			s := have[instance]
			if s.Health != "down" || !slices.Contains(reason, s.Reason) || s.Error == "" {
				return fmt.Errorf("%+v, want down for one of %v", s, reason)
			}
			// The counter has the same reason, up is always 0 and no sample came through.
			job := s.Labels["job"]
			if n, err := p.Metric(fmt.Sprintf("ingot_scrape_failures_total{job=%q,reason=%q}", job, s.Reason)); err != nil || n == 0 {
				return fmt.Errorf("job %s: %g failures counted as %s (%w)", job, n, s.Reason, err)
			}
			up := mimir.Series("", fmt.Sprintf("up{instance=%q}", instance))
			if len(up) != 1 || slices.ContainsFunc(up[0].Samples, func(s kit.Sample) bool { return s.V != 0 }) {
				return fmt.Errorf("job %s: up is %+v, want zeros", job, up)
			}
		}
		if s := have[healthy[0].Addr()]; s.Health != "up" || s.Error != "" {
			return fmt.Errorf("healthy target: %+v", s)
		}
		return nil
	})
	for instance := range want {
		for _, name := range []string{"seq", "endless", "labels", "series_1"} {
			if came := mimir.Series("", fmt.Sprintf("%s{instance=%q}", name, instance)); len(came) > 0 {
				t.Errorf("samples of a failed scrape came through: %v", came[0].Labels)
			}
		}
	}

	waitScrapes(t, healthy, mimir, before(time.Now()))
	served := healthy[0].Served()
	worst := time.Duration(0)
	for i := 1; i < len(served); i++ {
		worst = max(worst, served[i].Began.Sub(served[i-1].Began))
	}
	t.Logf("%d scrapes of the healthy target, longest pause %s", len(served), worst.Round(time.Millisecond))
	// If the others held it up it would be by their timeouts, one after the other.
	if most := 5 * interval; worst > most+margin {
		t.Errorf("the healthy target was left alone for %s, want at most %s", worst, most)
	}
	if rss, err := p.Metric("process_resident_memory_bytes"); err != nil || rss > 256<<20 {
		t.Errorf("resident memory %.0f MiB (%v), want at most 256", rss/(1<<20), err)
	}
	waitBalance(t, p)
}

// A target that behaves badly for a while comes back by itself.
func TestBadTargetRecovers(t *testing.T) {
	t.Parallel()
	mimir := kit.StartMetrics(t, kit.MetricsConfig{})
	all := targets(t, 1, 2)
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL())}, []string{scrapeJob("app", all)},
	)})
	for _, step := range []struct {
		mode           kit.Mode
		health, reason string
	}{{kit.ModeHonest, "up", ""}, {kit.ModeHang, "down", "timeout"}, {kit.ModeGarbage, "down", "parse"}, {kit.ModeHonest, "up", ""}} {
		all[0].SetMode(step.mode)
		kit.Eventually(t, soon, "health in mode "+string(step.mode), func() error {
			have, err := targetStatuses(p)
			if s := have[all[0].Addr()]; err != nil || s.Health != step.health || s.Reason != step.reason {
				return fmt.Errorf("%+v (%w), want %s %s", s, err, step.health, step.reason)
			}
			return nil
		})
	}
	waitScrapes(t, all, mimir, before(time.Now()))
}

// P29: a bomb of 10 GiB, an endless body, ten million labels and ten million series, each
// under the limits that Ingot has by default: 64 MiB of memory more at most, and the
// neighbours are scraped as if nothing were.
//
// It runs alone: whether a neighbour was held up cannot be told beside other tests that keep
// the processors busy.
func TestP29HostileTargetsCostLittleMemoryAndNobodyElse(t *testing.T) {
	for _, mode := range []kit.Mode{kit.ModeGzipBomb, kit.ModeEndless, kit.ModeLabels, kit.ModeSeries} {
		t.Run(string(mode), func(t *testing.T) { // One after the other: each keeps a processor busy.
			testHostile(t, mode)
		})
	}
}

func testHostile(t *testing.T, mode kit.Mode) {
	t.Helper()
	mimir := kit.StartMetrics(t, kit.MetricsConfig{})
	healthy, bad := targets(t, 2, 5), kit.StartTarget(t, 5)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{prometheusTo("metrics", mimir.PushURL())}, []string{
		scrapeJob("healthy", healthy), scrapeJob("bad", []*kit.Target{bad}, "scrape_interval: 4s", "scrape_timeout: 4s"),
	})})
	for _, target := range append(healthy, bad) {
		check(t, target.WaitScrapes(t.Context(), soon, 1))
	}
	first, began := peak(t, p), time.Now()
	bad.SetMode(mode)
	kit.Eventually(t, soon, "two hostile scrapes", func() error {
		n := 0
		for _, s := range bad.Served() {
			if s.Mode == mode && !s.Ended.IsZero() {
				n++
			}
		}
		if n < 2 {
			return fmt.Errorf("%d have ended", n)
		}
		return nil
	})
	var s targetStatus
	kit.Eventually(t, soon, "the state of the hostile target", func() error {
		have, err := targetStatuses(p)
		if s = have[bad.Addr()]; err != nil || s.Health != "down" || s.Reason == "" {
			return fmt.Errorf("%+v (%w)", s, err)
		}
		return nil
	})
	grown := peak(t, p) - first
	t.Logf("%s: the peak of resident memory grew by %d MiB; %s: %s", mode, grown>>20, s.Reason, s.Error)
	if grown > 64<<20 {
		t.Errorf("the peak of resident memory grew by %d MiB, want 64 at most", grown>>20)
	}
	waitScrapes(t, healthy, mimir, before(time.Now()))
	for i, target := range healthy {
		worst, last := time.Duration(0), began
		for _, s := range target.Served() {
			if s.Began.After(began) {
				worst, last = max(worst, s.Began.Sub(last)), s.Began
			}
		}
		if worst > 2*interval+margin {
			t.Errorf("healthy target %d was left alone for %s", i, worst)
		}
		up := mimir.Series("", fmt.Sprintf("up{instance=%q}", target.Addr()))
		if len(up) != 1 || slices.ContainsFunc(up[0].Samples, func(s kit.Sample) bool { return s.V != 1 }) {
			t.Errorf("up of healthy target %d is %+v, want ones", i, up)
		}
	}
	waitBalance(t, p)
}

// peak returns the most memory that the process has had, in bytes.
func peak(t *testing.T, p *kit.Process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			check(t, err)
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
