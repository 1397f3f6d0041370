package scrape

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of all jobs.
type metrics struct {
	scrapes          *prometheus.CounterVec
	failures         *prometheus.CounterVec
	scraped          *prometheus.CounterVec
	pushed           *prometheus.CounterVec
	dropped          *prometheus.CounterVec
	stale            *prometheus.CounterVec
	reports          *prometheus.CounterVec
	refused          *prometheus.CounterVec
	exemplars        *prometheus.CounterVec
	exemplarsDropped *prometheus.CounterVec
	staleDropped     *prometheus.CounterVec
	syncs            *prometheus.CounterVec
	duration         prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "ingot_scrape_" + name, Help: help}, append([]string{"job"}, labels...))
	}
	return &metrics{
		scrapes:          counter("scrapes_total", "Scrapes that were started."),
		failures:         counter("failures_total", "Scrapes that failed, by reason.", "reason"),
		scraped:          counter("samples_scraped_total", "Samples that targets exposed. Each of them is pushed or dropped."),
		pushed:           counter("samples_pushed_total", "Exposed samples that were handed to the destinations' writer."),
		dropped:          counter("samples_dropped_total", "Exposed samples that were not handed on, by reason.", "reason"),
		stale:            counter("stale_markers_pushed_total", "Markers of series that ended, handed to the destinations' writer."),
		reports:          counter("report_samples_pushed_total", "Samples of up and the other report series, handed to the destinations' writer."),
		refused:          counter("push_failures_total", "Batches that the destinations' writer refused."),
		exemplars:        counter("exemplars_pushed_total", "Exemplars that were handed to the destinations' writer."),
		exemplarsDropped: counter("exemplars_dropped_total", "Exemplars of scrapes that did not fail and were not handed on, by reason. Expositions repeat them, so duplicates are normal.", "reason"),
		staleDropped:     counter("stale_markers_dropped_total", "Markers not made for series of a target that is gone, because the target that continues them has not answered for too long."),
		syncs:            counter("target_syncs_total", "Times that the list of targets was made anew from discovery."),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "ingot_scrape_duration_seconds",
			Help:    "Time from sending the request until the samples were handed on.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}),
	}
}

// jobMetrics are the metrics of one job, looked up once.
type jobMetrics struct {
	scrapes, scraped, pushed, stale, reports, refused, exemplars, staleDropped, syncs prometheus.Counter
	failures, dropped, exemplarsDropped                                               *prometheus.CounterVec
	duration                                                                          prometheus.Histogram
}

func (m *metrics) of(job string) *jobMetrics {
	l := prometheus.Labels{"job": job}
	return &jobMetrics{
		scrapes:          m.scrapes.With(l),
		scraped:          m.scraped.With(l),
		pushed:           m.pushed.With(l),
		stale:            m.stale.With(l),
		reports:          m.reports.With(l),
		refused:          m.refused.With(l),
		exemplars:        m.exemplars.With(l),
		staleDropped:     m.staleDropped.With(l),
		syncs:            m.syncs.With(l),
		failures:         m.failures.MustCurryWith(l),
		dropped:          m.dropped.MustCurryWith(l),
		exemplarsDropped: m.exemplarsDropped.MustCurryWith(l),
		duration:         m.duration,
	}
}

// The reasons for which an exposed sample is not handed on.
const (
	dropRelabelled   = "relabelled"
	dropDuplicate    = "duplicate"
	dropUnchanged    = "unchanged_timestamp"
	dropOutOfOrder   = "out_of_order"
	dropFuture       = "too_far_ahead"
	dropScrapeFailed = "scrape_failed"
	dropRefused      = "push_failed"
	dropMemory       = "memory"   // The process has no room for more series.
	dropInvalid      = "invalid"  // Of exemplars: labels too long, or no timestamp where one is due.
	dropTooMany      = "too_many" // Of exemplars: more series have one than are remembered.
)

// count adds up the drops of one scrape.
func (m *jobMetrics) count(reason string, n int) {
	if n > 0 {
		m.dropped.WithLabelValues(reason).Add(float64(n))
	}
}

func (m *jobMetrics) countExemplars(reason string, n int) {
	if n > 0 {
		m.exemplarsDropped.WithLabelValues(reason).Add(float64(n))
	}
}

// collector shows what the manager's status shows, as gauges.
type collector struct {
	manager                          *Manager
	targets, series, memory, failing *prometheus.Desc
}

func newCollector(m *Manager) *collector {
	return &collector{
		manager: m,
		targets: prometheus.NewDesc("ingot_scrape_targets",
			"Targets by state: up, down and unknown are scraped, dropped and invalid are not.", []string{"job", "state"}, nil),
		series: prometheus.NewDesc("ingot_scrape_series",
			"Series of the last scrapes of all targets that end with a stale marker.", []string{"job"}, nil),
		memory: prometheus.NewDesc("ingot_scrape_table_bytes",
			"Memory that the series of all targets take.", []string{"job"}, nil),
		failing: prometheus.NewDesc("ingot_scrape_discovery_failing",
			"Sources of targets whose list may be out of date.", []string{"job"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.targets
	ch <- c.series
	ch <- c.memory
	ch <- c.failing
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	jobs := make(map[string]counts) // A configured job may have the name of a built-in one.
	for _, p := range c.manager.pools {
		jobs[p.cfg.JobName] = jobs[p.cfg.JobName].plus(p.counts())
	}
	for job, n := range jobs {
		gauge(c.targets, n.up, job, string(HealthUp))
		gauge(c.targets, n.down, job, string(HealthDown))
		gauge(c.targets, n.unknown, job, string(HealthUnknown))
		gauge(c.targets, n.dropped, job, "dropped")
		gauge(c.targets, n.invalid, job, "invalid")
		gauge(c.series, n.series, job)
		gauge(c.memory, n.memory, job)
		gauge(c.failing, n.failing, job)
	}
}
