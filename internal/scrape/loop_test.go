package scrape

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/series"
)

func TestScrapesKeepPhaseAndIntervalAndAlignTimestamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("m 1\n")))
		untilScraped(t, r.ledger)
		time.Sleep(100 * time.Second)
		synctest.Wait()
		want := r.pools[0].anyTarget().phase().Truncate(time.Millisecond)
		batches := r.take()
		if len(batches) != 11 {
			t.Errorf("%d scrapes in 100s after the first, want 11", len(batches))
		}
		for i, b := range batches {
			if got := time.Duration(b[0].T%10_000) * time.Millisecond; got != want {
				t.Errorf("scrape %d is at phase %s, want %s", i, got, want)
			}
			if i > 0 && b[0].T-batches[i-1][0].T != 10_000 {
				t.Errorf("scrape %d is %dms after the one before, want 10000", i, b[0].T-batches[i-1][0].T)
			}
		}
		r.checkOrder(t)
		r.checkConservation(t)
	})
}

func (p *pool) anyTarget() *target {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.loops {
		return l.target
	}
	return nil
}

func TestAlignedTimeFollowsTheClock(t *testing.T) {
	base := time.Unix(1000, 0)
	f := func(now time.Time, want time.Time) {
		t.Helper()
		if got := nextAligned(base, now, 10*time.Second); !got.Equal(want) {
			t.Errorf("nextAligned(%s) = %s, want %s", now.Sub(base), got.Sub(base), want.Sub(base))
		}
	}
	f(base, base)
	f(base.Add(time.Millisecond), base)
	f(base.Add(10*time.Second), base.Add(10*time.Second))
	f(base.Add(39*time.Second), base.Add(30*time.Second))
	f(base.Add(-time.Millisecond), base)          // A clock corrected by a little keeps the grid.
	f(base.Add(-time.Hour), base.Add(-time.Hour)) // One that was wrong starts anew.
}

func TestScrapesThatAreALittleLateGetTheRegularTimestamp(t *testing.T) {
	base := time.Unix(1000, 0)
	f := func(interval, late, want time.Duration) {
		t.Helper()
		if got := timestamp(base, base.Add(late), interval).Sub(base); got != want {
			t.Errorf("a scrape each %s that is %s late gets the time +%s, want +%s", interval, late, got, want)
		}
	}
	f(10*time.Second, 2*time.Millisecond, 0)
	f(10*time.Second, 3*time.Millisecond, 3*time.Millisecond)
	f(10*time.Second, -time.Millisecond, 0)
	f(100*time.Millisecond, 2*time.Millisecond, 2*time.Millisecond) // At most 1 % of the interval.
	f(100*time.Millisecond, time.Millisecond, 0)
}

func TestScrapeThatTheStopCutsOffYieldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 10s, scrape_timeout: 10s}", newList("a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1"), answer(func(req *http.Request) (int, string) {
			<-req.Context().Done()
			return 200, "m 1\n"
		})))
		time.Sleep(12 * time.Second) // All of them are under way.
		synctest.Wait()
		r.take()
		r.stop()
		if b := r.take(); len(b) != 0 {
			t.Errorf("pushed %s at the stop, want nothing", brief(b[0]))
		}
	})
}

func TestClashingLabelsAreRenamedShortNamesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newList()
		source.setLabels(labels.FromStrings("__address__", "a:1", "x", "target", "exported_x", "target too"))
		r := run(t, DefaultConfig(), jobOf(t, job10s, source, script(`a{x="1",exported_x="2"} 1`+"\n")))
		untilScraped(t, r.ledger)
		want := "a{exported_exported_exported_x=2,exported_exported_x=1,exported_x=target too,x=target} 1"
		if got, _, _ := strings.Cut(brief(r.take()[0]), ";"); got != want {
			t.Errorf("series %s, want %s", got, want)
		}
	})
}

func TestTimestampsIncreaseWhenTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("m 1\n")))
		untilScraped(t, r.ledger)
		r.stop()
		l := r.pools[0].anyLoop()
		before := r.take()[0][0].T
		l.scrape(t.Context(), time.UnixMilli(before-300_000))
		l.scrape(t.Context(), time.UnixMilli(before-290_000))
		for i, b := range r.take() {
			if want := before + int64(i) + 1; b[0].T != want {
				t.Errorf("scrape %d after the step is at %d, want %d", i, b[0].T, want)
			}
		}
		r.checkOrder(t)
	})
}

func TestTimestampsFollowAClockThatWasFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("m 1\n")))
		untilScraped(t, r.ledger)
		r.stop()
		l := r.pools[0].anyLoop()
		right := r.take()[0][0].T
		l.scrape(t.Context(), time.UnixMilli(right).AddDate(10, 0, 0))
		r.take()
		for i := range int64(2) {
			at := right + 10_000*(i+1)
			l.scrape(t.Context(), time.UnixMilli(at))
			if got := r.take()[0][0].T; got != at {
				t.Errorf("scrape %d after the clock was mended is at %d, want %d", i, got, at)
			}
		}
	})
}

func (p *pool) anyLoop() *loop {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.loops {
		return l
	}
	return nil
}

func TestOneScrapeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most := 0, 0
		slow := answer(func(*http.Request) (int, string) {
			running++
			most = max(most, running)
			time.Sleep(4900 * time.Millisecond)
			running--
			return 200, "m 1\n"
		})
		r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 5s, scrape_timeout: 5s}", newList("a:1"), slow))
		untilScraped(t, r.ledger)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if most != 1 || len(r.take()) != 5 {
			t.Errorf("%d scrapes at once, want 1, and one each 5s", most)
		}
	})
}

// sequence runs a job of one target over the bodies and returns each batch in brief.
func sequence(t *testing.T, job string, bodies ...string) (all []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job, newList("a:1"), script(bodies...)))
		untilScraped(t, r.ledger)
		time.Sleep(time.Duration(len(bodies)-1) * 10 * time.Second)
		synctest.Wait()
		for _, b := range r.take() {
			all = append(all, brief(b))
		}
		r.stop()
		if extra := r.take(); len(extra) > 0 {
			t.Errorf("%d batches at the stop, want none: %s", len(extra), brief(extra[0]))
		}
		r.checkOrder(t)
		r.checkConservation(t)
	})
	return all
}

const reports = "scrape_samples_post_metric_relabeling P; scrape_samples_scraped S; scrape_series_added A; up U"

