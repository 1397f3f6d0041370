// Package series remembers the series of one target between scrapes, a [Table] each, so that
// a line that was seen before costs no label work and no allocation.
//
// What is kept of a series is a row of 20 bytes: the hash of its key (name and braces as they
// stand in the line), by which it is recognized; a hash of its finished label set; and where
// its label part is found. Labels that a line shows are not kept in a form ready to send,
// they are copied from the line, guided by a template that says for each finished label where
// it comes from: the line, the labels of the target, or the template itself. The text between
// the braces is kept compressed, for the stale marker of a series whose line is gone.
//
// The package does no I/O, does not relabel and does not decide what a label set may be: the
// caller does, once a series, and gives the outcome to [Table.Add].
package series

import (
	"math/bits"
	"unique"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// Row is a row of a [Table], valid until the scrape ends.
type Row uint32

// Taken says what became of one sample.
type Taken uint8

// What becomes of a sample.
const (
	TakenOK         Taken = iota
	TakenRelabelled       // Relabelling dropped the series.
	TakenDuplicate        // The series has had a sample of that time, or is a report series.
	TakenUnchanged        // Its own timestamp is that of the last sample taken.
	TakenOutOfOrder       // Its own timestamp is older than that of the last sample taken.
)

// Table remembers the series of one target.
//
// A scrape is Begin; for each line Expected or Find, after either of which said no Add, and
// then Dropped, Again, Take or Refuse, and AppendLabels; Stale; and then exactly one of Commit,
// Fail and Abort.
// A Table has one user at a time.
type Table struct {
	shared *Shared
	target targetLabels

	hashes []uint64 // Of the keys; 0 when the row has none any more.
	rows   []row

	parts     []uint16 // The template of each part.
	texts     texts    // The text of each part.
	wholes    wholes   // Label sets of parts whose template is whole.
	templates []unique.Handle[string]
	names     []unique.Handle[string]

	long  map[uint32]int    // Lengths of keys that are too long for a row.
	alias map[uint32]uint32 // Rows whose series is that of another row.

	// order is the rows of the last successful scrape, line by line, which predicts those of
	// the next; nil while they are numbered in just that order. lines is how many there are.
	// While the prediction holds nothing is recorded; from the first line on that differs,
	// next is the new order.
	order, next []uint32
	lines, pos  int
	differs     bool
	held        int // Successful scrapes since the last that differed, negative when tidied.

	// One bit each: rows that this scrape has, rows that the last successful one had or one
	// after it, series of this scrape and of the last one that count for staleness. A series
	// has the number of the row that it came with.
	here, seen, cur, prev []uint64

	// newest is the newest timestamp taken of each series, allocated for targets that expose
	// timestamps only. undo restores it when a scrape fails.
	newest []int64
	undo   *[]undo

	free  []uint32  // Rows that may be used again.
	ended []uint32  // Rows without a key that may still need a stale marker.
	gone  []goneRow // Rows that the last successful scrape did not have.
	work  *work     // What is needed to find and add rows, nil at most times.
	freed int       // Rows freed since the parts were rewritten.
	lost  int       // Scrapes in a row that had to search for many lines.

	size     int    // Rows when this scrape began.
	iter, ok uint32 // Number of this scrape and of the last successful one.
	now      int64  // Time of this scrape, then of the last.
	before   int64  // Time of the scrape before that.
	added    int
	replaced uint32   // The row that did not serve, which Add may replace.
	made     uint32   // The row that was made last, in this scrape.
	fresh    bool     // The last line was not in the last successful scrape, nor in one after it.
	again    bool     // This scrape has had the last line before.
	refused  []uint32 // Rows of lines that were refused and fresh.
	asked    asked
}

type row struct {
	final uint32 // Hash of the finished label set.
	part  uint32
	name  uint16
	klen  uint16 // Length of the key, longKey when it does not fit.
}

type undo struct {
	series uint32
	newest int64
}

type goneRow struct{ row, last uint32 }

const (
	none = ^uint32(0)

	longKey = 1<<16 - 1 // In row.klen and as a bound on keys with spans.
	noName  = 1<<16 - 1 // In row.name, of rows whose part has the name, if one is needed.

	// Bounds of what is kept once for many rows, beyond which rows have it themselves.
	maxNames     = 1 << 13
	maxTemplates = 1 << 13

	// Values of row.part. From droppedFrom on the lower byte is why the row yields nothing.
	aliasBit    = 1 << 31
	typedBit    = 1 << 30 // The labels depend on the TYPE. Dropped rows have it too.
	partBits    = typedBit - 1
	droppedFrom = none - 255
	// In that byte, above the bits of typedAs.
	droppedReport = 1 << 7

	// forgetAfter is how many scrapes a row that is not exposed any more is remembered, so
	// that a flapping series is neither relabelled nor sent with an old timestamp again.
	// Where more than one row in 16 is kept for that, it is forgetSoon: Prometheus forgets
	// after two.
	forgetAfter = 10
	forgetSoon  = 4

	// ahead is how many rows beyond the predicted one are looked at before the index is:
	// enough for the lines of a few series that have gone.
	ahead = 6

	// Each scrape compares one in auditEvery rows with the hash of its label set.
	auditEvery = 64
)

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

// Bytes returns how much memory the table holds, in bytes. Templates and names are shared
// with other tables and not counted.
func (t *Table) Bytes() int {
	n := tableBytes + cap(t.target.wire) + 2*cap(t.target.at) +
		8*cap(t.hashes) + rowBytes*cap(t.rows) +
		2*cap(t.parts) + t.texts.bytes() + t.wholes.size() +
		8*(cap(t.templates)+cap(t.names)) +
		mapEntryBytes*(len(t.long)+len(t.alias)) +
		4*(cap(t.order)+cap(t.next)+cap(t.free)+cap(t.ended)) + 8*cap(t.gone) +
		8*(cap(t.here)+cap(t.seen)+cap(t.cur)+cap(t.prev)) + 8*cap(t.newest)
	if t.work != nil {
		n += t.work.bytes()
	}
	return n
}

const (
	tableBytes    = 736
	rowBytes      = 12
	mapEntryBytes = 24
)

// Resume prepares the table for another loop: as for a new target in Prometheus, the next
// scrape counts all of its lines as added.
func (t *Table) Resume() { clear(t.seen) }

// Begin starts a scrape at now, in milliseconds, which is later than every earlier one.
func (t *Table) Begin(now int64) {
	t.iter++
	t.before, t.now = t.now, now
	t.pos, t.differs, t.added, t.replaced, t.made, t.asked.size = 0, false, 0, none, none, 0
	t.fresh, t.again, t.size = false, false, len(t.rows)
}

// Hint returns what is expected of the key of the next line, zero when nothing is.
func (t *Table) Hint() expfmt.Hint {
	if t.pos >= t.lines {
		return expfmt.Hint{}
	}
	id := t.predicted(t.pos)
	return expfmt.Hint{Hash: t.hashes[id], Len: t.keyLen(id)}
}

// Expected returns the row of a line whose key met the Hint. ok is false when the row does
// not serve, because its labels were made under another TYPE or because the audit found it
// wrong: the line must be added anew.
func (t *Table) Expected(key []byte, typ expfmt.Type) (r Row, ok bool) {
	id := t.predicted(t.pos)
	if !t.serves(id, key, typ) {
		t.replaced = id
		return 0, false
	}
	t.pos++
	if t.differs {
		t.next = append(t.next, id)
	}
	t.see(id)
	return Row(id), true
}

// Find returns the row of a line whose key did not meet the Hint. hash is the key's. ok is
// false when there is none or when it does not serve, see Expected.
func (t *Table) Find(key []byte, hash uint64, typ expfmt.Type) (r Row, ok bool) {
	t.replaced = none
	id, pos := t.asked.id, t.asked.line
	if t.asked.hash != hash || t.asked.size != len(key) {
		id, pos = t.lookup(hash, len(key))
	}
	t.asked.size = 0
	if id == none {
		return 0, false
	}
	if !t.serves(id, key, typ) {
		t.replaced = id
		return 0, false
	}
	t.record(id)
	if pos >= 0 {
		t.pos = pos + 1 // What followed there follows here too, most likely.
	}
	t.see(id)
	return Row(id), true
}

// Dropped returns why a row yields no samples, TakenOK when it does.
func (t *Table) Dropped(r Row) Taken {
	switch part := t.rows[r].part; {
	case part < droppedFrom:
		return TakenOK
	case part&droppedReport != 0:
		return TakenDuplicate
	}
	return TakenRelabelled
}

// AppendLabels appends the finished label set of a row that is not dropped, in the form of
// [model.Labels]. key is the key of the line the row was found for. It allocates nothing
// beyond dst.
func (t *Table) AppendLabels(dst []byte, r Row, key []byte) []byte {
	row := &t.rows[r]
	if row.name == noName {
		return t.appendUnnamed(dst, row.part&partBits, key)
	}
	name := len(t.names[row.name].Value())
	if name > len(key) {
		return dst // Ruled out by the hash of keys.
	}
	return t.template(row.part&partBits).append(dst, key, name, &t.target)
}

// appendUnnamed is AppendLabels for a row that has no name.
func (t *Table) appendUnnamed(dst []byte, part uint32, key []byte) []byte {
	p := t.template(part)
	if p.isWhole() {
		return append(dst, t.wholes.get(t.shared, part)...)
	}
	return p.append(dst, key, nameEnd(key), &t.target)
}

// Name returns a number that rows share whose lines have the same metric name before their
// braces, for this scrape; ok is false when it is not known.
func (t *Table) Name(r Row) (number uint16, ok bool) {
	number = t.rows[r].name
	return number, number != noName
}

// Has reports whether a sample of the labels was taken in this scrape, one that counts for
// staleness. It is meant for questions at the end of a scrape.
func (t *Table) Has(ls model.Labels) bool {
	id := t.finished([]byte(ls))
	return id != none && t.cur[id/64]&(1<<(id%64)) != 0
}

// Added returns how many lines of this scrape yield series that the last successful one did
// not have.
func (t *Table) Added() int { return t.added }

// predicted returns the row of a line of the last successful scrape.
func (t *Table) predicted(line int) uint32 {
	if t.order != nil {
		return t.order[line]
	}
	return uint32(line)
}

func (t *Table) keyLen(id uint32) int {
	if n := t.rows[id].klen; n != longKey {
		return int(n)
	}
	return t.long[id]
}

// series returns the number of a row's series.
func (t *Table) series(id uint32) uint32 {
	if part := t.rows[id].part; part&aliasBit != 0 && part < droppedFrom {
		return t.alias[id]
	}
	return id
}

func (t *Table) template(part uint32) template {
	return template(t.templates[t.parts[part]].Value())
}

// serves reports whether the row's labels are right for a line.
func (t *Table) serves(id uint32, key []byte, typ expfmt.Type) bool {
	if part := t.rows[id].part; part&typedBit != 0 {
		if part >= droppedFrom {
			return suits(byte(part)&^droppedReport, typ)
		}
		if !suits(t.template(part & partBits)[0], typ) {
			return false
		}
	}
	return (id+t.iter)%auditEvery != 0 || t.audit(id, key)
}

// audit reports whether the row yields the labels that it was added with.
func (t *Table) audit(id uint32, key []byte) bool {
	m := t.shared.scratch()
	m.labels = t.AppendLabels(m.labels[:0], Row(id), key)
	ok := t.shared.final(m.labels) == t.rows[id].final
	t.shared.free(m)
	if !ok {
		t.shared.mismatches.Add(1)
	}
	return ok
}

// see marks a row as exposed in this scrape.
func (t *Table) see(id uint32) {
	word, bit := id/64, uint64(1)<<(id%64)
	t.again = t.here[word]&bit != 0
	if t.fresh = t.seen[word]&bit == 0; t.fresh {
		t.seen[word] |= bit
		if t.rows[id].part < droppedFrom {
			t.added++
		}
	}
	t.here[word] |= bit
}

// record notes that the row comes next in this scrape, other than predicted.
func (t *Table) record(id uint32) {
	if !t.differs {
		if t.order == nil && t.pos >= t.lines && int(id) == t.pos {
			t.pos++ // A new row at the end has the number of its line.
			return
		}
		t.differs = true
		t.next = make([]uint32, t.pos, max(t.lines, t.pos)+t.lines/16+16)
		for i := range t.next {
			t.next[i] = t.predicted(i)
		}
	}
	t.next = append(t.next, id)
}
