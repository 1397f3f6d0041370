package series

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// template says how the finished labels of a line are put together from the line itself. It
// is a small program, in bytes so that equal ones are kept once a process:
//
//	typed and type | uses | room, 2 bytes | n | n gaps | steps
//
// A line is looked at as a row of quoted strings: gap i is how many bytes stand between the
// end of string i-1, or of the metric name, and the beginning of string i. Nothing else is
// looked at, since the hash of the key has already told that the line is the one that the
// template was tried on. room is what the steps may write besides the labels of the target
// and the strings, and uses how often they may write the same string.
type template string

// The steps, each with its operands. Labels come out in their final order.
const (
	stepName   = iota // The metric name of the line.
	stepRaw           // string, length of the name: a label as the line has it.
	stepAs            // string, length of the name, name: a string under another name.
	stepTarget        // from, to: labels of the target, by number.
	stepText          // length, 2 bytes, labels in wire form.
	stepWhole         // Nothing comes from the line; the part has it all.
)

const (
	templateHead = 5
	maxStrings   = 64
	maxGap       = 255
	nameLabel    = "__name__"
	// slack is room for a label's own bytes around name and value: three tags and lengths of
	// messages of at most 64 KiB.
	slack = 12
)

// typedAs packs what a template or a dropped row must know of the type of its line.
func typedAs(typ expfmt.Type, typed bool) byte {
	if !typed {
		return 0
	}
	return 1 | byte(typ)<<1
}

// suits reports whether labels made under packed are right for typ too.
func suits(packed byte, typ expfmt.Type) bool { return packed == 0 || packed == typedAs(typ, true) }

// whole is the template of a line of which nothing can be copied.
func whole(typed byte) template { return template([]byte{typed, 0, 0, 0, 0, stepWhole}) }

func (p template) isWhole() bool {
	return len(p) == templateHead+1 && p[templateHead] == stepWhole
}

// span is a part of a line. Lines that are longer than 64 KiB have no spans.
type span struct{ from, to uint16 }

// nameEnd returns where the metric name ends and the braces begin.
func nameEnd(key []byte) int {
	if i := bytes.IndexByte(key, '{'); i >= 0 {
		return i
	}
	return len(key)
}

// maker makes templates.
type maker struct {
	strings []span
	prog    []byte
	out     []byte
}

// make returns a template that turns key into finished, ok is false when there is none.
func (m *maker) make(key []byte, finished model.Labels, t *targetLabels, typed byte) (template, bool) {
	if len(key) >= longKey {
		return "", false
	}
	name := nameEnd(key)
	if !m.split(key, name) {
		return "", false
	}
	var uses [maxStrings]byte
	last, room := -1, 0
	steps := m.prog[:0]
	text := -1 // Where the last step begins, when it is stepText.
	targets := -1
	for n, v, raw, rest, ok := finished.Next(); ok; n, v, raw, rest, ok = rest.Next() {
		at, was := len(steps), text
		wasTargets := targets
		text, targets = -1, -1
		if n == nameLabel && v == string(key[:name]) {
			steps = append(steps, stepName)
			room += len(nameLabel) + len(v) + slack
			continue
		}
		if i := t.find(raw); i >= 0 {
			if wasTargets >= 0 && int(steps[wasTargets+2]) == i {
				steps[wasTargets+2]++
				targets = wasTargets
			} else {
				steps = append(steps, stepTarget, byte(i), byte(i+1))
				targets = at
			}
			continue
		}
		if i, verbatim := m.find(key, n, v); i >= 0 && len(n) < 128 {
			last = max(last, i)
			uses[i]++
			room += len(n) + slack
			if verbatim {
				steps = append(steps, stepRaw, byte(i), byte(len(n)))
			} else {
				steps = append(append(steps, stepAs, byte(i), byte(len(n))), n...)
			}
			continue
		}
		room += len(raw)
		if was < 0 {
			steps = append(steps, stepText, 0, 0)
			was = at
		}
		steps = append(steps, raw...)
		text = was
		if size := len(steps) - was - 3; size < 1<<16 {
			binary.LittleEndian.PutUint16(steps[was+1:], uint16(size))
		}
	}
	m.prog = steps
	if room >= 1<<16 {
		return "", false
	}
	head := m.out[:0]
	head = append(head, typed, slices.Max(uses[:]))
	head = binary.LittleEndian.AppendUint16(head, uint16(room))
	head = append(head, byte(last+1))
	end := name
	for _, s := range m.strings[:last+1] {
		head = append(head, byte(int(s.from)-end))
		end = int(s.to)
	}
	m.out = append(head, steps...)
	return template(m.out), true
}

// split finds the quoted strings of a key the way [template.append] does.
func (m *maker) split(key []byte, name int) bool {
	m.strings = m.strings[:0]
	for end, at := name, name; ; {
		i := bytes.IndexByte(key[at:], '"')
		if i < 0 {
			return true
		}
		from := at + i + 1
		j := bytes.IndexByte(key[from:], '"')
		if j < 0 {
			return true
		}
		if len(m.strings) == maxStrings || from-end > maxGap {
			return false
		}
		m.strings = append(m.strings, span{uint16(from), uint16(from + j)})
		end = from + j
		at = end + 1
	}
}

// find returns the string with the given value that belongs to a label of the given name,
// or to one whose name is related, or else any, and whether the label stands there verbatim.
func (m *maker) find(key []byte, name, value string) (i int, verbatim bool) {
	i, related := -1, false
	for k, s := range m.strings {
		if string(key[s.from:s.to]) != value {
			continue
		}
		before, ok := bytes.CutSuffix(key[:s.from], []byte(`="`))
		if !ok {
			if i < 0 {
				i = k
			}
			continue
		}
		label := string(before[bytes.LastIndexAny(before, "{,\" ")+1:])
		switch {
		case label == name:
			return k, true
		case !related && (strings.HasSuffix(name, label) || strings.HasPrefix(label, name)):
			i, related = k, true
		case i < 0:
			i = k
		}
	}
	return i, false
}

// targetLabels is the labels of the target.
type targetLabels struct {
	wire []byte   // With four chunks behind the labels, so that they can be copied by chunks.
	size int      // Without it.
	at   []uint16 // Where each begins, and the end.
}

// maxTarget is how many bytes of the target's labels templates may refer to. Others are
// kept with the series.
const maxTarget = 1<<16 - 1

func newTargetLabels(ls model.Labels) (t targetLabels) {
	for _, _, raw, rest, ok := ls.Next(); ok; _, _, raw, rest, ok = rest.Next() {
		end := len(ls) - len(rest)
		if end > maxTarget || len(t.at) == 255 {
			break
		}
		t.at = append(t.at, uint16(end-len(raw)))
		t.size = end
	}
	t.at = slices.Clip(append(t.at, uint16(t.size)))
	t.wire = make([]byte, t.size+4*chunk)
	copy(t.wire, ls[:t.size])
	return t
}

// find returns the number of the label with the given wire form, -1 when there is none.
func (t *targetLabels) find(raw model.Labels) int {
	for i := range len(t.at) - 1 {
		if string(t.wire[t.at[i]:t.at[i+1]]) == string(raw) {
			return i
		}
	}
	return -1
}
