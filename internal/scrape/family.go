package scrape

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"unicode/utf8"
	"unique"

	prommodel "github.com/prometheus/common/model"

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

const (
	// maxHelp is how long a HELP may be, in bytes. What is longer is cut; backends cut it at
	// 1 KiB, or refuse it.
	maxHelp = 8 << 10
	// maxFamilies bounds what the families of a target take, in bytes, of which each takes
	// familyBytes beside its texts. Those behind it are sent without metadata.
	maxFamilies = 8 << 20
	familyBytes = 160
	// maxKept is how much scratch is kept between expositions, in bytes.
	maxKept = 64 << 10
)

// familyReader follows the HELP, TYPE and UNIT lines of one exposition. It belongs to a pass
// and is used again for the next one.
type familyReader struct {
	seed maphash.Seed

	name, help, unit []byte // Copies: the window moves on.
	typ              expfmt.Type
	scratch          []byte

	of    *families
	pos   int // In of.known.
	spent int // Bytes that the families of this exposition take.

	open     bool           // name and the rest describe the lines that follow.
	resolved bool           // meta is theirs.
	meta     model.Metadata // Valid when resolved.
	metric   uint16         // The metric looked at last, by its number in the table.
	sure     bool           // Lines of it belong to the family.
	placed   uint32         // One more than the place of meta in the present batch, 0 when not in it.
}

// begin starts an exposition of a target.
func (f *familyReader) begin(of *families) {
	f.of, f.pos, f.spent, f.open, f.resolved, f.placed = of, 0, 0, false, false, 0
}

// end drops what is not needed between expositions.
func (f *familyReader) end() {
	f.of, f.meta = nil, model.Metadata{}
	if cap(f.name)+cap(f.help)+cap(f.unit)+cap(f.scratch) > maxKept {
		f.name, f.help, f.unit, f.scratch = nil, nil, nil, nil
	}
}

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
		f.help = append(f.help[:0], cutText(p.Help(), maxHelp)...)
	case expfmt.KindUnit:
		f.unit = append(f.unit[:0], p.Unit()...)
	}
	f.resolved, f.placed = false, 0
}

// flushed says that the batch was handed on, and its metadata with it.
func (f *familyReader) flushed() { f.placed = 0 }

// place returns one more than the place in the batch's metadata of the family that a metric
// belongs to, and puts it there when it must. It returns 0 for a metric that belongs to none,
// and for families that are more than a target may have.
func (f *familyReader) place(b *model.Batch, metric []byte) uint32 {
	if !f.open {
		return 0
	}
	if !belongs(metric, f.name, f.typ) {
		f.open = false // As in Prometheus: what was said is not about this line, nor the next.
		return 0
	}
	if f.placed != 0 {
		return f.placed
	}
	if !f.resolved {
		if f.spent += familyBytes + len(f.name) + len(f.help) + len(f.unit); f.spent > maxFamilies {
			f.open = false
			return 0
		}
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

// cutText returns at most the first n bytes of a text, of whole characters.
func cutText(text []byte, n int) []byte {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// settle ends a whole exposition: families that it did not have are forgotten.
func (f *familyReader) settle() {
	clear(f.of.known[f.pos:])
	f.of.known = f.of.known[:f.pos]
	if cap(f.of.known) > f.pos+f.pos/8+4 {
		f.of.known = append(make([]familyRef, 0, f.pos), f.of.known...)
	}
}

// metricName returns the metric name of a key, which stands before the braces or, quoted, as
// the first thing inside them. It is empty when there is none. It is found sooner when it begins
// with the name of a family.
func metricName(key, family []byte) []byte {
	if len(key) > 0 && key[0] == '{' { // {"name",label="value"}
		start := bytes.IndexByte(key, '"') + 1
		if start == 0 {
			return nil
		}
		key = key[start:]
	}
	n := 0
	if bytes.HasPrefix(key, family) {
		n = len(family)
	}
	for n < len(key) && key[n] != '{' && key[n] != '"' && key[n] != ' ' && key[n] != '\t' {
		n++
	}
	return key[:n]
}

// finishedName returns the metric name of a finished label set, in the form of [model.Labels],
// without making a string of it. It is empty when there is none.
func finishedName(ls []byte) []byte {
	field := func(b []byte) (value, rest []byte) {
		if len(b) == 0 {
			return nil, nil
		}
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return nil, nil
		}
		return b[1+n : 1+n+int(size)], b[1+n+int(size):]
	}
	for len(ls) > 0 {
		var label []byte
		label, ls = field(ls)
		name, rest := field(label)
		if string(name) == prommodel.MetricNameLabel {
			value, _ := field(rest)
			return value
		}
	}
	return nil
}

// belongs reports whether a metric is one of a family, by its name and the suffixes that the
// type allows. The rules are those of Prometheus, odd ones too: a counter named x is none of
// the family x_total, and a histogram may not be named x_sum.
func belongs(metric, family []byte, typ expfmt.Type) bool {
	if !bytes.HasPrefix(metric, family) {
		return false
	}
	cut := func(name []byte, suffixes ...string) []byte {
		for _, s := range suffixes {
			if len(name) >= len(s) && string(name[len(name)-len(s):]) == s {
				return name[:len(name)-len(s)]
			}
		}
		return name
	}
	switch typ { //nolint:exhaustive // The others have no suffixes.
	case expfmt.TypeCounter:
		metric, family = cut(metric, "_total"), cut(family, "_total")
	case expfmt.TypeHistogram:
		metric = cut(metric, "_bucket", "_sum", "_count")
	case expfmt.TypeGaugeHistogram:
		metric = cut(metric, "_bucket", "_gsum", "_gcount")
	case expfmt.TypeSummary:
		metric = cut(metric, "_sum", "_count")
	case expfmt.TypeInfo:
		metric, family = cut(metric, "_info"), cut(family, "_info")
	}
	return bytes.Equal(metric, family)
}
