// Package diff_test compares Ingot with the programs whose behaviour it promises: the same
// input goes through theirs and ours, and the outcomes must be equal. It is a module of its
// own, so that what those programs need is not in Ingot's go.mod.
package diff_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	prommodel "github.com/prometheus/common/model"
	promfile "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	promexemplar "github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// memory is storage for Prometheus' own scraping. It refuses what its database refuses, and
// writes what it takes to a ledger, one batch a commit.
type memory struct {
	mu     sync.Mutex
	refs   map[string]storage.SeriesRef
	newest map[storage.SeriesRef]sample
	last   map[storage.SeriesRef]promexemplar.Exemplar
	out    ledger
}

type transaction struct {
	m       *memory
	refs    []storage.SeriesRef
	pending []sample
	// exemplars are those of pending, in the same places.
	exemplars [][]promexemplar.Exemplar
}

func (m *memory) AppenderV2(context.Context) storage.AppenderV2 { return &transaction{m: m} }

func (x *transaction) Append(_ storage.SeriesRef, ls labels.Labels, start, at int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) (storage.SeriesRef, error) {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	ls = ls.WithoutEmpty()
	if name, repeated := ls.HasDuplicateLabelNames(); repeated {
		return 0, fmt.Errorf("label %s is repeated", name)
	}
	ref, ok := x.m.refs[ls.String()]
	if !ok {
		ref = storage.SeriesRef(len(x.m.refs) + 1)
		x.m.refs[ls.String()] = ref
	}
	last, seen := x.m.newest[ref]
	switch {
	case seen && at < last.T:
		return 0, storage.ErrOutOfOrderSample
	case seen && at == last.T && math.Float64bits(v) != math.Float64bits(last.V):
		return 0, storage.ErrDuplicateSampleForTimestamp
	}
	var wire []byte
	ls.Range(func(l labels.Label) { wire = model.AppendLabel(wire, l.Name, l.Value) })
	one := sample{Labels: model.Labels(wire), T: at, Start: start, V: v}
	switch {
	case h != nil:
		one.Histogram = fmt.Sprintf("%s schema %d", h, h.Schema)
	case fh != nil:
		one.Histogram = fmt.Sprintf("%s schema %d", fh, fh.Schema)
	}
	if m := o.Metadata; o.MetricFamilyName != "" && !strings.HasSuffix(o.MetricFamilyName, "\xff") { // Of report series, which have none here.
		one.Family = family(o.MetricFamilyName, string(m.Type), m.Help, m.Unit)
	}
	x.refs = append(x.refs, ref)
	x.pending = append(x.pending, one)
	x.exemplars = append(x.exemplars, slices.Clone(o.Exemplars)) // The slice is used again.
	return ref, nil
}

// keepExemplars returns those that Prometheus' storage would take, which is to see each one
// once and in order.
func (m *memory) keepExemplars(ref storage.SeriesRef, all []promexemplar.Exemplar) (kept []exemplar) {
	for _, e := range all {
		last, seen := m.last[ref]
		if seen && (e.Equals(last) || e.Ts < last.Ts || e.Ts == last.Ts && e.Value < last.Value) {
			continue
		}
		m.last[ref] = e
		var wire []byte
		e.Labels.Range(func(l labels.Label) { wire = model.AppendLabel(wire, l.Name, l.Value) })
		kept = append(kept, exemplar{labelsText(model.Labels(wire)), e.Ts, e.Value})
	}
	return kept
}

func (x *transaction) Commit() error {
	x.m.mu.Lock()
	var taken []sample
	for i, s := range x.pending {
		if last, ok := x.m.newest[x.refs[i]]; ok && s.T <= last.T {
			continue
		}
		x.m.newest[x.refs[i]] = s
		s.Exemplars = x.m.keepExemplars(x.refs[i], x.exemplars[i])
		taken = append(taken, s)
	}
	x.m.mu.Unlock()
	x.m.out.keep(taken)
	return nil
}

func (x *transaction) Rollback() error { return nil }

// scenario is a target's answers one after the other, and when its address is listed.
type scenario struct {
	job     string
	bodies  []string
	listed  map[int]bool // Changes of the list in the middle of an interval.
	seconds int
	typ     string // The content type.
	start   bool   // Start timestamps are wanted.
}

