package series

import (
	"hash/maphash"
	"slices"
	"unique"
)

// heldLong is after how many scrapes in the same order rows are numbered in that order, which
// saves the order itself. Numbering costs about as much as a scrape in a new order.
const heldLong = 4

// tidy gives memory back after a successful scrape.
func (t *Table) tidy(grown bool) {
	switch {
	case t.freed > len(t.rows)/6+64:
		t.renumber()
		t.rewrite()
	case t.order != nil && t.held >= heldLong || len(t.free) > len(t.rows)/4+64:
		t.renumber()
	case grown:
		t.clip()
	}
}

// renumber gives rows new numbers, in the order of their lines and without gaps.
func (t *Table) renumber() {
	t.work = nil
	to := make([]uint32, len(t.rows))
	for i := range to {
		to[i] = none
	}
	from := make([]uint32, 0, len(t.rows)-len(t.free))
	take := func(id uint32) {
		if to[id] == none && t.rows[id].part != none {
			to[id] = uint32(len(from))
			from = append(from, id)
		}
	}
	for line := range t.lines {
		take(t.predicted(line))
	}
	for id := range t.rows {
		take(uint32(id))
	}
	order, ordered := make([]uint32, 0, t.lines), true
	for line := range t.lines {
		if id := to[t.predicted(line)]; id != none {
			ordered = ordered && int(id) == len(order)
			order = append(order, id)
		}
	}
	t.lines = len(order)
	if t.order = order; ordered {
		t.order = nil
	}
	t.hashes, t.rows = moved(t.hashes, from), moved(t.rows, from)
	if t.newest != nil {
		t.newest = moved(t.newest, from)
	}
	t.seen, t.prev = movedBits(t.seen, from), movedBits(t.prev, from)
	t.here, t.cur = make([]uint64, len(t.seen)), make([]uint64, len(t.seen))
	t.long, t.alias = movedKeys(t.long, to), movedKeys(t.alias, to)
	for id, s := range t.alias {
		t.alias[id] = to[s]
	}
	for i, id := range t.ended {
		t.ended[i] = to[id]
	}
	for i, g := range t.gone {
		t.gone[i].row = to[g.row]
	}
	t.gone = slices.DeleteFunc(t.gone, func(g goneRow) bool { return g.row == none })
	t.free = nil
	t.held = -1 << 30 // Where lines repeat the order is needed, so once is enough.
	t.clip()
}

func moved[T any](s []T, from []uint32) []T {
	out := make([]T, len(from))
	for i, id := range from {
		out[i] = s[id]
	}
	return out
}

func movedBits(s []uint64, from []uint32) []uint64 {
	out := make([]uint64, (len(from)+63)/64)
	for i, id := range from {
		out[i/64] |= s[id/64] >> (id % 64) & 1 << (i % 64)
	}
	return out
}

func movedKeys[V any](m map[uint32]V, to []uint32) map[uint32]V {
	if len(m) == 0 {
		return nil
	}
	out := make(map[uint32]V, len(m))
	for id, v := range m {
		out[to[id]] = v
	}
	return out
}

// rewrite drops parts, names and templates that no row has any more.
func (t *Table) rewrite() {
	t.freed = 0
	rows := make([]uint64, 0, len(t.rows))
	for id, r := range t.rows {
		if r.part < droppedFrom {
			rows = append(rows, uint64(r.part&partBits)<<32|uint64(id))
		}
	}
	slices.Sort(rows)
	old := *t
	t.parts, t.texts, t.wholes, t.templates, t.names = nil, texts{}, wholes{}, nil, nil
	templates, names := newNumbers(len(old.templates)), newNumbers(len(old.names))
	parts := newPartIndex(0)
	var r reader
	last, part := none, none
	for _, e := range rows {
		row := &t.rows[uint32(e)]
		if was := uint32(e >> 32); was != last {
			last = was
			number := templates.of(old.parts[was], old.templates, &t.templates)
			text := r.text(&old.texts, t.shared, was)
			isWhole := old.template(was).isWhole()
			if isWhole {
				text = old.wholes.get(t.shared, was)
			}
			hash := t.partHash(text, number)
			if part = parts.find(hash); part == none {
				part = t.addPart(text, number, isWhole)
				parts.add(hash)
			}
		}
		row.part = row.part&^partBits | part
		if row.name != noName {
			row.name = names.of(row.name, old.names, &t.names)
		}
	}
	t.texts.close(t.shared)
	t.wholes.close(t.shared)
	t.clip()
}

// numbers maps numbers of handles to those they get when only the used ones are kept.
type numbers []uint16

func newNumbers(n int) numbers { return slices.Repeat(numbers{noName}, n) }

func (n numbers) of(was uint16, old []unique.Handle[string], kept *[]unique.Handle[string]) uint16 {
	if n[was] == noName {
		n[was] = uint16(len(*kept))
		*kept = append(*kept, old[was])
	}
	return n[was]
}

func (t *Table) partHash(text []byte, template uint16) uint64 {
	return maphash.Bytes(t.shared.seed, text) + uint64(template)*0x9e3779b97f4a7c15
}

// addPart adds a part with the text of a line, or with the whole label set.
func (t *Table) addPart(text []byte, template uint16, whole bool) uint32 {
	if whole {
		t.wholes.add(t.shared, uint32(len(t.parts)), text)
		text = nil
	}
	if t.ok == 0 {
		t.parts = append(t.parts, template)
	} else {
		t.parts = appendTight(t.parts, template)
	}
	return t.texts.add(t.shared, text)
}

// clip cuts off what slices have left over.
func (t *Table) clip() {
	t.hashes, t.rows, t.newest = clipped(t.hashes), clipped(t.rows), clipped(t.newest)
	t.parts, t.templates, t.names = clipped(t.parts), clipped(t.templates), clipped(t.names)
	t.here, t.seen, t.cur, t.prev = clipped(t.here), clipped(t.seen), clipped(t.cur), clipped(t.prev)
	t.order = clipped(t.order)
	t.wholes.clip()
	t.texts.blocks = clipped(t.texts.blocks)
}

func clipped[T any](s []T) []T {
	if cap(s)-len(s) <= len(s)/12+1 {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}
