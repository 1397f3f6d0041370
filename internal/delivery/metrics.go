package delivery

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of all queues of a process, told apart by the label endpoint.
type Metrics struct{}

// NewMetrics registers the metrics. It is called once for each registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{}
}
