package scrape

import (
	"math"
	"time"

	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/value"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// reportCount is how many report series there are at most.
const reportCount = 8

// reportNames are the report series, the last three under extra_scrape_metrics only.
func reportNames() [reportCount]string {
	return [...]string{
		"up",
		"scrape_duration_seconds",
		"scrape_samples_scraped",
		"scrape_samples_post_metric_relabeling",
		"scrape_series_added",
		"scrape_timeout_seconds",
		"scrape_sample_limit",
		"scrape_body_size_bytes",
	}
}

// report is the values of the report series.
type report struct {
	up       bool
	duration time.Duration
	yield    yield
	added    int
	bytes    int // -1 when the response was too large.
}

// reportLabels returns the finished labels of the report series of a job's targets that come
// before those of the target: their names alone. Series that are not wanted are "".
func reportLabels(cfg *JobConfig) (all [reportCount]model.Labels) {
	for i, name := range reportNames() {
		if i < 5 || *cfg.ExtraScrapeMetrics {
			all[i] = model.NewLabels(model.Label{Name: prommodel.MetricNameLabel, Value: name})
		}
	}
	return all
}

// relabelledReports returns the whole labels of the report series of a target whose job
// relabels them; those that relabelling drops are "".
func (m *labelMaker) relabelledReports(p *pool, t *target) *[reportCount]model.Labels {
	var all [reportCount]model.Labels
	for i, name := range reportNames() {
		if p.reports[i] != "" {
			all[i] = m.report(name, t, p)
		}
	}
	return &all
}

// appendReportLabels appends the labels of a report series, nothing when there is none.
func (l *loop) appendReportLabels(dst []byte, i int) []byte {
	if l.reports != nil {
		return append(dst, l.reports[i]...)
	}
	name := l.pool.reports[i]
	if name == "" {
		return dst
	}
	return name.AppendWith(dst, l.target.common)
}

// isReport reports whether finished labels are those of a report series of the target.
func (l *loop) isReport(ls model.Labels) bool {
	name := ls.Get(prommodel.MetricNameLabel)
	if l.reports == nil && name != "up" && (len(name) < 7 || name[:7] != "scrape_") {
		return false
	}
	for i := range reportCount {
		if len(ls) > 0 && string(l.appendReportLabels(nil, i)) == string(ls) {
			return true
		}
	}
	return false
}

// appendReport appends the report series and returns how many there are.
func (x *pass) appendReport(r report) int {
	up := 0.0
	if r.up {
		up = 1
	}
	return x.appendReports([reportCount]float64{
		up,
		r.duration.Seconds(),
		float64(r.yield.scraped),
		float64(r.yield.kept),
		float64(r.added),
		x.l.target.timeout.Seconds(),
		float64(x.l.pool.cfg.SampleLimit),
		float64(r.bytes),
	})
}

// appendReportsStale ends the report series.
func (x *pass) appendReportsStale() int {
	var values [reportCount]float64
	for i := range values {
		values[i] = math.Float64frombits(value.StaleNaN)
	}
	return x.appendReports(values)
}

func (x *pass) appendReports(values [reportCount]float64) (n int) {
	for i, v := range values {
		b := &x.s.batch
		from := uint32(len(b.Bytes))
		if b.Bytes = x.l.appendReportLabels(b.Bytes, i); uint32(len(b.Bytes)) > from {
			x.append1(from, v)
			n++
		}
	}
	return n
}
