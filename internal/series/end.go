package series

import (
	"math/bits"
	"slices"
)

// Stale calls yield with the labels of each series that ends with this scrape: those of the
// last scrape that this one does not have, or all of them when this one failed, which takes
// back all that Take recorded. The bytes are valid until yield returns.
func (t *Table) Stale(failed bool, yield func(labels []byte)) {
	if failed {
		t.restore()
	}
	m := t.shared.scratch()
	defer t.shared.free(m)
	m.ended = m.ended[:0]
	t.eachEnded(func(id uint32) {
		if t.newest != nil && t.newest[id] >= t.now {
			return // Its own timestamps run ahead; a marker would be out of order.
		}
		m.ended = append(m.ended, uint64(t.rows[id].part&partBits)<<32|uint64(id))
	})
	slices.Sort(m.ended) // So that each block of texts is unpacked once.
	r := reader{buf: m.raw}
	for _, e := range m.ended {
		yield(t.stored(uint32(e), &r, m))
	}
	m.raw = r.buf
}

// Commit ends a successful scrape whose samples were handed on.
func (t *Table) Commit() {
	t.endTimes()
	t.reorder()
	t.ok = t.iter
	t.keepRefused()
	t.age()
	t.seen, t.here = t.here, t.seen
	t.forgetRefused()
	t.prev, t.cur = t.cur, t.prev
	clear(t.cur)
	grown := t.work != nil && t.work.adding
	t.end()
	t.tidy(grown)
}

// Fail ends a failed scrape whose stale markers were handed on: the next scrape starts as
// if no series had been there, but the rows are kept.
func (t *Table) Fail() {
	t.restore()
	t.endTimes()
	clear(t.prev)
	t.end()
	t.tidy(false)
}

// Abort ends a scrape of which nothing was handed on, as if it had not been.
func (t *Table) Abort() {
	t.restore()
	t.end()
	t.tidy(false)
}

// eachEnded calls f with each series of the last scrape that this one does not have.
func (t *Table) eachEnded(f func(id uint32)) {
	for w, word := range t.prev {
		for word &^= t.cur[w]; word != 0; word &= word - 1 {
			f(uint32(w*64 + bits.TrailingZeros64(word)))
		}
	}
}

// endTimes notes the times of stale markers, behind which no sample may follow.
func (t *Table) endTimes() {
	t.forgetUndo()
	if t.newest == nil {
		return
	}
	t.eachEnded(func(id uint32) { t.newest[id] = max(t.newest[id], t.now) })
}

// keepRefused makes rows of refused lines age like those of other lines, until forgetRefused.
// When the scrape fails they wait for crowd, unless they are exposed again.
func (t *Table) keepRefused() {
	kept := t.refused[:0]
	for _, id := range t.refused {
		word, bit := id/64, uint64(1)<<(id%64)
		if t.hashes[id] != 0 && t.seen[word]&bit == 0 { // It was not taken later, nor has another row its line.
			t.seen[word] |= bit
			t.here[word] |= bit
			kept = append(kept, id)
		}
	}
	t.refused = kept
}

// forgetRefused makes the next scrape find lines new that this one has refused.
func (t *Table) forgetRefused() {
	for _, id := range t.refused {
		t.seen[id/64] &^= 1 << (id % 64)
		t.gone = appendTight(t.gone, goneRow{id, t.iter})
	}
}

// rememberTimes makes room for timestamps when the first one is exposed, by the given series.
// Others have had a sample or a stale marker in this scrape or at the latest in the one
// before; this one too, unless its row has just been made.
func (t *Table) rememberTimes(first uint32) {
	t.newest = make([]int64, len(t.rows))
	for id := range t.newest {
		word, bit := id/64, uint64(1)<<(id%64)
		switch {
		case t.cur[word]&bit != 0:
			t.newest[id] = t.now
		case id != int(first) || first != t.made:
			t.newest[id] = t.before
		}
	}
}

// restore takes back what Take recorded.
func (t *Table) restore() {
	if t.undo != nil {
		for _, u := range slices.Backward(*t.undo) {
			t.newest[u.series] = u.newest
		}
	}
	if t.newest != nil && t.size < len(t.newest) {
		clear(t.newest[t.size:])
	}
	t.forgetUndo()
	clear(t.cur)
}

func (t *Table) forgetUndo() {
	if t.undo == nil {
		return
	}
	if *t.undo = (*t.undo)[:0]; cap(*t.undo) <= 1<<16 {
		t.shared.undos.Put(t.undo)
	}
	t.undo = nil
}

