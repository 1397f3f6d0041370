package series

import (
	"hash/maphash"
	"unique"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// Add makes the row of a line for which Expected or Find has just said no. finished is the
// label set made of it, empty when relabelling dropped the series; report says that it is one
// of the target's report series, which win. typed says that the labels depend on typ.
// Nothing of the arguments is kept.
func (t *Table) Add(key []byte, hash uint64, finished model.Labels, typ expfmt.Type, typed, report bool) Row {
	t.adding()
	packed := typedAs(typ, typed)
	dropped := finished == "" || report
	old := t.replaced
	t.replaced = none
	if old != none && !dropped && t.stillYields(old, key, finished) {
		part, name := t.partOf(key, finished, packed)
		t.rows[old].part, t.rows[old].name = t.rows[old].part&aliasBit|typedPart(part, packed), name
		t.line(old, old)
		t.see(old)
		return Row(old)
	}
	r := row{klen: uint16(min(len(key), longKey)), name: noName}
	if dropped {
		r.part = droppedFrom | uint32(packed)
		if report {
			r.part |= droppedReport
		}
	} else {
		part, name := t.partOf(key, finished, packed)
		r.part, r.name = typedPart(part, packed), name
		r.final = uint32(maphash.String(t.shared.seed, string(finished)))
	}
	same := none
	if !dropped {
		same = t.finished([]byte(finished))
	}
	id := t.newRow(r, hash)
	t.made = id
	if len(key) >= longKey {
		if t.long == nil {
			t.long = make(map[uint32]int)
		}
		t.long[id] = len(key)
	}
	if same != none {
		if t.alias == nil {
			t.alias = make(map[uint32]uint32)
		}
		t.alias[id] = t.series(same)
		t.rows[id].part |= aliasBit
	}
	t.enter(id)
	t.line(id, old)
	if old == none {
		t.see(id)
		return Row(id)
	}
	// The series may be another, but the line is only as new as its old row.
	t.see(old)
	t.detach(old)
	t.mark(id)
	return Row(id)
}

// typedPart returns row.part of a row whose part depends on the TYPE by what packed says.
func typedPart(part uint32, packed byte) uint32 {
	if packed != 0 {
		part |= typedBit
	}
	return part
}

// stillYields reports whether a row yields the given labels for its line already.
func (t *Table) stillYields(id uint32, key []byte, finished model.Labels) bool {
	if t.rows[id].part >= droppedFrom {
		return false
	}
	m := t.shared.scratch()
	defer t.shared.free(m)
	m.labels = t.AppendLabels(m.labels[:0], Row(id), key)
	return string(m.labels) == string(finished) && t.shared.final(m.labels) == t.rows[id].final
}

// newRow makes a row with a number that is free.
func (t *Table) newRow(r row, hash uint64) uint32 {
	if n := len(t.free); n > 0 {
		id := t.free[n-1]
		t.free = t.free[:n-1]
		t.rows[id], t.hashes[id] = r, hash
		return id
	}
	id := uint32(len(t.rows))
	grow := appendTight[uint64]
	if t.ok == 0 {
		t.rows, t.hashes = append(t.rows, r), append(t.hashes, hash)
		grow = func(s []uint64, v uint64) []uint64 { return append(s, v) }
	} else {
		t.rows, t.hashes = appendTight(t.rows, r), appendTight(t.hashes, hash)
	}
	if len(t.cur)*64 <= int(id) {
		t.cur, t.prev = grow(t.cur, 0), grow(t.prev, 0)
		t.here, t.seen = grow(t.here, 0), grow(t.seen, 0)
	}
	if t.newest != nil {
		t.newest = appendTight(t.newest, 0)
	}
	return id
}

// line notes that the present line has the row, in place of an old one.
func (t *Table) line(id, old uint32) {
	predicted := old != none && t.pos < t.lines && t.predicted(t.pos) == old
	if predicted && id == old {
		t.pos++
		if t.differs {
			t.next = append(t.next, id)
		}
		return
	}
	t.record(id)
	if predicted {
		t.pos++
	}
}

// mark notes that a row is exposed without counting it as added.
func (t *Table) mark(id uint32) {
	t.seen[id/64] |= 1 << (id % 64)
	t.here[id/64] |= 1 << (id % 64)
}

// detach takes the key from a row. Its series may still need a stale marker.
func (t *Table) detach(id uint32) {
	t.hashes[id] = 0
	t.seen[id/64] &^= 1 << (id % 64)
	t.here[id/64] &^= 1 << (id % 64)
	if t.series(id) != id {
		delete(t.alias, id)
		t.rows[id].part &^= aliasBit
	}
	t.ended = append(t.ended, id)
}

// partOf returns the part of a line, a new one if there is none like it, and the number of its
// metric name, noName when the part has the name or needs none.
func (t *Table) partOf(key []byte, finished model.Labels, packed byte) (part uint32, name uint16) {
	number, p := t.templateOf(key, finished, packed)
	text, name := key, uint16(noName)
	if p.isWhole() {
		text = []byte(finished)
	} else if name = t.nameOf(key); name != noName {
		text = key[nameEnd(key):]
	}
	parts := &t.work.parts
	hash := t.partHash(text, number)
	if part = parts.find(hash); part == none {
		part = t.addPart(text, number, p.isWhole())
		parts.add(hash)
	}
	return part, name
}

// templateOf returns a template that makes the finished labels of the line, first of all one
// that lately did.
func (t *Table) templateOf(key []byte, finished model.Labels, packed byte) (uint16, template) {
	w := t.work
	m := t.shared.scratch()
	defer t.shared.free(m)
	name := nameEnd(key)
	makes := func(p template) bool {
		m.labels = p.append(m.labels[:0], key, name, &t.target)
		return string(m.labels) == string(finished)
	}
	if len(key) < longKey {
		for i, number := range w.recent {
			if int(number) >= len(t.templates) {
				continue
			}
			if p := template(t.templates[number].Value()); p[0] == packed && !p.isWhole() && makes(p) {
				copy(w.recent[1:i+1], w.recent[:i])
				w.recent[0] = number
				return number, p
			}
		}
		if p, ok := w.maker.make(key, finished, &t.target, packed); ok && makes(p) {
			if number, ok := t.numberOf(p); ok {
				copy(w.recent[1:], w.recent[:])
				w.recent[0] = number
				return number, p
			}
		}
	}
	p := whole(packed)
	number, _ := t.numberOf(p)
	return number, p
}

// numberOf returns the number of a template. A target whose relabelling makes values that
// the lines do not have would need one for each series; ok is false for those that are too
// many.
func (t *Table) numberOf(p template) (number uint16, ok bool) {
	w := t.work
	if number, ok = w.templates[string(p)]; ok {
		return number, true
	}
	if !p.isWhole() && len(t.templates) >= min(64+len(t.parts)/8, maxTemplates) {
		return 0, false
	}
	number = uint16(len(t.templates))
	h := unique.Make(string(p))
	t.templates = appendTight(t.templates, h)
	w.templates[h.Value()] = number
	return number, true
}

// nameOf returns the number of a key's metric name, noName when there are too many.
func (t *Table) nameOf(key []byte) uint16 {
	w := t.work
	name := key[:nameEnd(key)]
	if number, ok := w.names[string(name)]; ok {
		return number
	}
	if len(t.names) >= maxNames {
		return noName
	}
	number := uint16(len(t.names))
	h := unique.Make(string(name))
	t.names = appendTight(t.names, h)
	w.names[h.Value()] = number
	return number
}
