package remotewrite

import (
	"errors"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// transaction is what one scrape hands over. It is encoded as it comes, so that no more of it
// is held than what is compressed already and a piece for each endpoint.
type transaction struct {
	w     *Writer
	parts []*part // by stream
}

// Append takes a copy of a batch.
func (t *transaction) Append(b *model.Batch) {
	if t.w.families != nil {
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
	stream *stream
	shard  *shard
	format byte
	tally  tally
	labels []byte // scratch

	staged1
	staged2
}

// begin prepares a part for its next transaction.
func (p *part) begin(key uint64) {
	p.shard = p.stream.shards[key%uint64(len(p.stream.shards))]
	p.format = p.stream.format()
	p.tally = tally{}
}

// release gives back what a transaction has left over.
func (p *part) release() {
	p.staged1.release(p.stream.buf)
	p.staged2.release(p.stream)
}

// append encodes the samples of a batch.
func (p *part) append(b *model.Batch) {
	s := p.stream
	if p.format == Format2 {
		p.begin2(s, len(b.Metadata))
	}
	if r := p.shard.relabel; r != nil {
		r.begin()
		defer r.end()
	}
	exemplars := b.Exemplars
	it := item{batch: b}
	for i := range b.Samples {
		it.Sample, it.histogram, it.exemplars = &b.Samples[i], nil, nil
		own := 0
		for own < len(exemplars) && exemplars[own].Sample == uint32(i) {
			own++
		}
		if own > 0 && s.Config.SendExemplars {
			it.exemplars = exemplars[:own]
		}
		exemplars = exemplars[own:]
		if !p.take(&it) {
			continue
		}
		p.tally.samples++
		p.tally.exemplars += len(it.exemplars)
		if p.format == Format2 {
			p.append2(s, &it)
		} else {
			p.append1(s, &it)
		}
	}
}

// take fills in labels and histogram of a sample, unless it is not to be sent.
func (p *part) take(it *item) bool {
	s := p.stream
	if !it.Histogram.Empty() {
		switch {
		case !s.Config.SendNativeHistograms:
			p.tally.dropped[reasonHistograms]++
			return false
		case it.Custom && p.format != Format2:
			p.tally.dropped[reasonCustom]++
			return false
		}
		it.histogram = it.batch.At(it.Histogram)
	}
	it.labels = it.batch.At(it.Labels)
	if len(s.external) > 0 {
		p.labels = appendUnion(p.labels[:0], it.labels, s.external)
		it.labels = p.labels
	}
	if p.shard.relabel != nil {
		from := len(p.labels)
		if len(s.external) == 0 {
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
	elements chain  // of the pieces
	raw      []byte // the last piece, not compressed
	samples  int    // in raw
}

func (g *staged1) append1(s *stream, it *item) {
	if cap(g.raw) == 0 {
		g.raw = s.buf.raw.get()
	}
	before := len(g.raw)
	g.raw = appendSeries1(room(g.raw, len(it.labels)+firstRoom), it)
	if len(g.raw) > s.pieceLimit && g.samples > 0 {
		// It is so large that it gets a piece of its own.
		g.compress(s.buf, before)
		g.raw = append(g.raw[:0], g.raw[before:]...)
	}
	if g.samples++; len(g.raw) >= s.pieceBytes || g.samples >= s.pieceSamples {
		g.compress(s.buf, len(g.raw))
		g.raw = g.raw[:0]
	}
}

// compress makes a piece of the first n bytes of raw.
func (g *staged1) compress(buf *buffers, n int) {
	before := g.elements.size
	appendElements(&g.elements, buf, g.raw[:n])
	g.pieces = append(g.pieces, piece{elements: g.elements.size - before, raw: n, samples: g.samples})
	g.samples = 0
}

func (g *staged1) release(buf *buffers) {
	buf.raw.put(g.raw)
	g.elements.release(&buf.chunks)
	g.raw, g.samples, g.pieces = nil, 0, g.pieces[:0]
}

// sealed is a whole request of 2.0.
type sealed struct {
	body         []byte
	raw, samples int
}

// staged2 is what a transaction holds in 2.0: whole requests, and one that grows.
type staged2 struct {
	whole   []sealed
	open    *builder
	encoder *encoder2 // of open
}

// begin2 prepares for a batch with so many families.
func (g *staged2) begin2(s *stream, families int) {
	if g.open == nil {
		g.open, g.encoder = s.builder(), s.encoder()
	}
	g.encoder.begin(families)
}

func (g *staged2) append2(s *stream, it *item) {
	var m *model.Metadata
	if it.Family > 0 && s.Config.MetadataConfig.Send {
		m = &it.batch.Metadata[it.Family-1]
	}
	g.encoder.add(g.open, it, m)
	if g.open.samples >= s.Config.MaxSamplesPerSend || g.open.size() >= s.maxBytes2 {
		g.whole = append(g.whole, sealed{body: g.open.seal(s.buf), raw: g.open.size(), samples: g.open.samples})
		g.open.reset()
		g.encoder.reset()
		g.encoder.begin(len(it.batch.Metadata))
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
	clear(g.whole)
	g.whole = g.whole[:0]
}
