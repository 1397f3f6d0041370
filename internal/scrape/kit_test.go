package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample is one sample as the ledger keeps it.
type sample struct {
	Labels    model.Labels
	T, Start  int64
	V         float64
	Histogram string
	Family    model.Metadata
	Exemplars []exemplar
}

type exemplar struct {
	Labels model.Labels
	T      int64
	V      float64
}

// ledger is a sink that keeps everything, and refuses what a receiver without an
// out-of-order window would refuse.
type ledger struct {
	mu      sync.Mutex
	batches [][]sample
	newest  map[model.Labels]int64
	keys    map[uint64]int // Transactions by key.
	open    int            // Transactions that are neither committed nor rolled back.
	rolled  int            // Transactions that were rolled back.
	chunks  int            // Batches that were appended.
	largest int            // Samples of the largest one of them.
	wrong   []string
	refuse  error
}

// Appender implements Sink.
func (l *ledger) Appender(key uint64) model.Appender {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = make(map[uint64]int)
	}
	l.keys[key]++
	l.open++
	return &transaction{to: l}
}

// transaction collects what one scrape yields.
type transaction struct {
	to   *ledger
	all  []sample
	done bool
}

// Append implements model.Appender.
func (x *transaction) Append(b *model.Batch) {
	x.to.mu.Lock()
	x.to.chunks++
	x.to.largest = max(x.to.largest, len(b.Samples))
	x.to.mu.Unlock()
	if x.done {
		panic("Append after the end")
	}
	rest := b.Exemplars
	for i, s := range b.Samples {
		one := sample{Labels: model.Labels(b.At(s.Labels)), T: s.T, Start: s.Start, V: s.V, Histogram: string(b.At(s.Histogram))}
		if s.Family > 0 {
			one.Family = b.Metadata[s.Family-1]
		}
		for len(rest) > 0 && int(rest[0].Sample) == i {
			one.Exemplars = append(one.Exemplars, exemplar{Labels: model.Labels(b.At(rest[0].Labels)), T: rest[0].T, V: rest[0].V})
			rest = rest[1:]
		}
		x.all = append(x.all, one)
	}
	if len(rest) > 0 {
		panic("an exemplar belongs to no sample, or they are not sorted")
	}
}

// Commit implements model.Appender.
func (x *transaction) Commit() error {
	l := x.to
	l.mu.Lock()
	defer l.mu.Unlock()
	x.end()
	if l.refuse != nil {
		return l.refuse
	}
	if l.newest == nil {
		l.newest = make(map[model.Labels]int64)
	}
	for _, s := range x.all {
		if last, ok := l.newest[s.Labels]; ok && s.T <= last {
			l.wrong = append(l.wrong, fmt.Sprintf("%s at %d after %d", s.Labels, s.T, last))
		}
		l.newest[s.Labels] = s.T
	}
	l.batches = append(l.batches, x.all)
	return nil
}

// Rollback implements model.Appender.
func (x *transaction) Rollback() {
	x.to.mu.Lock()
	defer x.to.mu.Unlock()
	x.end()
	x.to.rolled++
}

func (x *transaction) end() {
	if x.done {
		panic("transaction ended twice")
	}
	x.done = true
	x.to.open--
}

// take returns what was committed since the last call, one slice a transaction.
func (l *ledger) take() [][]sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.batches
	l.batches = nil
	return all
}

func (l *ledger) setRefuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = err
}

// checkOrder fails the test when a series did not increase in time, or a transaction was
// left open.
func (l *ledger) checkOrder(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Errorf("%d samples out of order, such as %s", len(l.wrong), l.wrong[0])
	}
	if l.open != 0 {
		t.Errorf("%d transactions are neither committed nor rolled back", l.open)
	}
}

