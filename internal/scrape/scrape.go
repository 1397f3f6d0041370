// Package scrape turns jobs into batches of samples: it relabels what discovery finds, runs
// one loop for each target, fetches and parses the exposition, and hands what one scrape
// yields to a [Sink] in one transaction.
//
// Data passes discovery -> pool (relabelling, one loop a target) -> scheduler (when a loop is
// due, a worker runs one pass of it) -> response (a window over the body) -> expfmt -> table
// (a label set is built once a series and recognized afterwards) -> [Sink]. A loop between
// two scrapes is memory only: no goroutine, timer or buffer is its own. The semantics are
// Prometheus': target labels, limits, staleness, report series, timestamps.
//
// The package does not know where samples go and keeps no history beyond the last scrape of
// a target.
package scrape

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/series"
)

// Job is a scrape job that is ready to run.
type Job struct {
	// Config is the job as configured or generated; it has passed Validate.
	Config JobConfig
	// Sources yield the targets. The manager runs each of them.
	Sources []discovery.Source
	// Client sends the scrapes. It must not decompress responses on its own
	// (DisableCompression), which is so for clients of internal/httpclient.
	Client *http.Client
	// RelabelReports applies MetricRelabelConfigs to up and the other report series too, as
	// a relabelling stage behind the scrape does in k8s-monitoring. Prometheus does not.
	RelabelReports bool
}

// Sink takes what scrapes yield. In the program this is *remotewrite.Writer.
type Sink interface {
	// Appender begins a transaction for one scrape of a target. The key tells targets apart;
	// equal labels on samples mean equal keys, also after a restart, so that a sink which keeps
	// samples of one key in order keeps those of each series in order.
	Appender(key uint64) model.Appender
}

// Options is what jobs have in common beyond their configuration.
type Options struct {
	// Version is the program's, for the User-Agent.
	Version string
	// External is added to the labels of every series that does not have them, behind all
	// relabelling: the external labels that all destinations share.
	External model.Labels
	// Pressure says how much memory is in use as one of the levels of package memory: from
	// 2 on no new series are taken, from 3 on targets are not scraped. Nil is 0.
	Pressure func() int
	// MemoryLimit is how many bytes the process may use, 0 without a limit, which Nil means
	// too. Scrapes under way get at most a quarter of it.
	MemoryLimit func() int64
}

// Manager runs jobs.
type Manager struct {
	shared *shared
	pools  []*pool
}

// New returns a manager of the given jobs, which have passed Validate.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer, sink Sink, o Options, jobs []Job) *Manager {
	m := &Manager{shared: newShared(cfg, sink, o)}
	metrics := newMetrics(reg)
	for _, j := range jobs {
		m.pools = append(m.pools, newPool(j, m.shared, metrics.of(j.Config.JobName), log, cfg))
	}
	m.shared.pools = m.pools
	reg.MustRegister(newCollector(m))
	promauto.With(reg).NewCounterFunc(prometheus.CounterOpts{
		Name: "ingot_scrape_table_mismatches_total",
		Help: "Series that the audit found to be taken for other ones, which must not happen.",
	}, func() float64 { return float64(m.shared.series.Mismatches()) })
	return m
}

// Run scrapes until ctx ends and returns nil when every scrape has ended. Scrapes that are
// under way then are cut off and yield nothing; no series is marked stale, because the
// program is expected back.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { m.shared.scheduler.run(ctx) })
	for _, p := range m.pools {
		wg.Go(func() { p.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Status returns a snapshot of all jobs and their targets, sorted by URL.
func (m *Manager) Status() Status {
	st := Status{Jobs: []JobStatus{}}
	for _, p := range m.pools {
		st.Jobs = append(st.Jobs, p.status())
	}
	return st
}

// shared is what all loops use together.
type shared struct {
	sink       Sink
	external   model.Labels
	pressure   func() int
	series     *series.Shared
	seed       maphash.Seed  // That of series.
	mismatches atomic.Uint64 // Those of series that are logged.
	scheduler  *scheduler
	fetcher    *fetcher
	passes     passes
	pools      []*pool
	// scratches bounds how many windows are parsed at once: more than there are processors
	// would only cost memory. None is held while the network is waited for.
	scratches chan *scratch
}

func newShared(cfg Config, sink Sink, o Options) *shared {
	n := runtime.GOMAXPROCS(0)
	tables := series.NewShared()
	sh := &shared{
		sink:      sink,
		external:  o.External,
		pressure:  o.Pressure,
		series:    tables,
		seed:      tables.Seed(),
		scheduler: newScheduler(),
		fetcher:   newFetcher(cfg, o),
		scratches: make(chan *scratch, n),
	}
	if sh.pressure == nil {
		sh.pressure = func() int { return 0 }
	}
	for range n {
		sh.scratches <- newScratch()
	}
	return sh
}

// borrow waits for a scratch, whose batch is empty. It returns nil when ctx ends first.
func (sh *shared) borrow(ctx context.Context) *scratch {
	select {
	case s := <-sh.scratches:
		return s
	case <-ctx.Done():
		return nil
	}
}

// putBack ends the use of a scratch. It keeps no reference into the body or to labels, or
// what a target once had would stay in memory after the target.
func (sh *shared) putBack(s *scratch) {
	s.batch.Reset()
	clear(s.raw[:cap(s.raw)])
	sh.scratches <- s
}

// sameLabels returns a loop of any job that has the same labels on its samples as t, nil
// without one.
func (sh *shared) sameLabels(t *target) *loop {
	for _, p := range sh.pools {
		if l := p.sameLabels(t); l != nil {
			return l
		}
	}
	return nil
}

// reportMismatches logs when the audit of a table, most likely that of l, has found a series
// whose labels were not those that it was added with.
func (sh *shared) reportMismatches(l *loop) {
	now := sh.series.Mismatches()
	if before := sh.mismatches.Swap(now); now > before {
		l.log().Error("a series was taken for another one, which was noticed and mended; please report this", "count", now-before)
	}
}
