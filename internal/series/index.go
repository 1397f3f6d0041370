package series

// work is what finding rows out of order, and adding them, takes. It is made when a scrape
// needs it and dropped at its end, but for the index of targets whose order never holds.
type work struct {
	index  index   // Rows by the hash of their key.
	places []int32 // The line of each row in the order, -1 without one; made on demand.
	found  int     // Lines that the index was needed for.

	adding    bool
	finals    index // Rows by the hash of their labels, those without an alias.
	parts     partIndex
	templates map[string]uint16
	names     map[string]uint16
	recent    [4]uint16
	maker     maker
	reader    reader
}

// index finds rows by a hash that is kept elsewhere: an open hash table of numbers of rows,
// 0 being free. What was removed stays, since whoever looks compares.
type index struct {
	slots []uint32
	used  int
}

func (x *index) grow(n int, hash func(id uint32) (uint32, bool), rows int) {
	size := 64
	for size*3 < n*4 {
		size *= 2
	}
	x.slots, x.used = make([]uint32, size), 0
	for id := range uint32(rows) {
		if h, ok := hash(id); ok {
			x.put(h, id)
		}
	}
}

func (x *index) put(hash, id uint32) {
	mask := uint32(len(x.slots) - 1)
	i := hash & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = id + 1
	x.used++
}

func (x *index) full() bool { return (x.used+1)*4 > len(x.slots)*3 }

// partIndex finds parts by their hash, those from a number on. After manyParts of which next to
// none was like another it finds nothing any more, to save the memory.
type partIndex struct {
	index
	first  uint32
	hashes []uint64
	hits   int
	off    bool
}

const manyParts = 1 << 17

func newPartIndex(first int) partIndex { return partIndex{first: uint32(first)} }

// find returns the part with the hash, none when there is none.
func (x *partIndex) find(hash uint64) uint32 {
	if len(x.slots) == 0 {
		return none
	}
	mask := uint32(len(x.slots) - 1)
	for i := uint32(hash) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if k := x.slots[i] - 1; x.hashes[k] == hash {
			x.hits++
			return x.first + k
		}
	}
	return none
}

// add adds the next part.
func (x *partIndex) add(hash uint64) {
	if x.off {
		return
	}
	if len(x.hashes) >= manyParts && x.hits < len(x.hashes)/8 {
		*x = partIndex{off: true}
		return
	}
	x.hashes = append(x.hashes, hash)
	if k := len(x.hashes) - 1; !x.full() {
		x.put(uint32(hash), uint32(k))
		return
	}
	x.grow(2*len(x.hashes), func(k uint32) (uint32, bool) { return uint32(x.hashes[k]), true }, len(x.hashes))
}

// working makes ready to look for rows out of order.
func (t *Table) working() *work {
	if t.work == nil {
		t.work = new(work)
		t.work.index.grow(len(t.rows)*5/4+32, t.keyHash, len(t.rows))
	}
	return t.work
}

// adding makes ready to add rows.
func (t *Table) adding() *work {
	w := t.working()
	if w.adding {
		return w
	}
	w.adding = true
	w.finals.grow(len(t.rows)*5/4+32, t.finalHash, len(t.rows))
	w.parts = newPartIndex(len(t.parts))
	w.templates = make(map[string]uint16, len(t.templates))
	for i, h := range t.templates {
		w.templates[h.Value()] = uint16(i)
	}
	w.names = make(map[string]uint16, len(t.names))
	for i, h := range t.names {
		w.names[h.Value()] = uint16(i)
	}
	return w
}

func (t *Table) keyHash(id uint32) (uint32, bool) {
	return uint32(t.hashes[id]), t.hashes[id] != 0
}

// finalHash is of rows that have a series, ended ones included: it may come back.
func (t *Table) finalHash(id uint32) (uint32, bool) {
	return t.rows[id].final, t.rows[id].part < aliasBit
}

