package scrape

import (
	"errors"
	"io"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/series"
)

// maxAhead is how far in the future a timestamp of an exposition may be, as in Prometheus.
const maxAhead = 10 * time.Minute

// A batch is handed on when it has so many samples or bytes. It is small enough to stay in
// the caches of a processor, together with what the sink makes of it.
const (
	chunkSamples = 300
	chunkBytes   = 128 << 10
)

// scratch is what turning lines into batches needs. There are as many as windows may be
// parsed at once, and passes take turns with them.
type scratch struct {
	batch model.Batch
	raw   []model.Label
	maker labelMaker
}

func newScratch() *scratch { return &scratch{maker: newLabelMaker()} }

// yield is what one exposition came to, in samples.
type yield struct {
	scraped int // Lines with a sample.
	kept    int // Of those, the ones that relabelling left, duplicates included.
	taken   int // Of those, the ones that were appended.

	duplicate, unchanged, outOfOrder, future, memory int
}

// parse appends the samples of a window to the batch and records their series in the table.
// done says that the exposition has ended.
func (x *pass) parse(window []byte, final bool) (done bool, err error) {
	p, table := &x.parser, x.l.table
	p.Feed(window, final)
	for {
		kind, err := p.Next(table.Hint())
		if err != nil {
			return ended(err)
		}
		switch kind {
		case expfmt.KindSample:
			err = x.sample(false)
		case expfmt.KindHistogram:
			err = x.sample(true)
		case expfmt.KindType, expfmt.KindHelp, expfmt.KindUnit:
			x.families.line(kind, p)
		case expfmt.KindNone, expfmt.KindComment:
		}
		if err != nil {
			return false, err
		}
	}
}

// ended returns what the end of parsing means.
func ended(err error) (done bool, _ error) {
	switch {
	case errors.Is(err, io.EOF):
		return true, nil
	case errors.Is(err, expfmt.ErrMore):
		return false, nil
	}
	return false, &failure{reasonParse, err}
}

// sample takes the present sample.
func (x *pass) sample(histogram bool) error {
	l, p, y := x.l, &x.parser, &x.yield
	table, cfg := l.table, l.pool.cfg
	y.scraped++
	var row series.Row
	var ok bool
	if p.Hinted() {
		row, ok = table.Expected(p.Key(), p.Type())
	} else {
		row, ok = table.Find(p.Key(), p.Hash(), p.Type())
	}
	if !ok {
		left, err := x.addRow(&row)
		if err != nil || left {
			return err
		}
	}
	if why := table.Dropped(row); why != series.TakenOK {
		if why == series.TakenDuplicate {
			y.kept++
			y.duplicate++
		}
		return nil
	}
	y.kept++
	at, own := p.Time()
	if own = own && cfg.HonorTimestamps; !own {
		if at = x.now; table.Again() {
			y.duplicate++
			return nil
		}
	}
	if over, err := x.overLimits(histogram); over || err != nil {
		return err
	}
	if own && at > x.latest {
		y.future++
		table.Refuse(row)
		return nil
	}
	switch table.Take(row, at, own, !own || cfg.TrackTimestampsStaleness) {
	case series.TakenOK:
	case series.TakenUnchanged:
		y.unchanged++
		return nil
	case series.TakenOutOfOrder:
		y.outOfOrder++
		return nil
	case series.TakenDuplicate, series.TakenRelabelled:
		y.duplicate++
		return nil
	}
	y.taken++
	return x.append(row, at, histogram)
}

// overLimits reports whether the present sample is over a limit that fails the scrape. As in
// Prometheus the rest is read nevertheless, so that the report has the whole numbers.
func (x *pass) overLimits(histogram bool) (bool, error) {
	if histogram {
		if err := x.l.pool.histograms.reduce(x.parser.Histogram()); err != nil {
			if reasonOf(err) != reasonBucketLimit {
				return false, err
			}
			x.overBuckets = err
			x.fix(x.l.table.Fresh())
			return true, nil
		}
	}
	x.offered++
	if limit := int(x.l.pool.cfg.SampleLimit); limit == 0 || x.offered <= limit {
		return false, nil
	}
	x.fix(x.l.table.Fresh())
	return true, nil
}

// fix keeps how many series were added before the first limit was exceeded, by a sample whose
// series counts already when it is counted. It is what the report has.
func (x *pass) fix(counted bool) {
	if x.fixed {
		return
	}
	x.fixed, x.added = true, x.l.table.Added()
	if counted {
		x.added--
	}
}

