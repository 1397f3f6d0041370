package scrape

import (
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// Table remembers the series of one target between scrapes: for each key, the name and
// braces of a line as exposed, the finished label set; which series the last scrape had; and
// the newest timestamp of series that bring their own. It is what makes a line that was seen
// before cost no label work and no allocation.
//
// A scrape is Begin; Expected or Find, Add and Take for each line; Stale; and then exactly
// one of Commit, Fail and Abort. Rows are numbers, so that the inside can become compact
// memory outside the heap without a change to its users. A Table has one user at a time.
type Table struct {
	seed     maphash.Seed
	rows     []row
	index    map[string]uint32 // Key to row.
	freeRows []uint32

	series     []series
	byLabels   map[model.Labels]uint32
	freeSeries []uint32
	orphans    []uint32 // Series without rows that may still need a stale marker.

	// order is the rows of the last successful scrape, line by line, which predicts those
	// of the next. While the prediction holds nothing is recorded; from the first line on
	// that differs, next is the new order.
	order, next []uint32
	pos         int  // The line of order that is expected next.
	differs     bool // next is in use.

	// cur and prev are the series of this scrape and of the last one that count for
	// staleness, one bit each.
	cur, prev []uint64

	// newest is the newest timestamp taken of each series, allocated for targets that
	// expose timestamps only. undo restores it when a scrape fails.
	newest []int64
	undo   []undo

	iter, ok uint32 // Number of this scrape and of the last successful one.
	now      int64  // Time of this scrape, then of the last.
	before   int64  // Time of the scrape before that.
	added    int
}

type row struct {
	key    string
	hash   uint64
	series uint32
	iter   uint32 // Last scrape that had it.
	pos    uint32 // Its line in order.
	typ    expfmt.Type
	typed  bool // Its labels depend on typ.
}

type series struct {
	labels model.Labels
	rows   uint32
	orphan bool // In orphans.
}

type undo struct {
	series uint32
	newest int64
}

// Values of row.series for lines that yield no sample, the two largest numbers.
const (
	droppedByRelabelling = ^uint32(0) - iota
	droppedAsReport
)

func (r *row) yields() bool { return r.series < droppedAsReport }

// Row is a row of a [Table], valid until the scrape ends.
type Row uint32

// Taken says what became of one sample.
type Taken uint8

// What becomes of a sample.
const (
	TakenOK         Taken = iota
	TakenRelabelled       // Relabelling dropped the series.
	TakenDuplicate        // The series has had a sample in this scrape, or is a report series.
	TakenUnchanged        // Its own timestamp is that of the last sample taken.
	TakenOutOfOrder       // Its own timestamp is older than that of the last sample taken.
)

// forgetAfter is how many scrapes a row that is not exposed any more is remembered, so that
// a flapping series is neither relabelled nor sent with an old timestamp again.
const forgetAfter = 10

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{seed: maphash.MakeSeed(), index: make(map[string]uint32), byLabels: make(map[model.Labels]uint32)}
}

// Time returns the time of the last scrape in milliseconds, 0 before the first.
func (t *Table) Time() int64 { return t.now }

// Len returns how many series the last scrape had that count for staleness, for status.
func (t *Table) Len() int {
	n := 0
	for _, w := range t.prev {
		n += bits.OnesCount64(w)
	}
	return n
}

// Resume prepares the table for another loop: as for a new target in Prometheus, the next
// scrape counts all of its lines as added.
func (t *Table) Resume() { t.ok = t.iter + 1 }

// Begin starts a scrape at now, in milliseconds, which is later than every earlier one.
func (t *Table) Begin(now int64) {
	t.iter++
	t.before, t.now = t.now, now
	t.pos, t.differs, t.added = 0, false, 0
}

// Hint returns the line that is expected next.
func (t *Table) Hint() expfmt.Hint {
	if t.pos < len(t.order) {
		r := &t.rows[t.order[t.pos]]
		return expfmt.Hint{Hash: r.hash, Len: len(r.key)}
	}
	return expfmt.Hint{}
}

// Expected returns the row whose key was the Hint. ok is false when its labels were made
// under another TYPE: they must be added anew.
func (t *Table) Expected(_ []byte, typ expfmt.Type) (r Row, ok bool) {
	id := t.order[t.pos]
	t.pos++
	if t.differs {
		t.next = append(t.next, id)
	}
	row := &t.rows[id]
	t.see(row)
	return Row(id), !row.typed || row.typ == typ
}

