package remotewrite

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

// shard puts together the requests of some of the targets of one endpoint. Requests of one
// shard are delivered in order, so that those of a target are.
type shard struct {
	stream  *stream
	id      uint32
	relabel *relabeler // nil without rules; of the shard, so that scrapes rarely wait for it

	mu       sync.Mutex // guards what follows, and keeps requests in order
	format   byte       // of the open request
	samples  int        // in the open request
	deadline time.Time  // of the open request
	refusing bool       // the queue did not take the last request

	// The open request in 1.0: compressed pieces, and one that grows.
	elements chain
	size     int // of the content of elements
	raw      []byte
	inRaw    int // samples

	// The open request in 2.0.
	open *builder
}

// commit takes over what a transaction has encoded. The part keeps what it may use again.
func (h *shard) commit(p *part) error {
	if len(p.raw) >= h.stream.ownPiece {
		p.compress(len(p.raw))
		p.raw = p.raw[:0]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	if h.samples > 0 && h.format != p.format {
		errs = append(errs, h.end())
	}
	h.format = p.format
	if p.format == Format2 {
		errs = append(errs, h.commit2(p))
	} else {
		errs = append(errs, h.commit1(p))
	}
	if h.stream.Durable {
		errs = append(errs, h.end())
	}
	return errors.Join(errs...)
}

// commit1 moves the pieces of a transaction into the open request, then its raw rest.
func (h *shard) commit1(p *part) error {
	errs := h.putWhole(p)
	if len(p.pieces) > 0 {
		h.compress()
	}
	from := cursor{chain: &p.elements}
	for _, c := range p.pieces {
		if !h.fits(c.raw, c.samples) {
			errs = append(errs, h.end())
		}
		from.copyTo(&h.elements, h.stream.buf.chunks, c.elements)
		h.size += c.raw
		errs = append(errs, h.added(c.samples))
	}
	n := p.samples
	if n == 0 {
		return errors.Join(errs...)
	}
	if !h.fits(len(p.raw), n) {
		errs = append(errs, h.end())
	}
	if len(h.raw) > 0 && (len(h.raw)+len(p.raw) > h.stream.pieceLimit || h.inRaw+n > 2*h.stream.pieceSamples) {
		h.compress()
	}
	h.raw = append(h.stream.buf.room(h.raw, len(p.raw)), p.raw...)
	h.inRaw += n
	return errors.Join(append(errs, h.added(n))...)
}

// fits tells whether so much more may be added to the open request.
func (h *shard) fits(raw, samples int) bool {
	return h.samples == 0 || h.stream.fits(h.size+len(h.raw)+raw, h.samples+samples, h.elements.size)
}

// fits tells whether a request of 1.0 may have so many bytes before compression and so many
// samples. elements is what it has after compression without what was added last.
func (s *stream) fits(raw, samples, elements int) bool {
	return raw <= s.maxBytes && samples <= s.maxSamples && elements < maxSent
}

// putWhole hands over the whole requests of a transaction.
func (h *shard) putWhole(p *part) (errs []error) {
	if len(p.whole) > 0 {
		errs = append(errs, h.end()) // It has to come first.
	}
	for _, w := range p.whole {
		errs = append(errs, h.send(w.body, w.samples, w.raw))
	}
	p.whole = nil
	return errs
}

// added notes that samples were added to the open request, and ends it if it is full.
func (h *shard) added(n int) error {
	if h.samples == 0 {
		h.deadline = time.Now().Add(time.Duration(h.stream.Config.BatchSendDeadline))
		h.stream.wake()
	}
	most := h.stream.maxSamples
	if h.format == Format2 {
		most = h.stream.maxSamples2
	}
	if h.samples += n; h.samples >= most {
		return h.end()
	}
	return nil
}

// compress moves the raw piece to the compressed ones.
func (h *shard) compress() {
	if len(h.raw) == 0 {
		return
	}
	appendElements(&h.elements, h.stream.buf, h.raw)
	h.size += len(h.raw)
	h.stream.buf.putRaw(h.raw)
	h.raw, h.inRaw = nil, 0
}

// commit2 hands over the whole requests of a transaction and adds the rest to the open one.
func (h *shard) commit2(p *part) error {
	errs := h.putWhole(p)
	if p.open == nil || p.open.samples == 0 {
		return errors.Join(errs...)
	}
	n := p.open.samples
	if h.samples > 0 && (h.samples+n > h.stream.maxSamples2 || h.open.size()+p.open.size() > h.stream.maxBytes2) {
		errs = append(errs, h.end())
	}
	if h.samples == 0 {
		h.open, p.open = p.open, h.open
	} else {
		m := h.stream.mergers.get()
		m.merge(h.open, p.open)
		h.stream.mergers.put(m)
	}
	return errors.Join(append(errs, h.added(n))...)
}

// end finishes the open request, if there is one, and hands it to the queue. Holding the lock
// meanwhile keeps requests in order.
func (h *shard) end() error {
	n := h.samples
	if n == 0 {
		return nil
	}
	h.samples, h.deadline = 0, time.Time{}
	if h.format == Format2 {
		b := h.open
		h.open = nil
		body, raw := b.seal(h.stream.buf), b.size()
		h.stream.putBuilder(b)
		return h.send(body, n, raw)
	}
	h.compress()
	raw := h.size
	body := newBody(raw, &h.elements, h.stream.buf)
	h.size = 0
	return h.send(body, n, raw)
}

// send hands a body in snappy to the queue, in the form in which it has to be.
func (h *shard) send(body *delivery.Body, n, raw int) error {
	if h.format == Format1Zstd {
		t := h.stream.transcoders.get()
		var err error
		body, err = t.transcode(body)
		h.stream.transcoders.put(t)
		if err != nil {
			h.stream.metrics.dropped[reasonEncoder].Add(float64(n))
			return fmt.Errorf("compress a request for %s: %w", h.stream.Name, err)
		}
	}
	return h.put(h.format, body, n, raw)
}

// put hands a body to the queue, for good.
func (h *shard) put(format byte, body *delivery.Body, samples, raw int) error {
	s := h.stream
	err := s.Queue.Put(s.patience, delivery.Block{
		Body: body, Items: samples, Time: time.Now(), Shard: h.id, Format: format,
	})
	if err != nil {
		body.Release()
		s.metrics.dropped[reasonQueue].Add(float64(samples))
		if !h.refusing {
			s.log.Error("queue does not take requests, samples are lost", "endpoint", s.Name, "count", samples, "err", err)
		}
		h.refusing = true
		return fmt.Errorf("hand %d samples to the queue of %s: %w", samples, s.Name, err)
	}
	h.refusing = false
	s.metrics.requests.Inc()
	s.metrics.rawBytes.Add(float64(raw))
	s.metrics.bytes.Add(float64(body.Len()))
	return nil
}

// tick ends the open request if it is due, and else says when it will be.
func (h *shard) tick(now time.Time, all bool) (deadline time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.samples == 0 {
		return time.Time{}
	}
	if !all && now.Before(h.deadline) {
		return h.deadline
	}
	_ = h.end() // Counted and logged; here is nobody to tell.
	return time.Time{}
}

// due tells whether the open request has reached its deadline.
func (h *shard) due(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.samples > 0 && !now.Before(h.deadline)
}
