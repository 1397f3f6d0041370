package scrape

import (
	"hash/maphash"
	"io"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// maxAhead is how far in the future a timestamp of an exposition may be, as in Prometheus.
const maxAhead = 10 * time.Minute

// scratch is what turning one body into one batch needs. There are as many as bodies may be
// parsed at once, and loops take turns with them.
type scratch struct {
	parser expfmt.Parser
	batch  model.Batch
	raw    []model.Label
	maker  labelMaker
}

func newScratch() *scratch { return &scratch{maker: newLabelMaker()} }

// empty drops the batch and its references to label sets.
func (s *scratch) empty() {
	s.batch.Reset()
}

// yield is what one exposition came to, in samples.
type yield struct {
	scraped int // Lines with a sample.
	kept    int // Of those, the ones that relabelling left, duplicates included.
	taken   int // Of those, the ones in the batch.

	duplicate, unchanged, outOfOrder, future int
}

// parse appends the samples of a body to the batch and records their series in the table.
// After an error the batch holds a part of them and must be thrown away; what was counted
// until then is returned.
func (l *loop) parse(s *scratch, b []byte, now int64) (y yield, err error) {
	cfg := l.pool.cfg
	limit := int(cfg.SampleLimit)
	latest := time.Now().Add(maxAhead).UnixMilli()
	offered := 0 // What sample_limit counts: kept samples without repetitions.
	p := &s.parser
	seed := maphash.MakeSeed()
	p.Reset(expfmt.Text004, seed)
	p.Feed(b, true)
	for {
		var hint expfmt.Hint
		if key := l.table.Hint(); key != "" {
			hint = expfmt.Hint{Hash: maphash.String(seed, key), Len: len(key)}
		}
		kind, err := p.Next(hint)
		if err == io.EOF { //nolint:errorlint // Next returns it bare, and this is the hot path.
			break
		}
		if err != nil {
			return y, &failure{reasonParse, err}
		}
		if kind != expfmt.KindSample {
			continue
		}
		y.scraped++
		row, ok := l.row(p)
		if !ok {
			full := limit > 0 && offered >= limit
			var left bool
			if row, left, err = l.addRow(s, full); err != nil {
				return y, err
			}
			if left {
				y.kept++
				offered++
				continue
			}
		}
		if why := l.table.Dropped(row); why != TakenOK {
			if why == TakenDuplicate {
				y.kept++
				y.duplicate++
			}
			continue
		}
		y.kept++
		at, own := p.Time()
		if own = own && cfg.HonorTimestamps; !own {
			at = now
		}
		if own && at > latest {
			y.future++
			continue
		}
		switch l.table.Take(row, at, own, !own || cfg.TrackTimestampsStaleness) {
		case TakenOK:
		case TakenUnchanged:
			offered++
			y.unchanged++
			continue
		case TakenOutOfOrder:
			y.outOfOrder++
			continue
		default:
			y.duplicate++
			continue
		}
		if offered++; limit > 0 && offered > limit {
			// Read on without keeping anything, so that the report has the whole number.
			continue
		}
		y.taken++
		s.batch.Add(l.table.Labels(row), at, p.Value())
	}
	if limit > 0 && offered > limit {
		return y, fail(reasonSampleLimit, "sample_limit exceeded: the target has %d samples after relabelling, limit is %d", offered, limit)
	}
	return y, nil
}

// row returns the table's row of the present sample.
func (l *loop) row(p *expfmt.Parser) (Row, bool) {
	if p.Hinted() {
		return l.table.Expected(p.Type())
	}
	return l.table.Find(p.Key(), p.Type())
}

// addRow makes the labels of a line that is new, or whose TYPE has changed. When the scrape
// is full, a line that yields a sample is one too many and left out of the table.
func (l *loop) addRow(s *scratch, full bool) (r Row, left bool, err error) {
	p := &s.parser
	s.raw = p.AppendLabels(s.raw[:0])
	typed := false
	for _, r := range s.raw {
		typed = typed || r.Name == "le" || r.Name == "quantile"
	}
	ls, err := s.maker.series(s.raw, l.target, l.pool.cfg)
	if err != nil || full && ls != "" {
		return 0, true, err
	}
	return l.table.Add(p.Key(), ls, p.Type(), typed, ls != "" && l.isReport(ls)), false, nil
}

// appendStale appends a stale marker for each series that ends with this scrape and returns
// how many there are.
func (l *loop) appendStale(s *scratch, failed bool, now int64) int {
	before := len(s.batch.Samples)
	marker := math.Float64frombits(value.StaleNaN)
	mark := func(ls model.Labels) {
		s.batch.Add(ls, now, marker)
	}
	l.table.Stale(failed, mark)
	for _, ls := range l.inherited(failed) {
		if !l.table.Has(ls) {
			mark(ls)
		}
	}
	return len(s.batch.Samples) - before
}

// reportNames are the report series, the last three under extra_scrape_metrics only.
func reportNames() [8]string {
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

func (l *loop) makeReports(m *labelMaker) {
	for i, name := range reportNames() {
		if i >= 5 && !*l.pool.cfg.ExtraScrapeMetrics {
			return
		}
		rules := l.pool.cfg.MetricRelabelConfigs
		if !l.pool.relabelReports {
			rules = nil
		}
		l.reports[i] = m.report(name, l.target, rules)
	}
}

func (l *loop) isReport(ls model.Labels) bool {
	for _, r := range l.reports {
		if r == ls {
			return true
		}
	}
	return false
}

// appendReport appends the report series and returns how many there are.
func (l *loop) appendReport(s *scratch, r report, now int64) int {
	up := 0.0
	if r.up {
		up = 1
	}
	return l.appendReports(s, now, [8]float64{
		up,
		r.duration.Seconds(),
		float64(r.yield.scraped),
		float64(r.yield.kept),
		float64(r.added),
		l.target.timeout.Seconds(),
		float64(l.pool.cfg.SampleLimit),
		float64(r.bytes),
	})
}

// appendReportsStale ends the report series.
func (l *loop) appendReportsStale(s *scratch, now int64) int {
	var values [8]float64
	for i := range values {
		values[i] = math.Float64frombits(value.StaleNaN)
	}
	return l.appendReports(s, now, values)
}

func (l *loop) appendReports(s *scratch, now int64, values [8]float64) (n int) {
	for i, ls := range l.reports {
		if ls != "" {
			s.batch.Add(ls, now, values[i])
			n++
		}
	}
	return n
}
