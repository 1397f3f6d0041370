package remotewrite

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func split2(raw []byte) (left, right delivery.Part, err error) {
	r, err := readRequest2(raw)
	if err != nil {
		return left, right, err
	}
	if len(r.series) < 2 {
		return left, right, delivery.ErrWhole
	}
	middle := len(r.series) / 2
	if left, err = r.part(r.series[:middle]); err != nil {
		return left, right, err
	}
	right, err = r.part(r.series[middle:])
	return left, right, err
}

// part makes a request of some of the series.
func (r *request2) part(series []field) (delivery.Part, error) {
	b := newBuilder(maphash.MakeSeed())
	m := merger{refs: make([]uint32, len(r.symbols))}
	for _, s := range series {
		if err := r.addSymbols(b, &m, s.value); err != nil {
			return delivery.Part{}, err
		}
		m.appendSeries(b, s.value)
	}
	body, err := encodeBody(Format2, append(b.wire, b.series...))
	return delivery.Part{Body: body, Items: len(series)}, err
}

// addSymbols gives every symbol that a series refers to a reference in b. It checks all that
// merger takes for granted.
func (r *request2) addSymbols(b *builder, m *merger, series []byte) error {
	use := func(ref uint64) error {
		s, err := r.symbol(ref)
		if err == nil {
			m.refs[ref] = b.ref(s)
		}
		return err
	}
	useAll := func(refs []byte) error {
		for len(refs) > 0 {
			ref, n := binary.Uvarint(refs)
			if n <= 0 {
				return errTruncated
			}
			if err := use(ref); err != nil {
				return err
			}
			refs = refs[n:]
		}
		return nil
	}
	plain := true // so far
	return fields(series, func(f field) error {
		before := plain
		plain = f.tag() == tagSamples || f.tag() == tagHist2
		switch tag := f.tag(); {
		case tag == tagRefs && before:
			return useAll(f.value)
		case plain:
			plain = before
			return nil
		case tag == tagExemplars2:
			first := true
			return fields(f.value, func(f field) error {
				defer func() { first = false }()
				switch {
				case f.tag() == tagRefs && first:
					return useAll(f.value)
				case f.tag() == tagExemplarValue, f.tag() == tagExemplarTime:
					return nil
				}
				return errForeign
			})
		case tag == tagMetadata2:
			return fields(f.value, func(f field) error {
				switch f.tag() {
				case tagHelp, tagUnit:
					return use(f.varint)
				case tagType:
					return nil
				}
				return errForeign
			})
		}
		return errForeign
	})
}

// Fallback implements [delivery.Codec]: from 2.0 to 1.0, if the configuration leaves the choice.
// Histograms with custom buckets are left out, start timestamps and metadata are lost, the
// latter until the next sending of metadata in 1.0.
func (c *Codec) Fallback(format byte, body []byte) (other byte, part delivery.Part, err error) {
	if format != Format2 || !c.auto {
		return 0, part, delivery.ErrNoFallback
	}
	raw, err := decodeBody(format, body)
	if err != nil {
		return 0, part, err
	}
	r, err := readRequest2(raw)
	if err != nil {
		return 0, part, err
	}
	var out, series []byte
	for _, s := range r.series {
		var sendable bool
		if series, sendable, err = r.appendAs1(series[:0], s.value); err != nil {
			return 0, part, err
		}
		if !sendable {
			continue
		}
		out = append(out, tagSeries1)
		out = binary.AppendUvarint(out, uint64(len(series)))
		out = append(out, series...)
		part.Items++
	}
	part.Body, err = encodeBody(Format1, out)
	return Format1, part, err
}

// appendAs1 appends the fields of a series in 1.0. sendable is false if it has a histogram
// that 1.0 lacks.
func (r *request2) appendAs1(dst, series []byte) (out []byte, sendable bool, err error) {
	sendable = true
	var message []byte
	err = fields(series, func(f field) error {
		message = message[:0]
		var failed error
		switch f.number<<3 | int(f.wire) {
		case tagRefs:
			dst, failed = r.appendLabels1(dst, f.value)
			return failed
		case tagSamples:
			failed = fields(f.value, func(f field) error {
				if f.number != tagStart>>3 {
					message = append(message, f.whole...)
				}
				return nil
			})
			dst = append(dst, tagSamples)
		case tagHist2:
			failed = fields(f.value, func(f field) error {
				if f.number == customValues || f.number == schemaField && f.varint == customSchema {
					sendable = false
				}
				if f.number != tagHistStart>>3 {
					message = append(message, f.whole...)
				}
				return nil
			})
			dst = append(dst, tagHist1)
		case tagExemplars2:
			failed = fields(f.value, func(f field) error {
				if f.number<<3|int(f.wire) == tagRefs {
					message, failed = r.appendLabels1(message, f.value)
					return failed
				}
				message = append(message, f.whole...)
				return nil
			})
			dst = append(dst, tagExemplars1)
		default:
			return nil
		}
		dst = binary.AppendUvarint(dst, uint64(len(message)))
		dst = append(dst, message...)
		return failed
	})
	return dst, sendable, err
}

// Fields of a native histogram that say that its buckets are custom.
const (
	schemaField  = 4
	customValues = 16
	customSchema = 2*53 - 1 // -53 as a sint32
)

// appendLabels1 appends the labels of references.
func (r *request2) appendLabels1(dst, refs []byte) ([]byte, error) {
	for len(refs) > 0 {
		name, n := binary.Uvarint(refs)
		if n <= 0 {
			return dst, errTruncated
		}
		value, m := binary.Uvarint(refs[n:])
		if m <= 0 {
			return dst, errTruncated
		}
		refs = refs[n+m:]
		nameText, err := r.symbol(name)
		if err != nil {
			return dst, err
		}
		valueText, err := r.symbol(value)
		if err != nil {
			return dst, err
		}
		dst = model.AppendLabel(dst, string(nameText), valueText)
	}
	return dst, nil
}