// enter puts a new row into the indexes.
func (t *Table) enter(id uint32) {
	w := t.work
	if w.index.full() {
		w.index.grow(2*w.index.used, t.keyHash, len(t.rows))
	} else if h, ok := t.keyHash(id); ok {
		w.index.put(h, id)
	}
	h, ok := t.finalHash(id)
	switch {
	case !ok:
	case w.finals.full():
		w.finals.grow(2*w.finals.used, t.finalHash, len(t.rows))
	default:
		w.finals.put(h, id)
	}
}

// lostOften is after how many scrapes in a row that had to search for many lines the index is
// kept.
const lostOften = 2

// asked is the last answer of Knows.
type asked struct {
	hash uint64
	size int // 0 when there is none.
	id   uint32
	line int
}

// Knows reports whether there is a row of a key. It is meant to be asked before Find.
func (t *Table) Knows(hash uint64, size int) bool {
	id, line := t.lookup(hash, size)
	t.asked = asked{hash, size, id, line}
	return id != none
}

// lookup returns the row with the key, and its line in the order, -1 when it has none there.
func (t *Table) lookup(hash uint64, size int) (id uint32, line int) {
	near := ahead
	if t.lost >= lostOften {
		near = 1 // The order tells nothing.
	}
	for line := t.pos; line < min(t.pos+near, t.lines); line++ {
		if id := t.predicted(line); t.hashes[id] == hash && t.keyLen(id) == size {
			return id, line
		}
	}
	w := t.working()
	mask := uint32(len(w.index.slots) - 1)
	for i := uint32(hash) & mask; w.index.slots[i] != 0; i = (i + 1) & mask {
		if id := w.index.slots[i] - 1; t.hashes[id] == hash && t.keyLen(id) == size {
			w.found++
			return id, t.place(id)
		}
	}
	return none, -1
}

func (t *Table) place(id uint32) int {
	w := t.work
	if t.order == nil {
		if int(id) < t.lines {
			return int(id)
		}
		return -1
	}
	if w.places == nil {
		w.places = make([]int32, len(t.rows))
		for i := range w.places {
			w.places[i] = -1
		}
		for line, id := range t.order {
			w.places[id] = int32(line)
		}
	}
	if int(id) < len(w.places) {
		return int(w.places[id])
	}
	return -1
}

// finished returns the series with the given labels, none when there is none.
func (t *Table) finished(ls []byte) uint32 {
	w := t.adding()
	hash := t.shared.final(ls)
	mask := uint32(len(w.finals.slots) - 1)
	for i := hash & mask; w.finals.slots[i] != 0; i = (i + 1) & mask {
		id := w.finals.slots[i] - 1
		if t.rows[id].final != hash || t.rows[id].part >= aliasBit {
			continue
		}
		m := t.shared.scratch()
		same := string(t.stored(id, &w.reader, m)) == string(ls)
		t.shared.free(m)
		if same {
			return id
		}
	}
	return none
}

// stored returns the labels of a series without its line, in scratch memory.
func (t *Table) stored(id uint32, r *reader, m *scratch) []byte {
	row := &t.rows[id]
	part := row.part & partBits
	p := t.template(part)
	if p.isWhole() {
		m.labels = append(m.labels[:0], t.wholes.get(t.shared, part)...)
		return m.labels
	}
	m.key = m.key[:0]
	if row.name != noName {
		m.key = append(m.key, t.names[row.name].Value()...)
	}
	name := len(m.key)
	m.key = append(m.key, r.text(&t.texts, t.shared, part)...)
	if row.name == noName {
		name = nameEnd(m.key)
	}
	m.labels = p.append(m.labels[:0], m.key, name, &t.target)
	return m.labels
}

// drop drops what the scrape needed for its work.
func (t *Table) drop() {
	w := t.work
	if w == nil {
		t.lost = 0
		return
	}
	if w.found > t.lines/20 {
		t.lost++
	} else {
		t.lost = 0
	}
	if t.lost < lostOften {
		t.work = nil
		return
	}
	t.work = &work{index: w.index}
}

func (w *work) bytes() int {
	n := 4*(cap(w.index.slots)+cap(w.finals.slots)+cap(w.places)) + 256
	return n + 4*cap(w.parts.slots) + 8*cap(w.parts.hashes) + mapEntryBytes*(len(w.templates)+len(w.names)) + cap(w.reader.buf)
}
