package scrape

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// bodyOf answers each scrape with what next returns.
func bodyOf(contentType string, next func(n int) string) http.RoundTripper {
	var n atomic.Int64
	return transport(func(req *http.Request) (*http.Response, error) {
		text := next(int(n.Add(1)) - 1)
		return respond(req, contentType, io.NopCloser(strings.NewReader(text))), nil
	})
}

// many returns n lines of one family, about 60 bytes each.
func many(n int, from int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "requests_total{handler=\"/api/v1/some/handler\",id=\"%08d\"} %d\n", from+i, i)
	}
	return b.String()
}

func TestBodyLargerThanTheWindowIsOneTransactionOfSmallBatches(t *testing.T) {
	const n = 20_000 // About 1.2 MB.
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), bodyOf("text/plain", func(int) string { return many(n, 0) })))
		untilScraped(t, r.ledger)
		b := r.take()
		if len(b) != 1 || len(b[0]) != n+5 {
			t.Fatalf("%d transactions, the first of %d samples, want one of %d", len(b), len(b[0]), n+5)
		}
		for i, s := range b[0][:n] {
			if s.V != float64(i) || s.Labels.Get("id") != fmt.Sprintf("%08d", i) || s.T != b[0][0].T {
				t.Fatalf("sample %d is %s %v at %d", i, s.Labels, s.V, s.T)
			}
		}
		if r.chunks < n/chunkSamples || r.largest > chunkSamples {
			t.Errorf("%d batches, the largest of %d samples, want at most %d in each", r.chunks, r.largest, chunkSamples)
		}
		r.checkOrder(t)
		r.checkConservation(t)
	})
}

func TestLongLabelsEndABatchByItsBytes(t *testing.T) {
	const n = 40
	long := strings.Repeat("x", 30_000)
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), bodyOf("text/plain", func(int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "m{i=\"%d\",long=%q} 1\n", i, long)
			}
			return b.String()
		})))
		untilScraped(t, r.ledger)
		if b := r.take(); len(b[0]) != n+5 || r.largest > 1+chunkBytes/30_000 && r.largest > 10 {
			t.Errorf("%d samples in batches of up to %d, want %d in batches of about %d bytes", len(b[0]), r.largest, n+5, chunkBytes)
		}
	})
}

// cutOff is a body that ends with an error.
type cutOff struct{ io.Reader }

func (c cutOff) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("connection reset")
	}
	return n, err
}

func (cutOff) Close() error { return nil }

func TestFailureInTheMiddleOfALargeBodyLeavesNothing(t *testing.T) {
	const n = 20_000
	for name, broken := range map[string]func(req *http.Request) (*http.Response, error){
		"garbage": func(req *http.Request) (*http.Response, error) {
			return respond(req, "text/plain", io.NopCloser(strings.NewReader(many(n, n/2)+"<html>"))), nil
		},
		"cut off": func(req *http.Request) (*http.Response, error) {
			return respond(req, "text/plain", cutOff{strings.NewReader(many(n, n/2))}), nil
		},
		"timeout": func(req *http.Request) (*http.Response, error) {
			return respond(req, "text/plain", &stuck{req.Context(), strings.NewReader(many(n, n/2))}), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var scrapes atomic.Int64
				r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), transport(func(req *http.Request) (*http.Response, error) {
					if scrapes.Add(1) == 2 {
						return broken(req)
					}
					return respond(req, "text/plain", io.NopCloser(strings.NewReader(many(n, 0)))), nil
				})))
				untilScraped(t, r.ledger)
				time.Sleep(25 * time.Second)
				synctest.Wait()
				b := r.take()
				if len(b) != 3 || r.rolled != 1 {
					t.Fatalf("%d transactions and %d that were rolled back, want 3 and 1", len(b), r.rolled)
				}
				text := brief(b[1])
				if len(b[1]) != n+5 || strings.Count(text, " stale") != n || !strings.Contains(text, "handler=/api/v1/some/handler,id=00000000} stale") || !strings.HasSuffix(text, "up 0") {
					t.Errorf("the failed scrape yields %d samples, of which %d are stale markers, want %d markers and the report", len(b[1]), strings.Count(text, " stale"), n)
				}
				if len(b[2]) != n+5 || !strings.HasSuffix(brief(b[2]), "up 1") {
					t.Errorf("the scrape after it yields %d samples, want %d", len(b[2]), n+5)
				}
				r.checkOrder(t)
				r.checkConservation(t)
			})
		})
	}
}