// rep writes the report series with their numbers, and others before or between them.
func rep(up, scraped, kept, added string, others ...string) string {
	s := strings.NewReplacer("labeling P", "labeling "+kept, "scraped S", "scraped "+scraped, "added A", "added "+added, "up U", "up "+up).Replace(reports)
	all := append(strings.Split(s, "; "), others...)
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func TestSeriesThatVanishAndFailedScrapesEndSeries(t *testing.T) {
	got := sequence(t, job10s, "a 1\nb{x=\"1\"} 2\n", "a 1\n", "500", "500", "a 3\nb{x=\"1\"} 4\n", "a 5\n<html>", "a 6\n", "", "a 7\n")
	want := []string{
		rep("1", "2", "2", "2", "a 1", "b{x=1} 2"),
		rep("1", "1", "1", "0", "a 1", "b{x=1} stale"),
		rep("0", "0", "0", "0", "a stale"),
		rep("0", "0", "0", "0"),
		rep("1", "2", "2", "1", "a 3", "b{x=1} 4"),
		rep("0", "1", "1", "0", "a stale", "b{x=1} stale"),
		rep("1", "1", "1", "0", "a 6"),
		rep("1", "0", "0", "0", "a stale"),
		rep("1", "1", "1", "0", "a 7"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestOwnTimestampsAreNeitherRepeatedNorEnded(t *testing.T) {
	// The fake clock starts in 2000; 946684000000 is shortly before.
	got := sequence(t, job10s, "a 1 946684000000\n", "a 1 946684000000\n", "a 2 946684001000\na 3 946684002000\n", "a 4 946684000500\n", "b 1\n", "a 5 946684002000\nb 1\n", "a 6 946684003000\n", "500")
	want := []string{
		rep("1", "1", "1", "1", "a 1"),
		rep("1", "1", "1", "0"),
		rep("1", "2", "2", "0", "a 2", "a 3"),
		rep("1", "1", "1", "0"),
		rep("1", "1", "1", "1", "b 1"),
		rep("1", "2", "2", "1", "b 1"),
		rep("1", "1", "1", "0", "a 6", "b stale"),
		rep("0", "0", "0", "0"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestOwnTimestampsEndSeriesWhenTracked(t *testing.T) {
	got := sequence(t, "{job_name: j, scrape_interval: 10s, track_timestamps_staleness: true}", "a 1 946684000000\n", "a 1 946684000000\n", "b 1\n", "a 1 946684000000\n", "a 1 946684000000\n<", "a 2 4000000000000\n")
	want := []string{
		rep("1", "1", "1", "1", "a 1"),
		rep("1", "1", "1", "0"),
		rep("1", "1", "1", "1", "a stale", "b 1"),
		rep("1", "1", "1", "0", "b stale"), // Older than the marker.
		rep("0", "1", "1", "0"),
		rep("1", "1", "1", "0"), // In the year 2096: too far ahead.
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestOwnTimestampsAreNotOlderThanSamplesWithoutOne(t *testing.T) {
	// The target gets its timestamps later, and they are older than its last scrape.
	got := sequence(t, job10s, "a 1\nb 1\n", "a 2 946684000000\nb 2\n", "a 3 946685000000\nb 3 946684000000\n", "b 4\nc 1 946684000000\n")
	want := []string{
		rep("1", "2", "2", "2", "a 1", "b 1"),
		rep("1", "2", "2", "0", "a stale", "b 2"),
		rep("1", "2", "2", "0", "a 3", "b stale"),
		rep("1", "2", "2", "1", "b 4", "c 1"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestTimestampsAreIgnoredWithoutHonorTimestamps(t *testing.T) {
	got := sequence(t, "{job_name: j, scrape_interval: 10s, honor_timestamps: false}", "a 1 1\n", "a 1 1\n", "b 1\n")
	want := []string{rep("1", "1", "1", "1", "a 1"), rep("1", "1", "1", "0", "a 1"), rep("1", "1", "1", "1", "a stale", "b 1")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestFailedScrapeDoesNotUseUpOwnTimestamps(t *testing.T) {
	got := sequence(t, job10s, "a 1 946684000000\n<", "a 1 946684000000\n")
	want := []string{rep("0", "1", "1", "1"), rep("1", "1", "1", "0", "a 1")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestLinesOfOneSeriesCountOnce(t *testing.T) {
	got := sequence(t, job10s, "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\nup 7\n", "a{y=\"2\",x=\"1\"} 4\n", "a{x=\"1\",y=\"2\"} 5\nb 1\n")
	want := []string{
		rep("1", "4", "4", "2", "a{x=1,y=2} 1"),
		rep("1", "1", "1", "0", "a{x=1,y=2} 4"),
		rep("1", "2", "2", "2", "a{x=1,y=2} 5", "b 1"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestBucketLabelsFollowTheTypeInForce(t *testing.T) {
	h := "h_bucket{le=\"1\"} 1\n"
	got := sequence(t, job10s, h, "# TYPE h histogram\n"+h, h)
	want := []string{
		rep("1", "1", "1", "1", "h_bucket{le=1} 1"),
		rep("1", "1", "1", "0", "h_bucket{le=1} stale", "h_bucket{le=1.0} 1"),
		rep("1", "1", "1", "0", "h_bucket{le=1} 1", "h_bucket{le=1.0} stale"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestLimitsFailTheScrapeAsAWhole(t *testing.T) {
	f := func(limit, body, reason, text string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 10s, "+limit+"}", newList("a:1"), script(body)))
			untilScraped(t, r.ledger)
			for _, b := range r.take() {
				if got := brief(b); !strings.HasPrefix(got, "scrape_samples_post") || !strings.HasSuffix(got, "up 0") {
					t.Errorf("%s: batch %s, want report series only", limit, got)
				}
			}
			if st := r.target(t); st.Health != HealthDown || st.Reason != reason || st.Error != text {
				t.Errorf("%s: status %s, reason %s:\n got %s\nwant %s", limit, st.Health, st.Reason, st.Error, text)
			}
			r.checkConservation(t)
		})
	}
	f("sample_limit: 2", "a 1\nb 1\nc 1\nd 1\n", "sample_limit", "sample_limit exceeded: the target has 4 samples after relabelling, limit is 2")
	f("label_limit: 3", "a{b=\"c\"} 1\n", "label_limit", `label_limit exceeded: a series of "a" has 4 labels, limit is 3`)
	f("label_limit: 3", "a{"+strings.Repeat("b=\"c\",", 100)+"} 1\n", "label_limit", `label_limit exceeded: a series of "a" has 101 labels, limit is 3`)
	f("label_name_length_limit: 8", "a{b23456789=\"c\"} 1\n", "label_limit", `label_name_length_limit exceeded: label "b23456789" of "a" has 9 bytes, limit is 8`)
	f("label_value_length_limit: 3", "a{b=\"1234\"} 1\n", "label_limit", `label_value_length_limit exceeded: the value of "b" of "a" has 4 bytes, limit is 3`)
	f("body_size_limit: 10B", "a 1234567890\n", "body_size_limit", "body_size_limit exceeded: the response has more than 10B")
	f("target_limit: 0", "a{b=\"1\",b=\"2\"} 1\n", "labels", `a series of "a" has label "b" twice`)
	f("metric_name_validation_scheme: legacy", `{"a.b"} 1`+"\n", "labels", `a metric or label name is not valid: {__name__="a.b", instance="a:1", job="j"}`)
	f("metric_relabel_configs: [{action: labeldrop, regex: __name__}]", "a 1\n", "labels", "a series has no metric name after metric_relabel_configs")
}

func TestTargetLimitFailsAllTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newList("a:1", "b:1", "c:1")
		r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 10s, target_limit: 2}", source, script("m 1\n")))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		st := r.Status().Jobs[0]
		if st.Error != "target_limit exceeded: the job has 3 targets, limit is 2" || len(st.Targets) != 3 {
			t.Errorf("status %+v, want an error and three targets", st)
		}
		for _, s := range st.Targets {
			if s.Reason != "target_limit" {
				t.Errorf("%s has reason %q, want target_limit", s.URL, s.Reason)
			}
		}
		source.set("a:1", "b:1")
		time.Sleep(21 * time.Second)
		synctest.Wait()
		for _, s := range r.Status().Jobs[0].Targets {
			if s.Health != HealthUp {
				t.Errorf("%s is %s after the list shrank, want up", s.URL, s.Health)
			}
		}
	})
}

func TestTargetThatIsGoneEndsAfterTwoIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newList("a:1")
		r := run(t, DefaultConfig(), jobOf(t, job10s, source, script("m 1\n")))
		untilScraped(t, r.ledger)
		last := r.take()[0][0].T
		source.set()
		time.Sleep(20900 * time.Millisecond)
		synctest.Wait()
		if b := r.take(); len(b) != 0 {
			t.Fatalf("pushed %s before two intervals and a bit were over", brief(b[0]))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		b := r.take()
		if len(b) != 1 {
			t.Fatalf("%d batches, want one of stale markers", len(b))
		}
		want := "m stale; scrape_samples_post_metric_relabeling stale; scrape_samples_scraped stale; scrape_series_added stale; up stale"
		if got := brief(b[0]); got != want {
			t.Errorf("batch %s, want %s", got, want)
		}
		if got := b[0][0].T - last; got != 10_000 {
			t.Errorf("markers are %dms after the last scrape, want 10000", got)
		}
	})
}

func TestTargetThatComesBackContinuesItsSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newList("a:1")
		r := run(t, DefaultConfig(), jobOf(t, job10s, source, script("a 1\nb 1\n", "a 2\n")))
		untilScraped(t, r.ledger)
		r.take()
		source.set()
		time.Sleep(5 * time.Second)
		source.set("a:1")
		time.Sleep(40 * time.Second)
		synctest.Wait()
		b := r.take()
		if got, want := brief(b[0]), rep("1", "1", "1", "1", "a 2", "b stale"); got != want {
			t.Errorf("first batch after the return:\n got %s\nwant %s", got, want)
		}
		for _, batch := range b[1:] {
			if got, want := brief(batch), rep("1", "1", "1", "0", "a 2"); got != want {
				t.Errorf("later batch:\n got %s\nwant %s", got, want)
			}
		}
		r.checkOrder(t)
	})
}

func TestTargetThatMovesContinuesItsSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(address string) labels.Labels {
			return labels.FromStrings("__address__", address, "instance", "db")
		}
		source := newList()
		source.setLabels(at("a:1"))
		r := run(t, DefaultConfig(), jobOf(t, job10s, source, script("a 1\nb 1\n", "a 2\n")))
		untilScraped(t, r.ledger)
		source.setLabels(at("b:1"))
		time.Sleep(60 * time.Second)
		synctest.Wait()
		stale := 0
		for _, b := range r.take() {
			stale += strings.Count(brief(b), "stale")
		}
		if stale != 1 {
			t.Errorf("%d stale markers, want one for the series that the new place does not have", stale)
		}
		r.checkOrder(t)
	})
}

func TestTargetWithATwinLeavesItsSeriesToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(address string) labels.Labels {
			return labels.FromStrings("__address__", address, "instance", "db")
		}
		bodies := answer(func(req *http.Request) (int, string) {
			if req.URL.Host == "a:1" {
				return 200, "a 1 1\nonly_a 1\nboth 1\n"
			}
			return 200, "both 1\n"
		})
		source := newList()
		source.setLabels(at("a:1"))
		r := run(t, DefaultConfig(), jobOf(t, job10s, source, bodies))
		untilScraped(t, r.ledger)
		source.setLabels(at("a:1"), at("b:1"))
		time.Sleep(30 * time.Second)
		source.setLabels(at("b:1"))
		time.Sleep(60 * time.Second)
		synctest.Wait()
		var ended []string
		for _, b := range r.take() {
			for entry := range strings.SplitSeq(brief(b), "; ") {
				if strings.HasSuffix(entry, " stale") {
					ended = append(ended, entry)
				}
			}
		}
		if diff := cmp.Diff([]string{"only_a stale"}, ended); diff != "" {
			t.Errorf("stale markers (-want +got):\n%s", diff)
		}
	})
}

func TestRefusedBatchIsShownAndLosesNoMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("a 1\nb 1 946684000000\n", "a 1\n", "b 1 946684000000\n", "b 1 946684000000\n")))
		untilScraped(t, r.ledger)
		r.take()
		r.setRefuse(errRefused)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if st := r.target(t); st.PushError != errRefused.Error() || st.Health != HealthUp {
			t.Errorf("status %+v, want up with a push error", st)
		}
		r.setRefuse(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got, want := brief(r.take()[0]), rep("1", "1", "1", "0", "a stale"); got != want {
			t.Errorf("first batch that was taken:\n got %s\nwant %s", got, want)
		}
		if n := r.metric(t, "ingot_scrape_samples_dropped_total", "reason", "push_failed"); n != 1 {
			t.Errorf("%v samples counted as push_failed, want 1", n)
		}
		r.checkConservation(t)
		r.checkOrder(t)
	})
}

func TestPanicIsAFailedScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), answer(func(*http.Request) (int, string) {
			if n++; n == 2 {
				panic("transport")
			}
			return 200, "a 1\n"
		})))
		untilScraped(t, r.ledger)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := r.target(t); st.Reason != "panic" {
			t.Errorf("status %+v, want down by a panic", st)
		}
		if got, want := brief(r.take()[1]), rep("0", "0", "0", "0", "a stale"); got != want {
			t.Errorf("batch %s, want %s", got, want)
		}
		// A table that cannot be makes parsing itself panic.
		r.shared.scheduler.mu.Lock() // A loop that waits is the scheduler's.
		r.pools[0].anyLoop().table = &series.Table{}
		r.shared.scheduler.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got, want := brief(r.take()[0]), rep("0", "0", "0", "0"); got != want {
			t.Errorf("batch %s, want %s", got, want)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := r.target(t); st.Health != HealthUp {
			t.Errorf("status %+v after the panics, want up", st)
		}
	})
}

func TestReportSeriesAreRelabelledOnDemandOnly(t *testing.T) {
	for _, on := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			j := jobOf(t, "{job_name: j, scrape_interval: 10s, metric_relabel_configs: [{source_labels: [__name__], regex: 'up|keep', action: keep}]}", newList("a:1"), script("keep 1\ndrop 1\n"))
			j.RelabelReports = on
			r := run(t, DefaultConfig(), j)
			untilScraped(t, r.ledger)
			want := rep("1", "2", "1", "1", "keep 1")
			if on {
				want = "keep 1; up 1"
			}
			if got := brief(r.take()[0]); got != want {
				t.Errorf("with RelabelReports %v: batch %s, want %s", on, got, want)
			}
			r.checkConservation(t)
		})
	}
}

