package remotewrite

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of a writer, by endpoint.
type metrics struct {
	samples, requests, dropped *prometheus.CounterVec
	rawBytes, bytes            *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "ingot_remotewrite_" + name, Help: help}, []string{"endpoint"})
	}
	return &metrics{
		samples:  counter("samples_total", "Samples that were encoded for the endpoint."),
		requests: counter("requests_total", "Requests that were handed to the endpoint's queue."),
		rawBytes: counter("uncompressed_bytes_total", "Bytes of these requests before compression."),
		bytes:    counter("compressed_bytes_total", "Bytes of these requests after compression."),
		dropped:  counter("dropped_samples_total", "Samples of requests that the endpoint's queue did not take."),
	}
}

// series are the metrics of one endpoint.
type series struct {
	samples, requests, dropped, rawBytes, bytes prometheus.Counter
}

func (m *metrics) endpoint(name string) series {
	return series{
		samples:  m.samples.WithLabelValues(name),
		requests: m.requests.WithLabelValues(name),
		rawBytes: m.rawBytes.WithLabelValues(name),
		bytes:    m.bytes.WithLabelValues(name),
		dropped:  m.dropped.WithLabelValues(name),
	}
}