// reorder makes the order of this scrape the prediction for the next.
func (t *Table) reorder() {
	if !t.differs {
		t.held++
		if t.order != nil && t.pos < t.lines {
			t.order = t.order[:t.pos]
		}
		t.lines = t.pos // Lines at the end are gone, or new.
		return
	}
	t.held = 0
	t.order, t.next, t.lines = t.next, nil, len(t.next)
	for i, id := range t.order {
		if int(id) != i {
			return
		}
	}
	t.order = nil
}

// age removes rows that have not been exposed for some scrapes.
func (t *Table) age() {
	after := uint32(forgetAfter)
	if len(t.gone) > len(t.rows)/16+64 {
		after = forgetSoon
	}
	kept := t.gone[:0]
	for _, g := range t.gone {
		word, bit := g.row/64, uint64(1)<<(g.row%64)
		switch {
		case t.hashes[g.row] == 0 || t.here[word]&bit != 0:
			continue
		case t.seen[word]&bit != 0: // A scrape that failed had it.
			t.seen[word] &^= bit
			g.last = t.iter - 1
		case t.iter-g.last > after:
			t.detach(g.row)
			continue
		}
		kept = append(kept, g)
	}
	t.gone = kept
	for w, word := range t.seen {
		for word &^= t.here[w]; word != 0; word &= word - 1 {
			t.gone = appendTight(t.gone, goneRow{uint32(w*64 + bits.TrailingZeros64(word)), t.iter - 1})
		}
	}
	if len(t.gone) == 0 {
		t.gone = nil
	}
}

// end frees what is not needed any more, whatever became of the scrape.
func (t *Table) end() {
	clear(t.here)
	t.next, t.replaced, t.refused = nil, none, nil
	t.crowd()
	t.settle()
	t.texts.close(t.shared)
	t.wholes.close(t.shared)
	t.drop()
}

// crowd removes all rows that the last successful scrape did not have when they are too
// many: a target may change its labels every time, or grow with every scrape that fails.
func (t *Table) crowd() {
	if len(t.rows)-len(t.free)-len(t.ended) <= 2*t.lines+1000 {
		return
	}
	keep := make([]uint64, len(t.seen))
	for line := range t.lines {
		id := t.predicted(line)
		keep[id/64] |= 1 << (id % 64)
	}
	for id := range uint32(len(t.rows)) {
		if t.hashes[id] != 0 && keep[id/64]&(1<<(id%64)) == 0 {
			t.detach(id)
		}
	}
	t.gone = nil
}

// settle frees rows without a key, except those whose series still needs a stale marker. A
// series that other rows yield too goes on under the number of one of them.
func (t *Table) settle() {
	if len(t.ended) == 0 {
		return
	}
	heirs := make(map[uint32]uint32)
	if len(t.alias) > 0 {
		for id, s := range t.alias {
			if heir, ok := heirs[s]; !ok || id < heir {
				heirs[s] = id
			}
		}
	}
	moved := false
	kept := t.ended[:0]
	for _, id := range t.ended {
		heir, inherited := heirs[id]
		switch {
		case inherited:
			moved = true
			t.inherit(heir, id)
		case t.prev[id/64]&(1<<(id%64)) != 0:
			kept = append(kept, id)
			continue
		}
		t.release(id)
	}
	if t.ended = kept; len(kept) == 0 {
		t.ended = nil
	}
	if moved {
		for id, s := range t.alias {
			if heir, ok := heirs[s]; ok && t.rows[s].part == none {
				t.alias[id] = heir
			}
		}
	}
}

// inherit gives a row the series of another.
func (t *Table) inherit(heir, id uint32) {
	delete(t.alias, heir)
	t.rows[heir].part &^= aliasBit
	if t.prev[id/64]&(1<<(id%64)) != 0 {
		t.prev[heir/64] |= 1 << (heir % 64)
	}
	if t.newest != nil {
		t.newest[heir] = t.newest[id]
	}
}

// release makes the number of a row free.
func (t *Table) release(id uint32) {
	t.rows[id] = row{part: none}
	t.hashes[id] = 0
	delete(t.long, id)
	for _, b := range [][]uint64{t.here, t.seen, t.cur, t.prev} {
		b[id/64] &^= 1 << (id % 64)
	}
	if t.newest != nil {
		t.newest[id] = 0
	}
	t.free = append(t.free, id)
	t.freed++
}