// timed writes batches like brief, each behind its time since the first one.
func timed(batches [][]sample) (all []string) {
	var first int64
	for _, b := range batches {
		if len(b) == 0 {
			continue
		}
		at := b[len(b)-1].T
		if first == 0 {
			first = at
		}
		all = append(all, fmt.Sprintf("%ds: %s", (at-first)/1000, brief(b)))
	}
	return all
}

func (s scenario) drive(t *testing.T, l *ledger, list func(bool)) []string {
	list(true)
	untilScraped(t, l)
	time.Sleep(5 * time.Second)
	for i := range s.seconds / 10 {
		if want, ok := s.listed[i]; ok {
			list(want)
		}
		time.Sleep(10 * time.Second)
	}
	synctest.Wait()
	return timed(l.take())
}

func (s scenario) ours(t *testing.T) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		source := make(list)
		out := &ledger{}
		job := s.job
		if s.start {
			job = strings.Replace(job, "{", "{start_timestamps: true, ", 1)
		}
		_, stop := start(t, job, source, typed{script(s.bodies...), s.typ}, out)
		got = s.drive(t, out, func(on bool) {
			if on {
				source <- []labels.Labels{labels.FromStrings("__address__", "a:1")}
			} else {
				source <- nil
			}
		})
		stop()
		out.checkOrder(t)
	})
	return got
}

// start runs our scraping until stop.
func start(t *testing.T, job string, source discovery.Source, client http.RoundTripper, sink scrape.Sink) (m *scrape.Manager, stop func()) {
	t.Helper()
	var cfg scrape.JobConfig
	if err := yaml.Unmarshal([]byte(job), &cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(scrape.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	m = scrape.New(scrape.DefaultConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry(), sink, scrape.Options{Version: "test"},
		[]scrape.Job{{Config: cfg, Sources: []discovery.Source{source}, Client: &http.Client{Transport: client}}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	return m, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
}

// list is a source whose targets are what the test sends.
type list chan []labels.Labels

func (l list) Run(ctx context.Context, update func([]discovery.Group)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case targets := <-l:
			update(discovery.Whole(targets))
		}
	}
}

func (l list) Err() error { return nil }

func (s scenario) prometheus(t *testing.T) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		text := "scrape_configs: [" + s.job + "]"
		cfg, err := promfile.Load(text, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		network := newPipes()
		answers := typed{script(s.bodies...), s.typ}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, _ := answers.RoundTrip(r)
			w.Header()["Content-Type"] = resp.Header["Content-Type"]
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
		})}
		go func() { _ = server.Serve(network) }()
		m := &memory{refs: map[string]storage.SeriesRef{}, newest: map[storage.SeriesRef]sample{}, last: map[storage.SeriesRef]promexemplar.Exemplar{}}
		manager, err := promscrape.NewManager(&promscrape.Options{
			DiscoveryReloadInterval: prommodel.Duration(100 * time.Millisecond),
			AppendMetadata:          true,
			ParseST:                 s.start,
			HTTPClientOptions:       []promconfig.HTTPClientOption{promconfig.WithDialContextFunc(network.dial)},
		}, slog.New(slog.DiscardHandler), nil, nil, m, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		if err := manager.ApplyConfig(cfg); err != nil {
			t.Fatal(err)
		}
		sets := make(chan map[string][]*targetgroup.Group)
		done := make(chan struct{})
		go func() { defer close(done); _ = manager.Run(sets) }()
		got = s.drive(t, &m.out, func(on bool) {
			group := &targetgroup.Group{Source: "x"}
			if on {
				group.Targets = []prommodel.LabelSet{{"__address__": "a:1"}}
			}
			sets <- map[string][]*targetgroup.Group{"j": {group}}
		})
		manager.Stop()
		<-done
		_ = server.Close()
		m.out.checkOrder(t)
	})
	return got
}

