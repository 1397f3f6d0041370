package podlogs

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the metrics of all collectors of the process. Each collector has its own
// values under its endpoint label.
type Metrics struct {
	bytesRead, linesRead, linesPushed, partsJoined *prometheus.CounterVec
	linesDropped, linesAltered, linesBare          *prometheus.CounterVec
	bytesDropped, bytesSkipped                     *prometheus.CounterVec
	linesJoined, redacted, unobserved              *prometheus.CounterVec
	partsPending, linesHeld                        *prometheus.GaugeVec
	files, filesSkipped, lag, unwatched            *prometheus.GaugeVec
	lost, truncations, scanErrors                  *prometheus.CounterVec
	positionWrites, positionFailures               *prometheus.CounterVec
	positionRecoveries                             *prometheus.CounterVec
}

// NewMetrics registers the metrics. It is called once for each registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"endpoint"}, labels...))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"endpoint"}, labels...))
	}
	return &Metrics{
		bytesRead:   counter("ingot_podlogs_read_bytes_total", "Bytes of log files that were read and taken into account."),
		linesRead:   counter("ingot_podlogs_lines_read_total", "Lines as they stand in the files. It is the sum of the lines pushed, dropped, joined and held and of the parts joined and pending."),
		linesPushed: counter("ingot_podlogs_lines_pushed_total", "Lines handed to the destination's writer."),
		partsJoined: counter("ingot_podlogs_parts_joined_total", "Parts of long lines that were joined to the line that they belong to, not counting its last part."),
		linesJoined: counter("ingot_podlogs_lines_joined_total", "Lines that multiline joined to the one before."),
		redacted:    counter("ingot_podlogs_secrets_redacted_total", "Secrets that the stage redact replaced."),
		unobserved:  counter("ingot_podlogs_values_unobserved_total", "Values that the stage metrics could not count: they were no number, or the metric has too many series."),
		linesDropped: counter("ingot_podlogs_lines_dropped_total",
			"Lines that were left out, by reason.", "reason"),
		bytesDropped: counter("ingot_podlogs_dropped_bytes_total",
			"Bytes of log files that were read and left out, by reason.", "reason"),
		bytesSkipped: counter("ingot_podlogs_skipped_bytes_total",
			"Bytes of log files that the configuration leaves out without reading them, by reason: what was there before the first start.", "reason"),
		linesAltered: counter("ingot_podlogs_lines_altered_total",
			"Lines that were pushed with a changed text, by reason: cut at the maximum length, invalid UTF-8 replaced, leading NUL bytes removed, or unfinished when their file ended or fell silent.", "reason"),
		linesBare:    counter("ingot_podlogs_lines_without_metadata_total", "Lines that were pushed without the labels that only Kubernetes knows, which it had not told within pod_logs.metadata_timeout."),
		partsPending: gauge("ingot_podlogs_parts_pending", "Parts of lines whose last part has not been seen yet."),
		linesHeld:    gauge("ingot_podlogs_lines_held", "Lines that multiline holds until those that belong to them have come."),
		files:        gauge("ingot_podlogs_files", "Log files by state.", "state"),
		filesSkipped: gauge("ingot_podlogs_files_skipped", "Entries of log directories that are not read, by reason.", "reason"),
		unwatched:    gauge("ingot_podlogs_unwatched_directories", "Log directories of whose changes the system does not tell, so that they are looked through every two seconds."),
		lag:          gauge("ingot_podlogs_lag_bytes", "Bytes in open log files that the destination has not accepted yet."),
		lost:         counter("ingot_podlogs_lost_bytes_total", "Bytes of log files that were never read, as far as is known, by reason: removed by the node first, compressed files that are damaged or too large, and files that were removed while they could not be read or while their pod was not known.", "reason"),
		truncations:  counter("ingot_podlogs_truncations_total", "Files that became shorter than what had been read of them and were read again from their start."),
		scanErrors:   counter("ingot_podlogs_scan_errors_total", "Attempts to list a directory or open a file that were refused."),
		positionWrites: counter("ingot_podlogs_position_writes_total",
			"Times the file of positions was written."),
		positionFailures: counter("ingot_podlogs_position_write_failures_total",
			"Attempts to write the file of positions that went wrong."),
		positionRecoveries: counter("ingot_podlogs_position_recoveries_total",
			"Starts on which the file of positions could not be used, by what was used instead.", "reason"),
	}
}

// Reasons for lines dropped and altered.
const (
	dropMalformed = "malformed"
	dropLimited   = "rate_limited"
	dropNUL       = "nul"

	alterCut        = "cut"
	alterUTF8       = "invalid_utf8"
	alterNUL        = "nul"
	alterUnfinished = "unfinished"
)

// metrics are the values of one endpoint, looked up once.
type metrics struct {
	bytesRead, linesRead, linesPushed, partsJoined prometheus.Counter
	malformed, nulLines, bare                      prometheus.Counter
	limitedLines, limitedBytes, skippedFirst       prometheus.Counter
	cut, utf8, nul, unfinished                     prometheus.Counter
	linesJoined, redacted, unobserved              prometheus.Counter
	dropped                                        *prometheus.CounterVec
	partsPending, linesHeld, lag, unwatched        prometheus.Gauge
	files, filesSkipped                            *prometheus.GaugeVec
	lost                                           *prometheus.CounterVec
	truncations, scanErrors                        prometheus.Counter
}

func (m *Metrics) of(endpoint string) *metrics {
	own := prometheus.Labels{"endpoint": endpoint}
	lost := m.lost.MustCurryWith(own)
	for _, reason := range []string{lostRotatedAway, lostDamaged, lostTooLarge, lostUnreadable, lostUnknownPod} {
		lost.WithLabelValues(reason) // An alert on an increase needs the 0 before it.
	}
	return &metrics{
		bytesRead:    m.bytesRead.With(own),
		linesRead:    m.linesRead.With(own),
		linesPushed:  m.linesPushed.With(own),
		partsJoined:  m.partsJoined.With(own),
		malformed:    m.linesDropped.WithLabelValues(endpoint, dropMalformed),
		nulLines:     m.linesDropped.WithLabelValues(endpoint, dropNUL),
		limitedLines: m.linesDropped.WithLabelValues(endpoint, dropLimited),
		limitedBytes: m.bytesDropped.WithLabelValues(endpoint, dropLimited),
		skippedFirst: m.bytesSkipped.WithLabelValues(endpoint, skipFirstStart),
		bare:         m.linesBare.With(own),
		cut:          m.linesAltered.WithLabelValues(endpoint, alterCut),
		utf8:         m.linesAltered.WithLabelValues(endpoint, alterUTF8),
		nul:          m.linesAltered.WithLabelValues(endpoint, alterNUL),
		unfinished:   m.linesAltered.WithLabelValues(endpoint, alterUnfinished),
		linesJoined:  m.linesJoined.With(own),
		redacted:     m.redacted.With(own),
		unobserved:   m.unobserved.With(own),
		dropped:      m.linesDropped.MustCurryWith(own),
		partsPending: m.partsPending.With(own),
		linesHeld:    m.linesHeld.With(own),
		unwatched:    m.unwatched.With(own),
		lag:          m.lag.With(own),
		files:        m.files.MustCurryWith(own),
		filesSkipped: m.filesSkipped.MustCurryWith(own),
		lost:         lost,
		truncations:  m.truncations.With(own),
		scanErrors:   m.scanErrors.With(own),
	}
}
