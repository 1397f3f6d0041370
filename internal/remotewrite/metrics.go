package remotewrite

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// reason says why a sample is not sent.
type reason int

const (
	reasonRelabel    reason = iota // write_relabel_configs drop the series
	reasonHistograms               // send_native_histograms is false
	reasonCustom                   // remote write 1.0 has no custom buckets
	reasonQueue                    // the queue has been stopped
	reasonEncoder                  // the request could not be compressed
	reasons
)

// String is the value of the label reason.
func (r reason) String() string {
	return [...]string{"write_relabel", "native_histograms_off", "custom_buckets", "queue_refused", "encoder"}[r]
}

// metrics are those of a writer, by endpoint.
type metrics struct {
	appended, samples, exemplars, dropped *prometheus.CounterVec
	requests, metadata                    *prometheus.CounterVec
	rawBytes, bytes                       *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "ingot_remotewrite_" + name, Help: help}, append([]string{"endpoint"}, more...))
	}
	return &metrics{
		appended:  counter("appended_samples_total", "Samples of scrapes that were handed over: those that were encoded and those dropped for write_relabel, native_histograms_off and custom_buckets."),
		samples:   counter("samples_total", "Samples that were encoded for the endpoint."),
		exemplars: counter("exemplars_total", "Exemplars that were encoded for the endpoint."),
		dropped:   counter("dropped_samples_total", "Samples that do not get into the endpoint's queue, by reason.", "reason"),
		requests:  counter("requests_total", "Requests that were handed to the endpoint's queue."),
		metadata:  counter("metadata_total", "Metric families whose metadata was encoded for the endpoint in requests of its own."),
		rawBytes:  counter("uncompressed_bytes_total", "Bytes of these requests before compression."),
		bytes:     counter("compressed_bytes_total", "Bytes of these requests after compression."),
	}
}

// series are the metrics of one endpoint.
type series struct {
	appended, samples, exemplars, requests, metadata, rawBytes, bytes prometheus.Counter
	dropped                                                           [reasons]prometheus.Counter
}

func (m *metrics) endpoint(name string) series {
	s := series{
		appended:  m.appended.WithLabelValues(name),
		samples:   m.samples.WithLabelValues(name),
		exemplars: m.exemplars.WithLabelValues(name),
		requests:  m.requests.WithLabelValues(name),
		metadata:  m.metadata.WithLabelValues(name),
		rawBytes:  m.rawBytes.WithLabelValues(name),
		bytes:     m.bytes.WithLabelValues(name),
	}
	for r := range reasons {
		s.dropped[r] = m.dropped.WithLabelValues(name, r.String())
	}
	return s
}

// tally is what a transaction has to count when it is committed.
type tally struct {
	samples, exemplars int
	dropped            [reasons]int
}

// count adds a tally. What a rollback leaves is not counted at all.
func (s *series) count(t tally) {
	all := t.samples
	for r, n := range t.dropped {
		if all += n; n > 0 {
			s.dropped[r].Add(float64(n))
		}
	}
	s.appended.Add(float64(all))
	s.samples.Add(float64(t.samples))
	s.exemplars.Add(float64(t.exemplars))
}