// pipes is a network inside the test's bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, errors.New("closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestBatchesAreThoseOfPrometheus runs Prometheus' own scraping and ours over the same
// targets. A body that fails half way is not among them: there Prometheus leaves the series
// before the fault without a stale marker, which is an oversight that we do not share.
func TestBatchesAreThoseOfPrometheus(t *testing.T) {
	// Prometheus looks up the host's name. The resolver must not be set up inside a bubble.
	_, _ = net.LookupHost("localhost")
	f := func(name string, s scenario) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			want, got := s.prometheus(t), s.ours(t)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("batches of %+v (-Prometheus +ours):\n%s", s, diff)
			}
			if len(want) < len(s.bodies) && s.listed == nil {
				t.Errorf("only %d batches for %d answers", len(want), len(s.bodies))
			}
		})
	}
	job := func(more string) string {
		return "{job_name: j, scrape_interval: 10s, scrape_timeout: 5s, body_size_limit: 64MB, " + more + "static_configs: []}"
	}
	f("vanish", scenario{job: job(""), bodies: []string{"a 1\nb 2\n", "a 1\n", "b 1\n", "500", "500", "a 1\nb 2\n", "", "a 3\n", "<", "a 1\n"}, seconds: 100})
	f("gone", scenario{job: job(""), bodies: []string{"a 1\nb 2\n"}, listed: map[int]bool{2: false}, seconds: 80})
	f("back soon", scenario{job: job(""), bodies: []string{"a 1\nb 2\n", "a 1\nb 2\n"}, listed: map[int]bool{2: false, 3: true}, seconds: 120})
	f("back late", scenario{job: job(""), bodies: []string{"a 1\nb 2\n"}, listed: map[int]bool{2: false, 8: true}, seconds: 120})
	f("own timestamps", scenario{job: job(""), bodies: []string{"a 1 946684000000\nb 1\n", "a 1 946684000000\nb 1\n", "a 2 946684001000\n", "a 3 946684000500\n", "500", "a 4 946684002000\na 5 946684003000\n", "b 2\n"}, seconds: 70})
	f("tracked timestamps", scenario{job: job("track_timestamps_staleness: true, "), bodies: []string{"a 1 946684000000\nb 1\n", "a 1 946684000000\nb 1\n", "a 2 946684001000\n", "b 1\n", "500", "b 2\n"}, seconds: 60})
	f("clashing labels", scenario{job: job(""), bodies: []string{`a{job="x",instance="y",exported_job="z",le="1"} 1` + "\n" + `b{instance=""} 1` + "\n"}, seconds: 20})
	f("honoured labels", scenario{job: job("honor_labels: true, "), bodies: []string{`a{job="x",exported_job="z"} 1` + "\n" + `b{instance=""} 1` + "\n"}, seconds: 20})
	f("types", scenario{job: job(""), bodies: []string{"# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\na{quantile=\"1\"} 1\n# TYPE s summary\ns{quantile=\"0.50\"} NaN\ns{quantile=\"0\",le=\"1\"} 1\n"}, seconds: 20})
	f("relabelled", scenario{job: job("metric_relabel_configs: [{source_labels: [__name__], regex: drop.*, action: drop}, {regex: id, action: labeldrop}, {source_labels: [x], target_label: y, replacement: 'v$1'}], "), bodies: []string{"drop_a 1\nb{id=\"1\"} 1\nb{id=\"2\"} 2\nc{x=\"q\"} 1\n", "b{id=\"2\"} 2\n"}, seconds: 30})
	f("sample limit", scenario{job: job("sample_limit: 2, "), bodies: []string{"a 1\nb 1\nc 1\nd 1\n", "a 1\nb 1\nc 1\n"}, seconds: 20})
	f("label limit", scenario{job: job("label_limit: 3, "), bodies: []string{"a 1\n", "b{x=\"1\"} 1\n", "a 1\n"}, seconds: 40})
	f("quoted names", scenario{job: job(""), bodies: []string{`{"a.b","c d"="e\\n\"\n"} 1` + "\n"}, seconds: 20})
	f("repeated lines", scenario{job: job(""), bodies: []string{"a 1\na 2\nb 1\n", "b{} 1\nb 2\n", "a 1\n"}, seconds: 40})
	f("repeated labels", scenario{job: job(""), bodies: []string{`a 1` + "\n", `a{b="1",b="2"} 1` + "\n", "a 1\n"}, seconds: 40})
	timestamps(f, job)
	formats(f, job)
	for seed := range uint64(12) {
		f(fmt.Sprintf("random %d", seed), randomScenario(job(""), seed))
	}
}

func randomScenario(job string, seed uint64) scenario {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := scenario{job: job, seconds: 200}
	for range 18 {
		var b strings.Builder
		for k := range 12 {
			if rng.IntN(4) == 0 {
				continue
			}
			switch {
			case k == 3:
				fmt.Fprintf(&b, "# TYPE h histogram\nh_bucket{le=\"%d\"} %d\n# TYPE g gauge\n", rng.IntN(3), rng.IntN(9))
			case k == 5 && rng.IntN(2) == 0:
				fmt.Fprintf(&b, "m{y=\"1\",k=\"5\"} %d\n", rng.IntN(9))
			default:
				fmt.Fprintf(&b, "m{k=\"%d\",y=\"1\"} %d\n", k, rng.IntN(9))
			}
		}
		switch rng.IntN(8) {
		case 0:
			s.bodies = append(s.bodies, "500")
		case 1:
			s.bodies = append(s.bodies, "<html>")
		default:
			s.bodies = append(s.bodies, b.String())
		}
	}
	return s
}

