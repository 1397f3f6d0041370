package loki

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the metrics of all writers of the process. Each writer has its own values
// under its endpoint label.
type Metrics struct {
	lines, bodies, rawBytes, compressedBytes *prometheus.CounterVec
	openLines                                *prometheus.GaugeVec
	droppedLines, droppedBytes               *prometheus.CounterVec
}

// NewMetrics registers the metrics. It is called once for each registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"endpoint"})
	}
	dropped := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"endpoint", "reason"})
	}
	return &Metrics{
		droppedLines: dropped("ingot_loki_dropped_lines_total", "Lines that were dropped before they were in a request body, by reason."),
		droppedBytes: dropped("ingot_loki_dropped_bytes_total", "Text of lines that were dropped before they were in a request body, by reason."),

		lines:           counter("ingot_loki_lines_total", "Lines that were taken into request bodies."),
		bodies:          counter("ingot_loki_bodies_total", "Request bodies that were handed to the delivery queue."),
		rawBytes:        counter("ingot_loki_raw_bytes_total", "Size of the request bodies before compression."),
		compressedBytes: counter("ingot_loki_compressed_bytes_total", "Size of the request bodies as they are sent."),
		openLines: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingot_loki_open_lines",
			Help: "Lines in the request body that has not been handed to the delivery queue yet.",
		}, []string{"endpoint"}),
	}
}

type metrics struct {
	lines, bodies, rawBytes, compressedBytes prometheus.Counter
	openLines                                prometheus.Gauge
	drop                                     func(reason string, lines, bytes int)
}

func (m *Metrics) of(endpoint string) metrics {
	return metrics{
		lines:           m.lines.WithLabelValues(endpoint),
		bodies:          m.bodies.WithLabelValues(endpoint),
		rawBytes:        m.rawBytes.WithLabelValues(endpoint),
		compressedBytes: m.compressedBytes.WithLabelValues(endpoint),
		openLines:       m.openLines.WithLabelValues(endpoint),
		drop: func(reason string, lines, bytes int) {
			m.droppedLines.WithLabelValues(endpoint, reason).Add(float64(lines))
			m.droppedBytes.WithLabelValues(endpoint, reason).Add(float64(bytes))
		},
	}
}