func TestMemoryPressureShedsNewSeriesFirstThenScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var level atomic.Int64
		r := &running{ledger: &ledger{}}
		r.reg = prometheus.NewPedanticRegistry()
		job := jobOf(t, job10s, newList("a:1"), script("a 1\n", "a 2\nb 1\n", "a 3\nb 2\n", "a 4\nb 3\n"))
		r.start(t, DefaultConfig(), Options{Pressure: func() int { return int(level.Load()) }}, job)
		untilScraped(t, r.ledger)
		level.Store(pressureTight)
		time.Sleep(10 * time.Second)
		level.Store(pressureCritical)
		time.Sleep(10 * time.Second)
		level.Store(0)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var got []string
		for _, b := range r.take() {
			got = append(got, brief(b))
		}
		want := []string{
			rep("1", "1", "1", "1", "a 1"),
			rep("1", "2", "1", "0", "a 2"),
			rep("0", "0", "0", "0", "a stale"),
			rep("1", "2", "2", "1", "a 3", "b 2"),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		if n := r.metric(t, "ingot_scrape_samples_dropped_total", "reason", "memory"); n != 1 {
			t.Errorf("%v samples counted as dropped for memory, want 1", n)
		}
		if n := r.metric(t, "ingot_scrape_failures_total", "reason", "memory"); n != 1 {
			t.Errorf("%v failures counted as memory, want 1", n)
		}
		r.checkConservation(t)
	})
}

func TestExternalLabelsYieldToThoseOfTheSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newList()
		source.setLabels(labels.FromStrings("__address__", "a:1", "zone", "target"))
		r := &running{ledger: &ledger{}, reg: prometheus.NewPedanticRegistry()}
		external := model.NewLabels(model.Label{Name: "cluster", Value: "c"}, model.Label{Name: "zone", Value: "z"}, model.Label{Name: "Region", Value: "r"})
		r.start(t, DefaultConfig(), Options{External: external}, jobOf(t, job10s, source, script("a 1\na{cluster=\"own\"} 2\n", "")))
		untilScraped(t, r.ledger)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b := r.take()
		for k, batch := range b {
			for _, s := range batch {
				cluster := "c"
				if k == 0 && s.V == 2 && s.Labels.Get("__name__") == "a" || k == 1 && s.Labels.Get("cluster") == "own" && s.Labels.Get("__name__") == "a" {
					cluster = "own"
				}
				want := model.NewLabels(model.Label{Name: "__name__", Value: s.Labels.Get("__name__")}, model.Label{Name: "Region", Value: "r"}, model.Label{Name: "cluster", Value: cluster},
					model.Label{Name: "instance", Value: "a:1"}, model.Label{Name: "job", Value: "j"}, model.Label{Name: "zone", Value: "target"})
				if s.Labels != want {
					t.Errorf("scrape %d has %s, want %s", k, s.Labels, want)
				}
			}
		}
		if got, want := strings.Count(brief(b[1]), " stale"), 2; got != want {
			t.Errorf("%d stale markers, want %d", got, want)
		}
	})
}

func TestExemplarsAreHandedOnOnce(t *testing.T) {
	const head = "# TYPE req counter\n"
	line := func(v int, exemplar string) string {
		return fmt.Sprintf(head+"req_total %d # %s\n# EOF\n", v, exemplar)
	}
	bodies := []string{
		line(1, `{trace_id="one"} 0.5`),
		line(2, `{trace_id="one"} 0.5`),
		line(3, `{trace_id="two",span_id="s"} 0.7 946684000.5`) + "<", // Fails behind the end of the exposition.
		line(4, `{trace_id="two",span_id="s"} 0.7 946685000.5`),
		line(5, `{trace_id="old"} 0.7 946684000.5`),
		line(6, `{trace_id="`+strings.Repeat("x", 200)+`"} 0.7 946686000`),
		head + "req_total 7\n# EOF\n",
	}
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), bodyOf("application/openmetrics-text; version=1.0.0", func(n int) string { return bodies[min(n, len(bodies)-1)] })))
		untilScraped(t, r.ledger)
		time.Sleep(time.Duration(len(bodies)-1) * 10 * time.Second)
		synctest.Wait()
		var got []string
		for _, b := range r.take() {
			text := ""
			for _, s := range b {
				for _, e := range s.Exemplars {
					text += fmt.Sprintf("%s %v %v", e.Labels, e.V, e.T-b[0].T)
				}
			}
			got = append(got, text)
		}
		want := []string{`{trace_id="one"} 0.5 0`, "", "", "", "", "", ""}
		for i, b := range got {
			if i == 3 && strings.HasPrefix(b, `{span_id="s", trace_id="two"} 0.7 `) {
				got[i] = ""
				want = append(want, "two")
				got = append(got, "two")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("exemplars (-want +got):\n%s", diff)
		}
		for reason, n := range map[string]float64{"duplicate": 1, "out_of_order": 1, "invalid": 1} {
			if got := r.metric(t, "ingot_scrape_exemplars_dropped_total", "reason", reason); got != n {
				t.Errorf("%v exemplars dropped as %s, want %v", got, reason, n)
			}
		}
		if n := r.metric(t, "ingot_scrape_exemplars_pushed_total"); n != 2 {
			t.Errorf("%v exemplars pushed, want 2", n)
		}
		r.checkConservation(t)
	})
}