// TestTargetsAreThoseOfPrometheus compares relabelling of targets.
func TestTargetsAreThoseOfPrometheus(t *testing.T) {
	cfg := func(more string) string {
		return "{job_name: j, scrape_interval: 10s, scrape_timeout: 5s, params: {a: [b, c]}, " + more + "static_configs: []}"
	}
	f := func(job string, discovered map[string]string) {
		t.Helper()
		full, err := promfile.Load("scrape_configs: ["+job+"]", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		set := make(prommodel.LabelSet)
		for k, v := range discovered {
			set[prommodel.LabelName(k)] = prommodel.LabelValue(v)
		}
		theirCfg := full.ScrapeConfigs[0]
		theirs, theirErr := promscrape.PopulateLabels(labels.NewBuilder(labels.EmptyLabels()), theirCfg, set, nil)
		ours := targetsOf(t, job, labels.FromMap(discovered))
		switch {
		case theirErr != nil:
			if ours.Invalid != 1 {
				t.Errorf("%v: %+v, Prometheus: %v", discovered, ours, theirErr)
			}
			return
		case theirs.IsEmpty():
			if ours.Dropped != 1 {
				t.Errorf("%v: %+v, want it dropped", discovered, ours)
			}
			return
		case len(ours.Targets) != 1:
			t.Errorf("%v: %+v, want one target", discovered, ours)
			return
		}
		got, want := ours.Targets[0], promscrape.NewTarget(theirs, theirCfg, set, nil)
		if want.URL().String() != got.URL {
			t.Errorf("%v: URL %s, want %s", discovered, got.URL, want.URL())
		}
		if diff := cmp.Diff(want.Labels(labels.NewBuilder(labels.EmptyLabels())).Map(), got.Labels); diff != "" {
			t.Errorf("%v: labels (-want +got):\n%s", discovered, diff)
		}
	}
	a := func(more ...string) map[string]string {
		m := map[string]string{"__address__": "h:1"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	f(cfg(""), a())
	f(cfg(""), map[string]string{"x": "y"})
	f(cfg(""), a("__address__", "host"))
	f(cfg(""), a("__address__", "http://host/x"))
	f(cfg(""), a("__scheme__", "https", "__address__", "h"))
	f(cfg("scheme: https, metrics_path: /m, "), a("job", "other", "instance", "i", "__meta_x", "m", "__tmp", "t"))
	f(cfg(""), a("__metrics_path__", "/p q", "__param_a", "z", "__param_b", "y"))
	f(cfg(""), a("__scrape_interval__", "1m", "__scrape_timeout__", "20s"))
	f(cfg(""), a("__scrape_interval__", "1s"))
	f(cfg(""), a("__scrape_interval__", "x"))
	f(cfg(""), a("__scrape_interval__", "0s"))
	f(cfg(""), a("__scrape_timeout__", "0s"))
	f(cfg(""), a("l", "\xff"))
	f(cfg("relabel_configs: [{source_labels: [x], regex: y, action: drop}], "), a("x", "y"))
	f(cfg("relabel_configs: [{source_labels: [x], regex: y, action: keep}], "), a("x", "y"))
	f(cfg("relabel_configs: [{source_labels: [__address__], target_label: __param_target}, {target_label: __address__, replacement: 'exporter:9115'}, {source_labels: [__param_target], target_label: instance}, {action: labelmap, regex: __meta_(.+)}], "), a("__meta_pod", "p"))
	f(cfg("relabel_configs: [{source_labels: [__meta_port], target_label: __address__, replacement: '[::1]:$1'}, {target_label: job, replacement: ''}], "), a("__meta_port", "9100"))
}

// targetsOf returns what becomes of a discovered target.
func targetsOf(t *testing.T, job string, discovered labels.Labels) (st scrape.JobStatus) {
	synctest.Test(t, func(t *testing.T) {
		source := make(list)
		m, stop := start(t, job, source, script(""), &ledger{})
		source <- []labels.Labels{discovered}
		synctest.Wait()
		st = m.Status().Jobs[0]
		stop()
	})
	return st
}