func TestExtraScrapeMetrics(t *testing.T) {
	got := sequence(t, "{job_name: j, scrape_interval: 10s, extra_scrape_metrics: true, body_size_limit: 5B, sample_limit: 9}", "a 1\n", "a 12345\n")
	extra := func(size string) []string {
		return []string{"scrape_timeout_seconds 10", "scrape_sample_limit 9", "scrape_body_size_bytes " + size}
	}
	want := []string{rep("1", "1", "1", "1", append(extra("4"), "a 1")...), rep("0", "0", "0", "0", append(extra("-1"), "a stale")...)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("a 1\na 2\n", "500")))
		untilScraped(t, r.ledger)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		lint(t, r.reg)
		twins := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("a 1\n")), jobOf(t, job10s, newList("b:1"), script("a 1\n")))
		time.Sleep(time.Second)
		if n := twins.metric(t, "ingot_scrape_targets", "job", "j"); n != 2 {
			t.Errorf("%v targets of two jobs with one name, want 2", n)
		}
		if n := r.metric(t, "ingot_scrape_targets", "state", "down"); n != 1 {
			t.Errorf("%v targets down, want 1", n)
		}
		if n := r.metric(t, "ingot_scrape_samples_dropped_total", "reason", "duplicate"); n != 1 {
			t.Errorf("%v duplicates, want 1", n)
		}
		r.checkConservation(t)
	})
}