// brief writes a batch as a sorted list of name{labels but job and instance} value, with
// scrape_duration_seconds left out and times left out.
func brief(batch []sample) string {
	var all []string
	for _, s := range batch {
		name := s.Labels.Get("__name__")
		if name == "scrape_duration_seconds" {
			continue
		}
		var rest []string
		for _, l := range s.Labels.All() {
			if l.Name != "__name__" && l.Name != "job" && l.Name != "instance" {
				rest = append(rest, l.Name+"="+l.Value)
			}
		}
		if len(rest) > 0 {
			name += "{" + strings.Join(rest, ",") + "}"
		}
		v := fmt.Sprint(s.V)
		if math.Float64bits(s.V) == value.StaleNaN {
			v = "stale"
		}
		all = append(all, name+" "+v)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// list is a source whose targets the test sets.
type list struct {
	mu      sync.Mutex
	targets []labels.Labels
	changed chan struct{}
	err     error
}

func newList(addresses ...string) *list {
	l := &list{changed: make(chan struct{}, 1)}
	l.set(addresses...)
	return l
}

func (l *list) set(addresses ...string) {
	var all []labels.Labels
	for _, a := range addresses {
		all = append(all, labels.FromStrings("__address__", a))
	}
	l.setLabels(all...)
}

func (l *list) setLabels(all ...labels.Labels) {
	l.mu.Lock()
	l.targets = all
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *list) Run(ctx context.Context, update func([]discovery.Group)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.changed:
			l.mu.Lock()
			targets := l.targets
			l.mu.Unlock()
			update(discovery.Whole(targets))
		}
	}
}

func (l *list) Err() error { return l.err }

// answer is a transport in place of targets: no sockets, so that it works on a fake clock.
type answer func(req *http.Request) (status int, body string)

func (a answer) RoundTrip(req *http.Request) (*http.Response, error) {
	status, body := a(req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}, nil
}

// script answers with one body after the other, "500" as a failure, and the last one for ever.
func script(bodies ...string) http.RoundTripper {
	var mu sync.Mutex
	n := 0
	return answer(func(*http.Request) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		b := bodies[min(n, len(bodies)-1)]
		n++
		if b == "500" {
			return 500, "no"
		}
		return 200, b
	})
}

// jobOf reads a job as a user would write it.
func jobOf(t testing.TB, text string, source discovery.Source, client http.RoundTripper) Job {
	t.Helper()
	var cfg JobConfig
	if err := yaml.Unmarshal([]byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return Job{Config: cfg, Sources: []discovery.Source{source}, Client: &http.Client{Transport: client}}
}

// running is a manager that runs until the test ends or stop is called.
type running struct {
	*Manager
	*ledger
	reg  *prometheus.Registry
	stop func()
}

func run(t testing.TB, cfg Config, jobs ...Job) *running {
	t.Helper()
	r := &running{ledger: &ledger{}, reg: prometheus.NewPedanticRegistry()}
	r.start(t, cfg, Options{Version: "1.2.3"}, jobs...)
	return r
}

func (r *running) start(t testing.TB, cfg Config, o Options, jobs ...Job) {
	t.Helper()
	r.Manager = New(cfg, slog.New(slog.DiscardHandler), r.reg, r.ledger, o, jobs)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	t.Cleanup(r.stop)
}

// metric returns the sum of a metric over all jobs, for one value of another label if given.
func (r *running) metric(t testing.TB, name string, label ...string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matches := len(label) == 0
			for _, l := range m.GetLabel() {
				matches = matches || l.GetName() == label[0] && l.GetValue() == label[1]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// checkConservation fails the test when samples got lost uncounted.
func (r *running) checkConservation(t *testing.T) {
	t.Helper()
	in := r.metric(t, "ingot_scrape_samples_scraped_total")
	out, dropped := r.metric(t, "ingot_scrape_samples_pushed_total"), r.metric(t, "ingot_scrape_samples_dropped_total")
	if in != out+dropped {
		t.Errorf("%v samples scraped, but %v pushed and %v dropped", in, out, dropped)
	}
}

// target returns the status of the only target.
func (r *running) target(t testing.TB) TargetStatus {
	t.Helper()
	st := r.Status()
	if len(st.Jobs) != 1 || len(st.Jobs[0].Targets) != 1 {
		t.Fatalf("status has %+v, want one job with one target", st)
	}
	return st.Jobs[0].Targets[0]
}

const job10s = "{job_name: j, scrape_interval: 10s, scrape_timeout: 5s}"

// untilScraped waits for the first batch on the fake clock and returns its time.
func untilScraped(t testing.TB, l *ledger) time.Time {
	t.Helper()
	for range 700 {
		time.Sleep(100 * time.Millisecond)
		synctest.Wait() // A scrape may be due at this very moment, and counters follow its commit.
		l.mu.Lock()
		n := len(l.batches)
		l.mu.Unlock()
		if n > 0 {
			time.Sleep(50 * time.Millisecond) // Beside the grid, so that no later scrape is due just when a test looks.
			return time.Now()
		}
	}
	t.Fatal("nothing was scraped in 70s")
	return time.Time{}
}

var errRefused = errors.New("queue is gone")

func lint(t *testing.T, reg prometheus.Gatherer) {
	t.Helper()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics lint: %v %v", problems, err)
	}
}
