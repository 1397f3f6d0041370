package stage

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// maxSeries bounds the series of one metric. Lines that would make more are not observed.
const maxSeries = 5000

// Metrics holds the metrics that lines make, of all programs of a process. It is a
// [prometheus.Collector], to be registered once.
type Metrics struct {
	now      func() time.Time
	families map[string]*family
}

// family is one metric with its series.
type family struct {
	metric
	mu     sync.Mutex               // guards the fields below
	series map[model.Labels]*series // by labels as they are, and by those that are visible
	swept  time.Time
}

// series is one series: a value, or a histogram.
type series struct {
	labels  prometheus.Labels
	value   float64
	count   uint64
	buckets []uint64 // observations up to each bound, not those below it
	last    time.Time
}

// NewMetrics returns the metrics of all stages of the given programs. now is time.Now. The
// error names metrics that are defined twice and differ, as [config.Problems] without a path.
func NewMetrics(now func() time.Time, programs ...*Program) (*Metrics, error) {
	m := &Metrics{now: now, families: map[string]*family{}}
	var ps config.Problems
	for _, p := range programs {
		for _, def := range p.metrics {
			f := m.families[def.name]
			switch {
			case f == nil:
				m.families[def.name] = &family{metric: def, series: map[model.Labels]*series{}}
			case f.kind != def.kind || f.help != def.help || !slices.Equal(f.buckets, def.buckets):
				ps.Add("", "the metric %s is defined twice by stages, and not with the same type, description and buckets; rename one", def.name)
			case def.idle > f.idle:
				f.idle = def.idle
			}
		}
	}
	return m, ps.Err()
}

// family returns the metric as defined by some program, nil where m is nil or was not made for
// that program.
func (m *Metrics) family(def metric) *family {
	if m == nil {
		return nil
	}
	return m.families[def.name]
}

// observe adds what a line says to the series of its labels. It returns false if there are too
// many.
func (f *family) observe(o *observer, l model.Labels, amount float64, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.series[l]
	if s == nil {
		if len(f.series) >= maxSeries && now.Sub(f.swept) >= time.Second {
			f.sweep(now)
		}
		if len(f.series) >= maxSeries {
			return false
		}
		// Label sets that differ only in labels for Ingot itself are one series.
		outside := visible(l)
		if s = f.series[outside]; s == nil {
			s = &series{labels: promLabels(outside), buckets: make([]uint64, len(f.buckets))}
			f.series[outside] = s
		}
		f.series[l] = s
	}
	s.last = now
	switch {
	case f.kind == "histogram":
		s.count++
		s.value += amount
		if i, _ := slices.BinarySearch(f.buckets, amount); i < len(s.buckets) {
			s.buckets[i]++
		}
	case o.action == "set":
		s.value = amount
	case o.action == "dec", o.action == "sub":
		s.value -= amount
	default:
		s.value += amount
	}
	return true
}

// visible returns the labels that are not only for Ingot itself.
func visible(l model.Labels) model.Labels {
	all := l.All()
	return model.NewLabels(slices.DeleteFunc(all, func(p model.Label) bool { return strings.HasPrefix(p.Name, "__") })...)
}

func promLabels(l model.Labels) prometheus.Labels {
	out := prometheus.Labels{}
	for _, p := range l.All() {
		out[p.Name] = p.Value
	}
	return out
}

// sweep removes series that have been idle for too long.
func (f *family) sweep(now time.Time) {
	f.swept = now
	maps.DeleteFunc(f.series, func(_ model.Labels, s *series) bool { return now.Sub(s.last) >= f.idle })
}

// Describe sends nothing, as the labels of the series are not known before.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends all series that are not idle.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	now := m.now()
	for _, f := range m.families {
		f.collect(out, now)
	}
}

func (f *family) collect(out chan<- prometheus.Metric, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweep(now)
	for l, s := range f.series {
		if visible(l) == l {
			out <- f.export(s)
		}
	}
}

func (f *family) export(s *series) prometheus.Metric {
	desc := prometheus.NewDesc(f.name, f.help, nil, s.labels)
	switch f.kind {
	case "histogram":
		buckets, sum := make(map[float64]uint64, len(s.buckets)), uint64(0)
		for i, n := range s.buckets {
			sum += n
			buckets[f.buckets[i]] = sum
		}
		return prometheus.MustNewConstHistogram(desc, s.count, s.value, buckets)
	case "gauge":
		return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, s.value)
	default:
		return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, s.value)
	}
}