// Find returns the row of a key. ok is false when there is none, or when its labels were
// made under another TYPE.
func (t *Table) Find(key []byte, _ uint64, typ expfmt.Type) (r Row, ok bool) {
	id, ok := t.index[string(key)]
	if !ok {
		return 0, false
	}
	row := &t.rows[id]
	t.record(id)
	if t.predicts(id) {
		t.pos = int(row.pos) + 1 // What followed there follows here too, most likely.
	}
	t.see(row)
	return Row(id), !row.typed || row.typ == typ
}

// Add makes the row of a key that was not found. Empty labels say that relabelling dropped
// the series; report that it is one of the target's report series, which win. typed says
// that the labels depend on typ.
func (t *Table) Add(key []byte, hash uint64, ls model.Labels, typ expfmt.Type, typed, report bool) Row {
	id, known := t.index[string(key)]
	if known {
		t.release(t.rows[id].series)
	} else {
		if id = pop(&t.freeRows); id == none {
			id = uint32(len(t.rows))
			t.rows = append(t.rows, row{})
		}
		k := string(key)
		t.index[k] = id
		t.rows[id] = row{key: k, hash: hash, iter: t.iter}
		t.record(id)
		if ls != "" && !report {
			t.added++
		}
	}
	row := &t.rows[id]
	row.typ, row.typed = typ, typed
	switch {
	case report:
		row.series = droppedAsReport
	case ls == "":
		row.series = droppedByRelabelling
	default:
		row.series = t.seriesOf(ls)
		t.series[row.series].rows++
	}
	return Row(id)
}

// AppendLabels appends the finished label set of a row that yields samples.
func (t *Table) AppendLabels(dst []byte, r Row, _ []byte) []byte {
	return append(dst, t.series[t.rows[r].series].labels...)
}

// Dropped returns why a row yields no samples, TakenOK when it does.
func (t *Table) Dropped(r Row) Taken {
	switch t.rows[r].series {
	case droppedByRelabelling:
		return TakenRelabelled
	case droppedAsReport:
		return TakenDuplicate
	}
	return TakenOK
}

// Take records a sample of a row that is not dropped, and decides whether it may be sent.
// at is its time; own says that the exposition gave it; track that it counts for staleness.
func (t *Table) Take(r Row, at int64, own, track bool) Taken {
	id := t.rows[r].series
	word, bit := id/64, uint64(1)<<(id%64)
	if !own && t.cur[word]&bit != 0 {
		return TakenDuplicate
	}
	if own && t.newest == nil {
		t.rememberTimes(id)
	}
	if t.newest != nil {
		newest := t.newest[id]
		if at <= newest {
			if at < newest {
				return TakenOutOfOrder
			}
			if !own {
				return TakenDuplicate
			}
			if track {
				t.cur[word] |= bit
			}
			return TakenUnchanged
		}
		t.undo = append(t.undo, undo{id, newest})
		t.newest[id] = at
	}
	if track {
		t.cur[word] |= bit
	}
	return TakenOK
}

// Has reports whether a sample of the labels was taken in this scrape, one that counts for
// staleness.
func (t *Table) Has(ls model.Labels) bool {
	id, ok := t.byLabels[ls]
	return ok && t.cur[id/64]&(1<<(id%64)) != 0
}

// Added returns how many lines of this scrape yield series that the last successful one did
// not have.
func (t *Table) Added() int { return t.added }

// Stale calls yield with each series that ends with this scrape: those of the last scrape
// that this one does not have, or all of them when this one failed, which takes back all
// that Take recorded.
func (t *Table) Stale(failed bool, yield func([]byte)) {
	if failed {
		t.restore()
	}
	t.eachEnded(func(id uint32) {
		if t.newest != nil && t.newest[id] >= t.now {
			return // Its own timestamps run ahead; a marker would be out of order.
		}
		yield([]byte(t.series[id].labels))
	})
}

// Commit ends a successful scrape whose samples were handed on.
func (t *Table) Commit() {
	t.endTimes()
	switch {
	case t.differs:
		t.order, t.next = t.next, t.order[:0]
		for i, id := range t.order {
			t.rows[id].pos = uint32(i)
		}
	case t.pos < len(t.order):
		t.order = t.order[:t.pos] // Lines at the end are gone.
	}
	t.ok = t.iter
	t.prev, t.cur = t.cur, t.prev
	clear(t.cur)
	t.forget()
}

