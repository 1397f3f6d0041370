package scrape

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"unique"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// families remembers the metadata of a target's metric families in the order of the last
// exposition, so that what has not changed is recognized by its hash and no string of it is
// made again. The strings themselves are kept once a process, whoever exposes them.
type families struct {
	known []familyRef
}

type familyRef struct {
	hash uint64
	meta unique.Handle[model.Metadata]
}

// familyWindow is how many known families are looked through for one that is not where the
// last exposition had it. It bounds the work for targets that shuffle very many of them.
const familyWindow = 1024

// familyReader follows the HELP, TYPE and UNIT lines of one exposition. It belongs to a pass
// and is used again for the next one.
type familyReader struct {
	seed maphash.Seed

	name, help, unit []byte // Copies: the window moves on.
	typ              expfmt.Type
	scratch          []byte

	of  *families
	pos int // In of.known.

	open     bool           // name and the rest describe the lines that follow.
	resolved bool           // meta is theirs.
	meta     model.Metadata // Valid when resolved.
	metric   uint16         // The metric looked at last, by its number in the table.
	sure     bool           // Lines of it belong to the family.
	placed   uint32         // One more than the place of meta in the present batch, 0 when not in it.
}

// begin starts an exposition of a target.
func (f *familyReader) begin(of *families) {
	f.of, f.pos, f.open, f.resolved, f.placed = of, 0, false, false, 0
}

// end drops what is not needed between expositions.
func (f *familyReader) end() { f.of, f.meta = nil, model.Metadata{} }

// line takes a line with metadata.
func (f *familyReader) line(kind expfmt.Kind, p *expfmt.Parser) {
	if name := p.Name(); !f.open || !bytes.Equal(name, f.name) {
		f.name = append(f.name[:0], name...)
		f.help, f.unit, f.typ, f.open = f.help[:0], f.unit[:0], expfmt.TypeUnknown, true
	}
	switch kind { //nolint:exhaustive // The caller has chosen.
	case expfmt.KindType:
		f.typ = p.Type()
	case expfmt.KindHelp:
		f.help = append(f.help[:0], p.Help()...)
	case expfmt.KindUnit:
		f.unit = append(f.unit[:0], p.Unit()...)
	}
	f.resolved, f.placed = false, 0
}

// flushed says that the batch was handed on, and its metadata with it.
func (f *familyReader) flushed() { f.placed = 0 }

// place returns one more than the place in the batch's metadata of the family that a line with
// the given key belongs to, and puts it there when it must. It returns 0 for a line that
// belongs to none.
func (f *familyReader) place(b *model.Batch, key []byte) uint32 {
	if !f.open {
		return 0
	}
	if !belongs(key, f.name, f.typ) {
		f.open = false // As in Prometheus: what was said is not about this line, nor the next.
		return 0
	}
	if f.placed != 0 {
		return f.placed
	}
	if !f.resolved {
		f.resolve()
	}
	b.Metadata = append(b.Metadata, f.meta)
	f.placed = uint32(len(b.Metadata))
	return f.placed
}

// resolve finds the strings of the family, or makes them.
func (f *familyReader) resolve() {
	f.resolved = true
	s := append(f.scratch[:0], byte(f.typ))
	s = binary.AppendUvarint(s, uint64(len(f.name)))
	s = binary.AppendUvarint(s, uint64(len(f.help)))
	s = append(append(append(s, f.name...), f.help...), f.unit...)
	f.scratch = s
	hash := maphash.Bytes(f.seed, s)
	known := f.of.known
	if f.pos < len(known) && known[f.pos].hash == hash {
		f.meta = known[f.pos].meta.Value()
		f.pos++
		return
	}
	for i := f.pos; i < min(len(known), f.pos+familyWindow); i++ {
		if known[i].hash == hash {
			known[f.pos], known[i] = known[i], known[f.pos]
			f.meta = known[f.pos].meta.Value()
			f.pos++
			return
		}
	}
	ref := familyRef{hash, unique.Make(model.Metadata{
		Family: string(f.name), Type: f.typ.String(), Help: string(f.help), Unit: string(f.unit),
	})}
	f.meta = ref.meta.Value()
	// The one that was expected here may follow later.
	if f.of.known = append(known, ref); f.pos < len(known) {
		f.of.known[len(known)], f.of.known[f.pos] = f.of.known[f.pos], ref
	}
	f.pos++
}

// settle ends a whole exposition: families that it did not have are forgotten.
func (f *familyReader) settle() {
	clear(f.of.known[f.pos:])
	f.of.known = f.of.known[:f.pos]
	if cap(f.of.known) > f.pos+f.pos/8+4 {
		f.of.known = append(make([]familyRef, 0, f.pos), f.of.known...)
	}
}

// belongs reports whether a line with the given key is one of a family, by its name and the
// suffixes that the type allows, as Prometheus does.
func belongs(key, family []byte, typ expfmt.Type) bool {
	if len(key) > 0 && key[0] == '{' { // {"name",label="value"}
		start := bytes.IndexByte(key, '"') + 1
		if start == 0 {
			return false
		}
		key = key[start:]
	}
	if typ == expfmt.TypeCounter {
		family = bytes.TrimSuffix(family, []byte("_total"))
	}
	if !bytes.HasPrefix(key, family) {
		return false
	}
	rest := key[len(family):]
	n := 0
	for n < len(rest) && rest[n] != '{' && rest[n] != '"' && rest[n] != ' ' && rest[n] != '\t' {
		n++
	}
	switch suffix := string(rest[:n]); suffix {
	case "":
		return true
	case "_total":
		return typ == expfmt.TypeCounter
	case "_bucket":
		return typ == expfmt.TypeHistogram || typ == expfmt.TypeGaugeHistogram
	case "_sum", "_count":
		return typ == expfmt.TypeHistogram || typ == expfmt.TypeSummary
	case "_gsum", "_gcount":
		return typ == expfmt.TypeGaugeHistogram
	case "_info":
		return typ == expfmt.TypeInfo
	default:
		return false
	}
}