// append appends the present sample to the batch.
func (x *pass) append(row series.Row, at int64, histogram bool) error {
	p, b := &x.parser, &x.s.batch
	key := p.Key()
	sample := model.Sample{T: at, Start: p.Start(), V: p.Value()}
	sample.Labels.From = uint32(len(b.Bytes))
	b.Bytes = x.l.table.AppendLabels(b.Bytes, row, key)
	sample.Labels.To = uint32(len(b.Bytes))
	sample.Family = x.family(b, row, &sample)
	if histogram {
		if err := x.histogram(&sample); err != nil {
			return err
		}
	}
	b.Samples = append(b.Samples, sample)
	if x.examples {
		x.exemplars.read(p, b, at, histogram)
	}
	if len(b.Samples) >= chunkSamples || len(b.Bytes) >= chunkBytes {
		x.flush()
	}
	return nil
}

// family returns the place of the family of the present sample, see [familyReader.place]. The
// metric that was looked at last belongs where it did.
func (x *pass) family(b *model.Batch, row series.Row, s *model.Sample) uint32 {
	f := &x.families
	if !f.open {
		return 0
	}
	if x.l.pool.renames {
		f.sure = false
		return f.place(b, finishedName(b.At(s.Labels)))
	}
	key := x.parser.Key()
	name, known := x.l.table.Name(row)
	if f.placed != 0 && f.sure && f.metric == name && known {
		return f.placed
	}
	place := f.place(b, metricName(key, f.name))
	f.metric, f.sure = name, place != 0 && known && key[0] != '{' // Not with the name inside.
	return place
}

// addRow makes the labels of a line that is new, or whose TYPE has changed. left says that
// there is no row because the scrape or the memory is full.
func (x *pass) addRow(row *series.Row) (left bool, err error) {
	l, s, p := x.l, x.s, &x.parser
	if x.full {
		x.yield.memory++
		return true, nil
	}
	s.raw = p.AppendLabels(s.raw[:0])
	typed := false
	for _, r := range s.raw {
		typed = typed || r.Name == "le" || r.Name == "quantile"
	}
	ls, err := s.maker.series(s.raw, l.target, l.pool)
	if err != nil {
		return true, err
	}
	if limit := int(l.pool.cfg.SampleLimit); ls != "" && limit > 0 && x.offered >= limit {
		x.yield.kept++
		x.offered++
		x.fix(false)
		return true, nil
	}
	*row = l.table.Add(p.Key(), p.Hash(), ls, p.Type(), typed, ls != "" && l.isReport(ls))
	return false, nil
}

// appendStale appends a stale marker for each series that ends with this scrape and returns
// how many there are.
func (x *pass) appendStale(failed bool) (n int) {
	marker := math.Float64frombits(value.StaleNaN)
	x.l.table.Stale(failed, func(labels []byte) {
		x.add(labels, marker)
		n++
	})
	if failed {
		return n // A later one knows better what has ended of what was inherited.
	}
	for _, ls := range x.l.inherited() {
		if !x.l.table.Has(ls) {
			x.add([]byte(ls), marker)
			n++
		}
	}
	return n
}

// add appends a sample that is not of the exposition.
func (x *pass) add(labels []byte, v float64) {
	b := &x.s.batch
	from := uint32(len(b.Bytes))
	b.Bytes = append(b.Bytes, labels...)
	x.append1(from, v)
}

// append1 appends the sample whose labels are at the end of the batch's bytes.
func (x *pass) append1(from uint32, v float64) {
	b := &x.s.batch
	b.Samples = append(b.Samples, model.Sample{Labels: model.Span{From: from, To: uint32(len(b.Bytes))}, T: x.now, V: v})
	if len(b.Samples) >= chunkSamples || len(b.Bytes) >= chunkBytes {
		x.flush()
	}
}

// histogram puts the present native histogram into the batch.
func (x *pass) histogram(s *model.Sample) (err error) {
	b := &x.s.batch
	s.V = 0
	s.Histogram.From = uint32(len(b.Bytes))
	h, fh := x.parser.Histogram()
	b.Bytes, s.Custom, err = appendNative(b.Bytes, h, fh)
	s.Histogram.To = uint32(len(b.Bytes))
	return err
}
