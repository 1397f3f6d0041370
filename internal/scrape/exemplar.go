package scrape

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// maxExemplarRunes is how many characters the labels of an exemplar may have, as OpenMetrics
// says and Prometheus checks.
const maxExemplarRunes = 128

// maxExemplars is of how many series of a target the last exemplar is remembered. Those of more
// are not taken, since they would be sent with every scrape.
const maxExemplars = 50_000

// exemplars remembers the last exemplar of each series that has one, by the hash of its key:
// expositions repeat an exemplar until there is a newer one, and it is to be sent once.
type exemplars struct {
	last map[uint64]lastExemplar
	iter uint32 // Number of this exposition.
}

type lastExemplar struct {
	hash  uint64 // Of labels, value, and time if it has one.
	t     int64
	v     float64
	iter  uint32 // Last exposition that had it.
	fresh bool   // There was none before; for taking it back.
}

// exemplarUndo takes back one change of the memory.
type exemplarUndo struct {
	key uint64
	was lastExemplar
}

// maxUndo is how many changes there is room for between expositions.
const maxUndo = 1 << 12

// foundExemplar is one of the exemplars of the present sample, its labels at from:to of wire.
type foundExemplar struct {
	hash     uint64
	t        int64
	v        float64
	from, to int
}

// exemplarReader takes the exemplars of one exposition into batches. It belongs to a pass and
// is used again for the next one.
type exemplarReader struct {
	seed  maphash.Seed
	of    *exemplars
	undo  []exemplarUndo
	entry expfmt.Exemplar
	wire  []byte
	found []foundExemplar

	// What became of the exemplars of this exposition.
	taken, repeated, outOfOrder, invalid, tooMany int
}

// begin starts an exposition of a target.
func (r *exemplarReader) begin(of *exemplars) {
	of.iter++
	*r = exemplarReader{seed: r.seed, of: of, undo: r.undo[:0], entry: expfmt.Exemplar{Labels: r.entry.Labels[:0]}, wire: r.wire, found: r.found}
}

// end drops what is not needed between expositions.
func (r *exemplarReader) end() {
	r.of = nil
	if cap(r.undo) > maxUndo {
		r.undo = nil
	}
}

// read appends the exemplars of the present sample, which is the last one of the batch. at
// is the time of those that have none; a histogram's must have one.
func (r *exemplarReader) read(p *expfmt.Parser, b *model.Batch, at int64, histogram bool) {
	r.wire, r.found = r.wire[:0], r.found[:0]
	for p.Exemplar(&r.entry) {
		if !r.entry.HasTime {
			if histogram {
				r.invalid++
				continue
			}
			r.entry.Time = at
		}
		r.encode()
	}
	if len(r.found) > 1 {
		slices.SortFunc(r.found, func(x, y foundExemplar) int {
			return cmp.Or(cmp.Compare(x.t, y.t), cmp.Compare(x.v, y.v), cmp.Compare(x.hash, y.hash))
		})
	}
	for _, e := range r.found {
		r.add(p.Hash(), e, b)
	}
}

// encode adds the exemplar just read to those found.
func (r *exemplarReader) encode() {
	e := &r.entry
	if len(e.Labels) > maxExemplarRunes && tooLong(model.Labels(e.Labels)) {
		r.invalid++
		return
	}
	from := len(r.wire)
	r.wire = append(r.wire, e.Labels...)
	to := len(r.wire)
	r.wire = binary.LittleEndian.AppendUint64(r.wire, math.Float64bits(e.Value))
	if e.HasTime {
		r.wire = binary.LittleEndian.AppendUint64(r.wire, uint64(e.Time))
	}
	hash := maphash.Bytes(r.seed, r.wire[from:])
	r.wire = r.wire[:to]
	r.found = append(r.found, foundExemplar{hash: hash, t: e.Time, v: e.Value, from: from, to: to})
}

// tooLong reports whether the labels of an exemplar have too many characters.
func tooLong(ls model.Labels) bool {
	runes := 0
	for _, l := range ls.All() {
		runes += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
	}
	return runes > maxExemplarRunes
}

// add appends one exemplar of the series with the given key unless it is not new, by the
// same rules as Prometheus' storage.
func (r *exemplarReader) add(key uint64, e foundExemplar, b *model.Batch) {
	before, seen := r.of.last[key]
	switch {
	case seen && before.hash == e.hash:
		r.repeated++
		before.iter = r.of.iter
		r.of.last[key] = before
		return
	case seen && (e.t < before.t || e.t == before.t && e.v < before.v):
		r.outOfOrder++
		return
	case !seen && len(r.of.last) >= maxExemplars:
		r.tooMany++
		return
	}
	if !seen {
		before.fresh = true
		if r.of.last == nil {
			r.of.last = make(map[uint64]lastExemplar)
		}
	}
	r.undo = append(r.undo, exemplarUndo{key, before})
	r.of.last[key] = lastExemplar{hash: e.hash, t: e.t, v: e.v, iter: r.of.iter}
	r.taken++
	from := uint32(len(b.Bytes))
	b.Bytes = append(b.Bytes, r.wire[e.from:e.to]...)
	b.Exemplars = append(b.Exemplars, model.Exemplar{
		Sample: uint32(len(b.Samples) - 1), Labels: model.Span{From: from, To: uint32(len(b.Bytes))}, T: e.t, V: e.v,
	})
}

// restore takes back what this exposition has changed, since it was not handed on.
func (r *exemplarReader) restore() {
	for _, u := range slices.Backward(r.undo) {
		if u.was.fresh {
			delete(r.of.last, u.key)
		} else {
			r.of.last[u.key] = u.was
		}
	}
	r.undo = r.undo[:0]
}

// forgetExemplars is for how many expositions an exemplar is remembered that is not exposed.
const forgetExemplars = 10

// settle ends an exposition that was handed on: what has not been exposed for a while is
// forgotten, now and then.
func (r *exemplarReader) settle() {
	if r.of.iter%forgetExemplars != 0 {
		return
	}
	for key, e := range r.of.last {
		if r.of.iter-e.iter > forgetExemplars {
			delete(r.of.last, key)
		}
	}
}