// TestSeriesThatWereLeftToATwinEndWithIt has a twin that is gone before it has answered.
func TestSeriesThatWereLeftToATwinEndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(address string) labels.Labels {
			return labels.FromStrings("__address__", address, "instance", "db")
		}
		source := newList()
		source.setLabels(at("a:1"))
		r := run(t, DefaultConfig(), jobOf(t, job10s, source, answer(func(req *http.Request) (int, string) {
			if req.URL.Host == "a:1" {
				return 200, "a 1\n"
			}
			return 500, ""
		})))
		untilScraped(t, r.ledger)
		source.setLabels(at("a:1"), at("b:1"))
		time.Sleep(15 * time.Second) // Both are scraped, so that neither continues the other.
		source.setLabels(at("b:1"))
		time.Sleep(60 * time.Second)
		r.take()
		source.setLabels()
		time.Sleep(60 * time.Second)
		synctest.Wait()
		all := r.take()
		if want, got := rep("stale", "stale", "stale", "stale", "a stale"), brief(all[len(all)-1]); got != want {
			t.Errorf("the last batch is %s, want %s", got, want)
		}
		r.checkOrder(t)
	})
}

// TestRefusedBatchKeepsWhatATwinHasLeft has a sink that refuses the batch with the markers.
func TestRefusedBatchKeepsWhatATwinHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("a 1\n")))
		untilScraped(t, r.ledger)
		r.stop()
		r.take()
		l := r.pools[0].anyLoop()
		l.inherit([]model.Labels{model.NewLabels(model.Label{Name: "__name__", Value: "left"})})
		r.setRefuse(errRefused)
		l.scrape(t.Context(), time.Now())
		r.setRefuse(nil)
		l.scrape(t.Context(), time.Now())
		l.scrape(t.Context(), time.Now())
		var got []string
		for _, b := range r.take() {
			got = append(got, brief(b))
		}
		up := rep("1", "1", "1", "0", "a 1")
		if diff := cmp.Diff([]string{"a 1; left stale; " + strings.TrimPrefix(up, "a 1; "), up}, got); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}
