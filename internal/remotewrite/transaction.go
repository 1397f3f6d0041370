package remotewrite

import (
	"errors"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// transaction is what one scrape hands over. It is encoded as it comes, so that no more of it
// is held than what is compressed already and a piece for each endpoint.
type transaction struct {
	w     *Writer
	parts []*part // by stream
	notes bool    // the families it has
}

// Append takes a copy of a batch.
func (t *transaction) Append(b *model.Batch) {
	if t.notes {
		t.w.families.see(b.Metadata)
	}
	for _, p := range t.parts {
		p.append(b)
	}
}

// Commit hands everything on, to every endpoint.
func (t *transaction) Commit() error {
	var errs []error
	for _, p := range t.parts {
		p.stream.metrics.count(p.tally)
		errs = append(errs, p.shard.commit(p))
	}
	t.w.release(t)
	return errors.Join(errs...)
}

// Rollback forgets everything.
func (t *transaction) Rollback() { t.w.release(t) }

// part is a transaction as far as it goes to one endpoint.
type part struct {
	stream  *stream
	shard   *shard
	format  byte
	tally   tally
	changes bool     // of label sets
	labels  []byte   // scratch
	whole   []sealed // come before what else is staged

	staged1
	staged2
}

// sealed is a whole request, in snappy.
type sealed struct {
	body         *delivery.Body
	raw, samples int
}

// begin prepares a part for its next transaction.
func (p *part) begin(key uint64) {
	p.shard = p.stream.shards[key%uint64(len(p.stream.shards))]
	p.format = p.stream.format()
	p.tally = tally{}
	p.changes = p.stream.External != "" || p.shard.relabel != nil
}

// maxLabels bounds the scratch for label sets that is kept, in bytes.
const maxLabels = 16 << 10

// release gives back what a transaction has left over.
func (p *part) release() {
	p.staged1.release(p.stream.buf)
	p.staged2.release(p.stream)
	for _, w := range p.whole { // Of a scrape that was rolled back.
		w.body.Release()
	}
	p.whole = nil
	if cap(p.labels) > maxLabels {
		p.labels = nil
	}
}

// append encodes the samples of a batch.
func (p *part) append(b *model.Batch) {
	s := p.stream
	if p.format == Format2 {
		p.begin2(len(b.Metadata))
	}
	if r := p.shard.relabel; r != nil {
		r.begin()
		defer r.end()
	}
	exemplars := b.Exemplars
	it := item{batch: b}
	for i := range b.Samples {
		it.Sample, it.histogram, it.exemplars = &b.Samples[i], nil, nil
		if len(exemplars) > 0 {
			own := 0
			for own < len(exemplars) && exemplars[own].Sample == uint32(i) {
				own++
			}
			if own > 0 && s.Config.SendExemplars {
				it.exemplars = exemplars[:own]
			}
			exemplars = exemplars[own:]
		}
		if !it.Histogram.Empty() && !p.takeHistogram(&it) {
			continue
		}
		if it.labels = b.At(it.Labels); p.changes && !p.change(&it) {
			continue
		}
		p.tally.samples++
		p.tally.exemplars += len(it.exemplars)
		if p.format == Format2 {
			p.append2(&it)
		} else {
			p.append1(&it)
		}
	}
}

// takeHistogram fills in the histogram of a sample, unless it is not to be sent.
func (p *part) takeHistogram(it *item) bool {
	switch {
	case !p.stream.Config.SendNativeHistograms:
		p.tally.dropped[reasonHistograms]++
		return false
	case it.Custom && p.format != Format2:
		p.tally.dropped[reasonCustom]++
		return false
	}
	it.histogram = it.batch.At(it.Histogram)
	return true
}

// change applies external labels and relabelling to a sample, unless it is not to be sent.
func (p *part) change(it *item) bool {
	s := p.stream
	if s.External != "" {
		p.labels = model.AppendUnion(p.labels[:0], it.labels, s.External)
		it.labels = p.labels
	}
	if p.shard.relabel != nil {
		from := len(p.labels)
		if s.External == "" {
			from = 0
		}
		set, keep := p.shard.relabel.apply(p.labels[:from], it.labels)
		p.labels = set
		if !keep {
			p.tally.dropped[reasonRelabel]++
			return false
		}
		it.labels = set[from:]
	}
	return true
}

// piece is a part of a request of 1.0 that has been compressed.
type piece struct{ elements, raw, samples int }

// staged1 is what a transaction holds in 1.0: full pieces, compressed, and one that grows.
type staged1 struct {
	pieces   []piece
	sum      piece  // of all pieces
	elements chain  // of the pieces
	raw      []byte // the last piece, not compressed
	samples  int    // in raw
}

func (p *part) append1(it *item) {
	s, before := p.stream, len(p.raw)
	p.raw = appendSeries1(s.buf.room(p.raw, maxSeries1(it)), it)
	if len(p.raw) > s.pieceLimit && p.samples > 0 {
		// It is so large that it gets a piece of its own.
		p.compress(before)
		p.raw = append(p.raw[:0], p.raw[before:]...)
	}
	if p.samples++; len(p.raw) >= s.pieceBytes || p.samples >= s.pieceSamples {
		p.compress(len(p.raw))
		p.raw = p.raw[:0]
	}
}

// compress makes a piece of the first n bytes of raw. Pieces that make up a request are put
// together at once, so that a large scrape is held once and in its final form.
func (p *part) compress(n int) {
	s := p.stream
	if len(p.pieces) > 0 && !s.fits(p.sum.raw+n, p.sum.samples+p.samples, p.elements.size) {
		p.whole = append(p.whole, sealed{body: newBody(p.sum.raw, &p.elements, s.buf), raw: p.sum.raw, samples: p.sum.samples})
		p.pieces, p.sum = p.pieces[:0], piece{}
	}
	before := p.elements.size
	appendElements(&p.elements, s.buf, p.raw[:n])
	c := piece{elements: p.elements.size - before, raw: n, samples: p.samples}
	p.pieces = append(p.pieces, c)
	p.sum.raw += c.raw
	p.sum.samples += c.samples
	p.samples = 0
}

func (g *staged1) release(buf *buffers) {
	buf.putRaw(g.raw)
	g.elements.release(buf.chunks)
	g.raw, g.samples, g.pieces, g.sum = nil, 0, g.pieces[:0], piece{}
}

// staged2 is what a transaction holds in 2.0: a request that grows.
type staged2 struct {
	open    *builder
	encoder *encoder2 // of open
}

// begin2 prepares for a batch with so many families.
func (p *part) begin2(families int) {
	if p.open == nil {
		p.open, p.encoder = p.stream.builders.get(), p.stream.encoders.get()
	}
	p.encoder.begin(families)
}

func (p *part) append2(it *item) {
	s := p.stream
	var m *model.Metadata
	if it.Family > 0 && s.Config.MetadataConfig.Send {
		m = &it.batch.Metadata[it.Family-1]
	}
	p.encoder.add(p.open, it, m)
	if p.open.samples >= s.maxSamples2 || p.open.size() >= s.maxBytes2 {
		p.whole = append(p.whole, sealed{body: p.open.seal(s.buf), raw: p.open.size(), samples: p.open.samples})
		p.open.reset()
		p.encoder.reset()
		p.encoder.begin(len(it.batch.Metadata))
	}
}

func (g *staged2) release(s *stream) {
	if g.open != nil {
		s.putBuilder(g.open)
	}
	if g.encoder != nil {
		s.putEncoder(g.encoder)
	}
	g.open, g.encoder = nil, nil
}