func TestExemplarsOfAFailedScrapeAreNotTakenForSent(t *testing.T) {
	const body = "# TYPE req counter\nreq_total 1 # {trace_id=\"one\"} 0.5\n"
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), bodyOf("application/openmetrics-text", func(n int) string {
			return body + []string{"", "# EOF\n"}[min(n, 1)] // The first one has no end, which is an error.
		})))
		untilScraped(t, r.ledger)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		var got []int
		for _, b := range r.take() {
			got = append(got, len(b[0].Exemplars))
		}
		if diff := cmp.Diff([]int{0, 1, 0}, got); diff != "" {
			t.Errorf("exemplars in each scrape (-want +got):\n%s", diff)
		}
	})
}

func TestMetadataComesWithTheSamplesOfAFamily(t *testing.T) {
	body := `# HELP a_total All a.
# TYPE a_total counter
a_total 1
a_total{x="1"} 2
stray 3
stray{x="1"} 3
a_total{x="2"} 3
# TYPE b histogram
# HELP b All \\b.
b_bucket{le="+Inf"} 1
b_sum 1
b_count 1
b_other 1
# HELP {"u.n"} Quoted.
{"u.n",x="1"} 1
{"u.n",x="2"} 1
{"u.m",x="1"} 1
{"u.n",x="3"} 1
plain 1
`
	body = strings.Replace(body, `# HELP {"u.n"} Quoted.`, `# HELP "u.n" Quoted.`, 1) + "# HELP c Long.\n" + strings.ReplaceAll(many(2*chunkSamples, 0), "requests_total", "c")
	changed := strings.Replace(body, "All a.", "All of a.", 1)
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), bodyOf("text/plain", func(n int) string { return []string{body, body, changed}[min(n, 2)] })))
		untilScraped(t, r.ledger)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		a := model.Metadata{Family: "a_total", Type: "counter", Help: "All a."}
		b := model.Metadata{Family: "b", Type: "histogram", Help: `All \b.`}
		u := model.Metadata{Family: "u.n", Type: "unknown", Help: "Quoted."}
		want := []model.Metadata{a, a, {}, {}, {}, b, b, b, {}, u, u, {}, {}, {}}
		for i, batch := range r.take() {
			if i == 2 {
				want[0].Help, want[1].Help = "All of a.", "All of a."
			}
			var got []model.Metadata
			for _, s := range batch[:len(want)] {
				got = append(got, s.Family)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("scrape %d (-want +got):\n%s", i, diff)
			}
			for _, s := range batch[len(want) : len(want)+2*chunkSamples] {
				if s.Family != (model.Metadata{Family: "c", Type: "unknown", Help: "Long."}) {
					t.Fatalf("scrape %d: %s has the metadata %+v", i, s.Labels, s.Family)
				}
			}
			if s := batch[len(batch)-1]; s.Family != (model.Metadata{}) {
				t.Errorf("scrape %d: %s has the metadata %+v", i, s.Labels, s.Family)
			}
		}
	})
}

