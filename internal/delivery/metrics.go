package delivery

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the metrics of all queues of a process, told apart by the labels endpoint and
// tenant; requests by endpoint only.
//
// Most of them are read from the queues when they are gathered, each queue at one moment, so
// that put + restored = sent + dropped + queued holds in every scrape.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	families []family

	mu     sync.Mutex // guards queues
	queues []*Queue
}

// NewMetrics registers the metrics. It is called once for each registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_delivery_requests_total",
			Help: "Requests that ended, by status code, error for those without an answer.",
		}, []string{"endpoint", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ingot_delivery_request_duration_seconds",
			Help:    "Time from the start of a request to the end of its answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"endpoint"}),
		families: families(),
	}
	reg.MustRegister(m)
	return m
}

// add makes a queue visible. A later queue of the same endpoint and tenant takes the place of a former.
func (m *Metrics) add(q *Queue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, old := range m.queues {
		if old.ep.Name == q.ep.Name && old.ep.Tenant == q.ep.Tenant {
			m.queues[i] = q
			return
		}
	}
	m.queues = append(m.queues, q)
}

// Forget makes a queue invisible that has ended and will not be run again. Its counts end with it.
func (m *Metrics) Forget(q *Queue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queues = slices.DeleteFunc(m.queues, func(old *Queue) bool { return old == q })
}

// request counts a request that has ended.
func (m *Metrics) request(endpoint, code string, took time.Duration) {
	m.requests.WithLabelValues(endpoint, code).Inc()
	m.duration.WithLabelValues(endpoint).Observe(took.Seconds())
}

// family is a metric that is read from a queue's status.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	emit func(s Status, emit func(v float64, labels ...string))
}

func families() []family {
	var all []family
	metric := func(kind prometheus.ValueType, name, help, label string, emit func(s Status, emit func(float64, ...string))) {
		labels := []string{"endpoint", "tenant"}
		if label != "" {
			labels = append(labels, label)
		}
		all = append(all, family{prometheus.NewDesc("ingot_delivery_"+name, help, labels, nil), kind, emit})
	}
	single := func(kind prometheus.ValueType, name, help string, value func(s Status) float64) {
		metric(kind, name, help, "", func(s Status, emit func(float64, ...string)) { emit(value(s)) })
	}
	amount := func(name, what string, value func(s Status) Amount) {
		single(prometheus.CounterValue, name+"_items_total", "Samples or lines "+what+".", func(s Status) float64 { return float64(value(s).Items) })
		single(prometheus.CounterValue, name+"_bytes_total", "Bytes of request bodies "+what+".", func(s Status) float64 { return float64(value(s).Bytes) })
	}
	amount("put", "that entered the queue", func(s Status) Amount { return s.Put })
	amount("restored", "that were found on disk at the start", func(s Status) Amount { return s.Restored })
	amount("sent", "that the endpoint accepted", func(s Status) Amount { return s.Sent })
	amount("retried", "that were sent again after a failure, counted each time", func(s Status) Amount { return s.Retried })
	dropped := func(value func(Amount) int64) func(Status, func(float64, ...string)) {
		return func(s Status, emit func(float64, ...string)) {
			for _, reason := range s.reasons {
				emit(float64(value(s.Dropped[reason])), reason)
			}
		}
	}
	metric(prometheus.CounterValue, "dropped_items_total", "Samples or lines that are lost, by reason.", "reason", dropped(func(a Amount) int64 { return a.Items }))
	metric(prometheus.CounterValue, "dropped_bytes_total", "Bytes of request bodies that are lost, by reason.", "reason", dropped(func(a Amount) int64 { return a.Bytes }))
	queued := func(value func(Amount) int64) func(Status, func(float64, ...string)) {
		return func(s Status, emit func(float64, ...string)) {
			emit(float64(value(s.Memory)), "memory")
			emit(float64(value(s.Disk)), "disk")
		}
	}
	metric(prometheus.GaugeValue, "queued_items", "Samples or lines that wait in memory and on disk.", "kind", queued(func(a Amount) int64 { return a.Items }))
	metric(prometheus.GaugeValue, "queued_bytes", "Bytes of request bodies that wait in memory and on disk.", "kind", queued(func(a Amount) int64 { return a.Bytes }))
	single(prometheus.GaugeValue, "in_flight_requests", "Request bodies that are being sent; they are part of those that wait.", func(s Status) float64 { return float64(s.InFlight.Blocks) })
	single(prometheus.GaugeValue, "parallelism", "Requests that may be under way at a time, which follows from how the endpoint keeps up.", func(s Status) float64 { return float64(s.Parallelism) })
	single(prometheus.GaugeValue, "max_parallel", "Limit of the parallelism.", func(s Status) float64 { return float64(s.MaxParallel) })
	single(prometheus.CounterValue, "retries_total", "Requests that repeated one that had failed.", func(s Status) float64 { return float64(s.Retries) })
	single(prometheus.GaugeValue, "oldest_age_seconds", "Age of the oldest request body that waits.", func(s Status) float64 { return s.OldestAgeSeconds })
	single(prometheus.GaugeValue, "disk_used_bytes", "Size of the queue files.", func(s Status) float64 { return float64(s.DiskBytes) })
	single(prometheus.GaugeValue, "disk_limit_bytes", "Limit of the size of the queue files.", func(s Status) float64 { return float64(s.DiskMaxBytes) })
	single(prometheus.CounterValue, "disk_errors_total", "Operations on queue files that went wrong.", func(s Status) float64 { return float64(s.DiskErrors) })
	single(prometheus.CounterValue, "corrupt_records_total", "Request bodies that were found damaged on disk.", func(s Status) float64 { return float64(s.CorruptRecords) })
	single(prometheus.GaugeValue, "skipped_files", "Files in the queue directory that are foreign, unreadable, of another version or empty, and the one that delivery was in if it is gone.", func(s Status) float64 { return float64(s.SkippedFiles) })
	metric(prometheus.GaugeValue, "state", "State of the queue: 1 for the present one of ok, refusing, retrying, paused, misconfigured, and for degraded when the disk fails.", "state",
		func(s Status, emit func(float64, ...string)) {
			for _, state := range []State{StateOK, StateRefusing, StateRetrying, StatePaused, StateMisconfigured, StateDegraded} {
				v := 0.0
				if s.State == state || state == StateDegraded && s.DiskError != "" {
					v = 1
				}
				emit(v, string(state))
			}
		})
	return all
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range m.families {
		ch <- f.desc
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	queues := append([]*Queue(nil), m.queues...)
	m.mu.Unlock()
	for _, q := range queues {
		s := q.Status()
		for _, f := range m.families {
			f.emit(s, func(v float64, labels ...string) {
				ch <- prometheus.MustNewConstMetric(f.desc, f.kind, v, append([]string{s.Endpoint, s.Tenant}, labels...)...)
			})
		}
	}
}
