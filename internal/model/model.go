// Package model holds the values that travel from sources to sinks: label sets, batches of
// samples and batches of log lines.
//
// Sources (scrape, podlogs) fill batches, sinks (remotewrite, loki) encode them. Label sets,
// histograms and exemplars travel in wire form, so that a sink copies bytes and never looks at
// a label again. The package imports the standard library only, does no I/O and keeps no
// state; it does not know Prometheus' or Loki's request formats beyond the one of [Labels].
package model

// Span is a part of [Batch.Bytes]; an empty one stands for nothing.
type Span struct{ From, To uint32 }

// Empty reports whether nothing is in the span.
func (s Span) Empty() bool { return s.From == s.To }

// Sample is one value of one series.
type Sample struct {
	// Labels is where the finished label set stands in Bytes, in the form of [Labels].
	Labels Span
	// Histogram is where a native histogram stands in Bytes: the fields of the message that
	// remote write 1.0 and 2.0 both call Histogram, without its timestamps. V has no meaning
	// then, except for a stale marker, which has no histogram.
	Histogram Span
	// T is when the value was taken and Start when its counting began, in milliseconds since
	// the Unix epoch; Start 0 is not known.
	T, Start int64
	V        float64
	// Family is one more than the place in Metadata of the metric family, 0 without one.
	Family uint32
	// Custom says that the histogram has custom bucket bounds, which remote write 1.0 lacks.
	Custom bool
}

// Exemplar belongs to a sample of the same batch.
type Exemplar struct {
	// Sample is the place in Samples; exemplars are sorted by it.
	Sample uint32
	// Labels is where its own labels stand in Bytes, in the form of [Labels].
	Labels Span
	T      int64 // Milliseconds since the Unix epoch.
	V      float64
}

// Metadata describes a metric family. The strings may be kept.
type Metadata struct {
	Family string
	// Type is one of the words of Prometheus' model.MetricType: counter, gauge, histogram,
	// gaugehistogram, summary, info, stateset, unknown.
	Type string
	Help string
	Unit string
}

// Batch is a run of samples of one target, with their label sets back to back in Bytes. The
// source owns and reuses it: a sink keeps nothing of it, strings of Metadata apart.
type Batch struct {
	Samples   []Sample
	Exemplars []Exemplar
	Metadata  []Metadata
	Bytes     []byte
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Metadata)
	*b = Batch{Samples: b.Samples[:0], Exemplars: b.Exemplars[:0], Metadata: b.Metadata[:0], Bytes: b.Bytes[:0]}
}

// Add appends a sample of the given labels.
func (b *Batch) Add(ls Labels, t int64, v float64) {
	from := uint32(len(b.Bytes))
	b.Bytes = append(b.Bytes, ls...)
	b.Samples = append(b.Samples, Sample{Labels: Span{from, uint32(len(b.Bytes))}, T: t, V: v})
}

// At returns the bytes of a span. They are valid as long as the batch is not changed.
func (b *Batch) At(s Span) []byte { return b.Bytes[s.From:s.To] }

// Appender takes what one scrape yields, in one or more batches, as a whole or not at all.
// After Commit or Rollback it must not be used any more. It has one user at a time.
type Appender interface {
	// Append takes a copy of a batch. It does not wait for a backend.
	Append(b *Batch)
	// Commit hands everything on. The error says what was refused, which is counted.
	Commit() error
	// Rollback forgets everything.
	Rollback()
}

// Entry is one log line. T is nanoseconds since the Unix epoch; Line has no line end.
type Entry struct {
	T    int64
	Line []byte
}

// Stream is lines of one log stream, in the order of the file. Metadata is the structured
// metadata that every one of the entries carries.
type Stream struct {
	Labels   Labels
	Metadata Labels
	Entries  []Entry
}

// LogBatch is what one turn of one file yields. The source owns it, the lines included: a
// sink may not keep any of it after Push returns.
type LogBatch struct {
	Streams []Stream
	// Ack is called once when every line of the batch has been accepted by the destination
	// or dropped and counted, possibly from another goroutine and possibly never (at a stop).
	// Batches of one source are acknowledged in the order in which they were pushed.
	Ack func()
}
