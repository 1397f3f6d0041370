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
	"hash/maphash"

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
	TakenDuplicate        // The series has had a sample in this scrape, or is a report series.
	TakenUnchanged        // Its own timestamp is that of the last sample taken.
	TakenOutOfOrder       // Its own timestamp is older than that of the last sample taken.
)

// Shared is what the tables of a process share. It may be used from several goroutines.
type Shared struct{}

// NewShared returns what tables share, with a seed of its own.
func NewShared() *Shared { panic("not yet") }

// Seed returns the seed of the hashes of keys, for the parser: a key's hash is
// maphash.Bytes(seed, key).
func (s *Shared) Seed() maphash.Seed { panic("not yet") }

// Mismatches returns how often the rotating audit found that a row gave other labels than
// those it was added with, since the start of the process.
func (s *Shared) Mismatches() uint64 { panic("not yet") }

// NewTable returns an empty table. target is the labels, in wire form, that most series of
// the target get from it: its own and common external ones. They are kept once a table; it is
// no error when a finished set lacks some, or has others of that name.
func (s *Shared) NewTable(target model.Labels) *Table { panic("not yet") }

// Table remembers the series of one target.
//
// A scrape is Begin; for each line Expected or Find, after either of which said no Add, and
// then Dropped, Take and AppendLabels; Stale; and then exactly one of Commit, Fail and Abort.
// A Table has one user at a time.
type Table struct{}

// Begin starts a scrape at now, in milliseconds, which is later than every earlier one.
func (t *Table) Begin(now int64) { panic("not yet") }

// Time returns the time of the last scrape in milliseconds, 0 before the first.
func (t *Table) Time() int64 { panic("not yet") }

// Hint returns what is expected of the key of the next line, zero when nothing is.
func (t *Table) Hint() expfmt.Hint { panic("not yet") }

// Expected returns the row of a line whose key met the Hint. ok is false when the row does
// not serve, because its labels were made under another TYPE or because the audit found it
// wrong: the line must be added anew.
func (t *Table) Expected(key []byte, typ expfmt.Type) (r Row, ok bool) { panic("not yet") }

// Find returns the row of a line whose key did not meet the Hint. hash is the key's. ok is
// false when there is none or when it does not serve, see Expected.
func (t *Table) Find(key []byte, hash uint64, typ expfmt.Type) (r Row, ok bool) { panic("not yet") }

// Add makes the row of a line for which Expected or Find has just said no. exposed is what
// the line shows, __name__ first, in the order of the line, unescaped and normalized; finished
// is the label set made of it, empty when relabelling dropped the series; report says that it
// is one of the target's report series, which win. typed says that the labels depend on typ.
// Nothing of the arguments is kept.
func (t *Table) Add(key []byte, hash uint64, exposed []model.Label, finished model.Labels, typ expfmt.Type, typed, report bool) Row {
	panic("not yet")
}

// Dropped returns why a row yields no samples, TakenOK when it does.
func (t *Table) Dropped(r Row) Taken { panic("not yet") }

// Take records a sample of a row that is not dropped, and decides whether it may be sent.
// at is its time; own says that the exposition gave it; track that it counts for staleness.
func (t *Table) Take(r Row, at int64, own, track bool) Taken { panic("not yet") }

// AppendLabels appends the finished label set of a row that is not dropped, in the form of
// [model.Labels]. key is the key of the line the row was found for. It allocates nothing
// beyond dst.
func (t *Table) AppendLabels(dst []byte, r Row, key []byte) []byte { panic("not yet") }

// Has reports whether a sample of the labels was taken in this scrape, one that counts for
// staleness. It is meant for a few questions at the end of a scrape.
func (t *Table) Has(ls model.Labels) bool { panic("not yet") }

// Added returns how many lines of this scrape yield series that the last successful one did
// not have.
func (t *Table) Added() int { panic("not yet") }

// Len returns how many series the last scrape had that count for staleness, for status.
func (t *Table) Len() int { panic("not yet") }

// Bytes returns how much memory the table holds, in bytes.
func (t *Table) Bytes() int { panic("not yet") }

// Resume prepares the table for another loop: as for a new target in Prometheus, the next
// scrape counts all of its lines as added.
func (t *Table) Resume() { panic("not yet") }

// Stale calls yield with the labels of each series that ends with this scrape: those of the
// last scrape that this one does not have, or all of them when this one failed, which takes
// back all that Take recorded. The bytes are valid until yield returns.
func (t *Table) Stale(failed bool, yield func(labels []byte)) { panic("not yet") }

// Commit ends a successful scrape whose samples were handed on.
func (t *Table) Commit() { panic("not yet") }

// Fail ends a failed scrape whose stale markers were handed on: the next scrape starts as
// if no series had been there, but the rows are kept.
func (t *Table) Fail() { panic("not yet") }

// Abort ends a scrape of which nothing was handed on, as if it had not been.
func (t *Table) Abort() { panic("not yet") }