// Fail ends a failed scrape whose stale markers were handed on: the next scrape starts as
// if no series had been there, but the rows are kept.
func (t *Table) Fail() {
	t.restore()
	t.endTimes()
	clear(t.prev)
	t.forget()
}

// Abort ends a scrape of which nothing was handed on, as if it had not been.
func (t *Table) Abort() {
	t.restore()
	t.forget()
}

// see marks a row as exposed in this scrape.
func (t *Table) see(r *row) {
	if r.iter < t.ok && r.yields() {
		t.added++
	}
	r.iter = t.iter
}

// predicts reports whether the last successful scrape had the row.
func (t *Table) predicts(id uint32) bool {
	p := int(t.rows[id].pos)
	return p < len(t.order) && t.order[p] == id
}

// record notes that the row comes next in this scrape, other than predicted.
func (t *Table) record(id uint32) {
	if !t.differs {
		t.next = append(t.next[:0], t.order[:t.pos]...)
		t.differs = true
	}
	t.next = append(t.next, id)
}

func (t *Table) seriesOf(ls model.Labels) uint32 {
	if id, ok := t.byLabels[ls]; ok {
		return id
	}
	id := pop(&t.freeSeries)
	if id == none {
		id = uint32(len(t.series))
		t.series = append(t.series, series{})
		if len(t.cur)*64 <= int(id) {
			t.cur, t.prev = append(t.cur, 0), append(t.prev, 0)
		}
		if t.newest != nil {
			t.newest = append(t.newest, 0)
		}
	}
	t.series[id] = series{labels: ls}
	t.byLabels[ls] = id
	if t.newest != nil {
		t.newest[id] = 0
	}
	return id
}

// release takes a row away from a series.
func (t *Table) release(id uint32) {
	if id >= droppedAsReport {
		return
	}
	s := &t.series[id]
	if s.rows--; s.rows == 0 && !s.orphan {
		s.orphan = true
		t.orphans = append(t.orphans, id)
	}
}

// rememberTimes makes room for timestamps when the first one is exposed, by the given series.
// Others have had a sample or a stale marker in this scrape or at the latest in the one
// before; this one too, unless it is new.
func (t *Table) rememberTimes(first uint32) {
	t.newest = make([]int64, len(t.series))
	for id := range t.newest {
		word, bit := id/64, uint64(1)<<(id%64)
		switch {
		case t.cur[word]&bit != 0:
			t.newest[id] = t.now
		case t.prev[word]&bit != 0 || id != int(first):
			t.newest[id] = t.before
		}
	}
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
	t.undo = t.undo[:0]
	if t.newest == nil {
		return
	}
	t.eachEnded(func(id uint32) { t.newest[id] = max(t.newest[id], t.now) })
}

// restore takes back what Take recorded.
func (t *Table) restore() {
	for _, u := range slices.Backward(t.undo) {
		t.newest[u.series] = u.newest
	}
	t.undo = t.undo[:0]
	clear(t.cur)
}

// forget removes rows that have not been exposed for some scrapes, and all that the last
// successful scrape did not have when they are too many: a target may change its labels
// every time, or grow with every scrape that fails.
func (t *Table) forget() {
	crowded := len(t.index) > 2*len(t.order)+1000
	if !crowded && (t.iter != t.ok || len(t.index) == len(t.order)) {
		t.free()
		return
	}
	for id := range t.rows {
		r := &t.rows[id]
		free := r.iter == 0
		if free || t.predicts(uint32(id)) || !crowded && t.iter-r.iter <= forgetAfter {
			continue
		}
		t.release(r.series)
		delete(t.index, r.key)
		*r = row{}
		t.freeRows = append(t.freeRows, uint32(id))
	}
	t.free()
}

// free gives back series without rows, except those that still need a stale marker.
func (t *Table) free() {
	kept := t.orphans[:0]
	for _, id := range t.orphans {
		switch {
		case t.series[id].rows > 0:
			t.series[id].orphan = false
		case t.prev[id/64]&(1<<(id%64)) != 0:
			kept = append(kept, id)
		default:
			delete(t.byLabels, t.series[id].labels)
			t.series[id] = series{}
			t.freeSeries = append(t.freeSeries, id)
		}
	}
	t.orphans = kept
}

const none = ^uint32(0)

func pop(s *[]uint32) uint32 {
	n := len(*s)
	if n == 0 {
		return none
	}
	v := (*s)[n-1]
	*s = (*s)[:n-1]
	return v
}
