package remotewrite

import (
	"encoding/binary"
	"slices"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// merger appends one request of 2.0 to another. References are those of a request, so all
// that are in the series of the one are replaced by what the other calls the same string.
type merger struct {
	refs  []uint32 // of the one, by reference of the other
	label []byte   // scratch
	inner []byte   // scratch
	body  []byte   // scratch
}

// merge appends all series of src to dst. src was made by an encoder2, so it is well-formed.
func (m *merger) merge(dst, src *builder) {
	m.refs = slices.Grow(m.refs[:0], len(src.all))[:len(src.all)]
	m.refs[0] = 0
	for i := 1; i < len(src.all); i++ {
		y := src.all[i]
		m.refs[i] = add(&dst.symbols, src.wire[y.from:y.to], y.hash)
	}
	for rest := src.series; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		end := 1 + n + int(size)
		m.appendSeries(dst, rest[1+n:end])
		rest = rest[end:]
	}
	dst.samples += src.samples
}

func (m *merger) appendSeries(dst *builder, series []byte) {
	at := plainPrefix(series)
	plain, rest := series[:at], series[at:]
	m.label = m.label[:0]
	if len(rest) > 0 && rest[0] == tagRefs {
		m.label, rest = m.mapRefs(m.label, rest)
	}
	// What follows are exemplars and metadata, which few samples have.
	m.body = m.mapFields(m.body[:0], rest)
	out := append(dst.series, tagSeries2)
	out = binary.AppendUvarint(out, uint64(len(plain)+len(m.label)+len(m.body)))
	out = append(out, plain...)
	out = append(out, m.label...)
	dst.series = append(out, m.body...)
}

// plainPrefix returns how much of the fields of a series holds no reference.
func plainPrefix(fields []byte) int {
	at := 0
	for at < len(fields) && (fields[at] == tagSamples || fields[at] == tagHist2) {
		size, n := binary.Uvarint(fields[at+1:])
		at += 1 + n + int(size)
	}
	return at
}

// mapRefs appends the field labels_refs at the front of src with other references, and
// returns what follows it.
func (m *merger) mapRefs(dst, src []byte) (mapped, rest []byte) {
	size, n := binary.Uvarint(src[1:])
	refs := src[1+n : 1+n+int(size)]
	start := len(dst) + 2
	dst = slices.Grow(append(dst, tagRefs, 0), binary.MaxVarintLen32*len(refs))
	out, at := dst[:cap(dst)], start
	for i := 0; i < len(refs); {
		ref := uint64(refs[i])
		i++
		if ref >= 0x80 {
			// Most references have two bytes.
			if ref += uint64(refs[i])<<7 - 0x80; refs[i] < 0x80 {
				i++
			} else {
				var used int
				ref, used = binary.Uvarint(refs[i-1:])
				i += used - 1
			}
		}
		v := m.refs[ref]
		switch {
		case v < 1<<7:
			out[at] = byte(v)
			at++
		case v < 1<<14:
			out[at], out[at+1] = byte(v)|0x80, byte(v>>7)
			at += 2
		default:
			at += binary.PutUvarint(out[at:], uint64(v))
		}
	}
	written := at - start
	dst = out[:at]
	if extra := model.UvarintLen(uint64(written)) - 1; extra > 0 {
		dst = slices.Insert(dst, start, make([]byte, extra)...)
	}
	binary.PutUvarint(dst[start-1:], uint64(written))
	return dst, src[1+n+int(size):]
}

// mapFields appends exemplars and metadata with other references.
func (m *merger) mapFields(dst, fields []byte) []byte {
	for len(fields) > 0 {
		tag := fields[0]
		size, n := binary.Uvarint(fields[1:])
		whole, message := fields[:1+n+int(size)], fields[1+n:1+n+int(size)]
		fields = fields[len(whole):]
		switch tag {
		case tagMetadata2:
			dst = m.mapMetadata(dst, message)
			continue
		case tagSamples, tagHist2: // Behind the labels in requests of other programs.
			dst = append(dst, whole...)
			continue
		}
		m.inner = m.inner[:0]
		if len(message) > 0 && message[0] == tagRefs {
			m.inner, message = m.mapRefs(m.inner, message)
		}
		dst = append(dst, tag)
		dst = binary.AppendUvarint(dst, uint64(len(m.inner)+len(message)))
		dst = append(dst, m.inner...)
		dst = append(dst, message...)
	}
	return dst
}

func (m *merger) mapMetadata(dst, message []byte) []byte {
	var kind byte
	var help, unit uint32
	for len(message) > 0 {
		v, n := binary.Uvarint(message[1:])
		switch message[0] {
		case tagType:
			kind = byte(v)
		case tagHelp:
			help = m.refs[v]
		case tagUnit:
			unit = m.refs[v]
		}
		message = message[1+n:]
	}
	return appendMetadata2(dst, kind, help, unit)
}