func TestFamiliesThatChangePlacesKeepTheirStrings(t *testing.T) {
	var known families
	r := familyReader{}
	s := newShared(DefaultConfig(), nil, Options{})
	r.seed = s.seed
	read := func(names ...string) {
		r.begin(&known)
		var b model.Batch
		for _, name := range names {
			r.name, r.help, r.open, r.resolved, r.placed = []byte(name), []byte("help of "+name), true, false, 0
			if n := r.place(&b, []byte(name)); b.Metadata[n-1].Family != name || b.Metadata[n-1].Help != "help of "+name {
				t.Fatalf("%s has the metadata %+v", name, b.Metadata[n-1])
			}
		}
		r.settle()
		r.end()
		if len(known.known) != len(names) {
			t.Errorf("%d families are known after %v", len(known.known), names)
		}
	}
	read("a", "b", "c", "d")
	read("c", "a", "b", "d")
	read("d", "a")
	read("x", "a", "d")
	if allocs := testing.AllocsPerRun(5, func() {
		r.begin(&known)
		var b model.Batch
		b.Metadata = make([]model.Metadata, 0, 4)
		r.name, r.help, r.open, r.resolved, r.placed = append(r.name[:0], 'x'), append(r.help[:0], "help of x"...), true, false, 0
		r.place(&b, r.name)
	}); allocs > 1 {
		t.Errorf("%v allocations for metadata that is known, want only the batch", allocs)
	}
}

func TestNativeHistogramsAndStartTimesComeThrough(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "H.", NativeHistogramBucketFactor: 1.1, Buckets: []float64{1}})
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total", Help: "C."})
	reg.MustRegister(h, c)
	h.(prometheus.ExemplarObserver).ObserveWithExemplar(3, prometheus.Labels{"trace_id": "t"})
	c.Inc()
	address := serve(t, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP)
	f := func(job string, want string, native bool) {
		t.Helper()
		s := newSingle(t, DefaultConfig(), job, address)
		s.scrape(t.Context(), time.Now())
		b := s.take()
		var names []string
		for _, sample := range b[0] {
			name := sample.Labels.Get("__name__")
			if strings.HasPrefix(name, "scrape_") || name == "up" {
				continue
			}
			names = append(names, name)
			if isNative := sample.Histogram != ""; isNative != (native && name == "h") {
				t.Errorf("%s: %s is a native histogram: %v", job, name, isNative)
			}
			if ago := time.Since(time.UnixMilli(sample.Start)); native && (ago < -time.Second || ago > time.Minute) {
				t.Errorf("%s: %s began %s ago, want now", job, name, ago)
			}
			if native && name == "h" && sample.Family != (model.Metadata{Family: "h", Type: "histogram", Help: "H."}) {
				t.Errorf("%s: %s has the metadata %+v", job, name, sample.Family)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: series %s, want %s; status %+v", job, got, want, s.status())
		}
		s.r.checkConservation(t)
	}
	f("{job_name: j, scrape_native_histograms: true}", "c_total h", true)
	f("{job_name: j, scrape_native_histograms: true, always_scrape_classic_histograms: true}", "c_total h h_count h_sum h_bucket h_bucket", true)
	f("{job_name: j}", "c_total h_bucket h_bucket h_sum h_count", false)
}

func TestLegacyOfTargetsThatAreGoneIsBounded(t *testing.T) {
	s := newSingle(t, DefaultConfig(), "{job_name: j}", "a:1")
	one := model.Labels(strings.Repeat("x", 1<<20))
	for range 3 {
		s.inherit([]model.Labels{one, one, one, one})
	}
	if n := len(s.inherited()); n != maxLegacy>>20 {
		t.Errorf("%d MiB of label sets are held, want %d", n, maxLegacy>>20)
	}
	if n := s.r.metric(t, "ingot_scrape_stale_markers_dropped_total"); n != 4 {
		t.Errorf("%v markers counted as dropped, want 4", n)
	}
	if s.inherit([]model.Labels{one}); len(s.inherited()) != 1 {
		t.Error("nothing is held after the rest was taken")
	}
}

// TestMemoryOfATargetThatWaits holds what a target costs beyond its series, connection and
// discovery. 2026-11-22: 2.3 KiB with one series.
func TestMemoryOfATargetThatWaits(t *testing.T) {
	const n, most = 2000, 2800
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 10s}", newList(fleet(n)...), bodyOf("text/plain", func(int) string { return "m 1\n" })))
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			r.take()
			return m.HeapAlloc
		}
		time.Sleep(20*time.Second + 4*idleWorkers)
		synctest.Wait()
		r.newest = nil
		r.take()
		with := heap()
		r.pools[0].mu.Lock()
		clear(r.pools[0].loops)
		r.pools[0].mu.Unlock()
		r.shared.scheduler.mu.Lock()
		clear(r.shared.scheduler.due)
		r.shared.scheduler.due = r.shared.scheduler.due[:0]
		r.shared.scheduler.mu.Unlock()
		each := (int64(with) - int64(heap())) / n
		t.Logf("%d bytes a target", each)
		if each < 500 || each > most {
			t.Errorf("a target that waits has %d bytes, want at most %d", each, most)
		}
	})
}
