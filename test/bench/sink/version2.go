package sink

import (
	"encoding/binary"
	"errors"
)

var (
	errSymbols = errors.New("the first symbol of the request is not the empty one")
	errRefs    = errors.New("a series refers to symbols that the request does not have, or to half a label")
)

// reader2 is what reading a request of remote write 2.0 needs, kept from one to the next.
type reader2 struct {
	symbols [][]byte
	refs    []uint64
	labels  []byte
}

// request2 walks a Request of remote write 2.0. Its symbols may stand behind its series.
func (m *Metrics) request2(body []byte, counts *MetricsCounts) error {
	r := &m.reader2
	r.symbols = r.symbols[:0]
	for msg := body; len(msg) > 0; {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		if f.id == 4 {
			r.symbols = append(r.symbols, f.bytes)
		}
		msg = rest
	}
	if len(r.symbols) > 0 && len(r.symbols[0]) > 0 {
		return errSymbols
	}
	for len(body) > 0 {
		f, rest, err := take(body)
		if err != nil {
			return err
		}
		if f.id == 5 {
			if err := m.timeSeries2(f.bytes, counts); err != nil {
				return err
			}
		}
		body = rest
	}
	return nil
}

// timeSeries2 walks a TimeSeries: its references first, wherever they stand, then what belongs
// to them.
func (m *Metrics) timeSeries2(msg []byte, counts *MetricsCounts) error {
	of, err := m.reader2.origin(msg, m.verify)
	if err != nil {
		return err
	}
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		switch f.id {
		case 2:
			err = m.sample(of, f.bytes, counts)
		case 3:
			err = m.histogram(of, f.bytes, counts)
		case 4:
			counts.Exemplars++
		}
		if err != nil {
			return err
		}
		msg = rest
	}
	return nil
}

// origin resolves the labels of a series. Only with whole it makes the label set in the form
// of remote write 1.0, which is good until the next call.
func (r *reader2) origin(msg []byte, whole bool) (of origin, err error) {
	r.refs = r.refs[:0]
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return of, err
		}
		if f.id == 1 {
			if err := r.addRefs(f); err != nil {
				return of, err
			}
		}
		msg = rest
	}
	if len(r.refs) == 0 || len(r.refs)%2 != 0 {
		return of, errRefs
	}
	r.labels = r.labels[:0]
	for i := 0; i < len(r.refs); i += 2 {
		name, value := r.symbols[r.refs[i]], r.symbols[r.refs[i+1]]
		if string(name) == "__name__" {
			of.name(value)
		}
		if whole {
			r.labels = appendLabel(r.labels, name, value)
		}
	}
	of.labels = r.labels
	return of, nil
}

// addRefs takes references one by one or packed.
func (r *reader2) addRefs(f field) error {
	if f.bytes == nil {
		return r.addRef(f.number)
	}
	for b := f.bytes; len(b) > 0; {
		ref, n := binary.Uvarint(b)
		if n <= 0 {
			return errWire
		}
		if err := r.addRef(ref); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (r *reader2) addRef(ref uint64) error {
	if ref >= uint64(len(r.symbols)) {
		return errRefs
	}
	r.refs = append(r.refs, ref)
	return nil
}

// appendLabel appends a label as field 1 of a TimeSeries of remote write 1.0.
func appendLabel(dst, name, value []byte) []byte {
	size := func(n int) int { return 1 + len(binary.AppendUvarint(nil, uint64(n))) + n }
	dst = binary.AppendUvarint(append(dst, 1<<3|wireBytes), uint64(size(len(name))+size(len(value))))
	dst = append(binary.AppendUvarint(append(dst, 1<<3|wireBytes), uint64(len(name))), name...)
	return append(binary.AppendUvarint(append(dst, 2<<3|wireBytes), uint64(len(value))), value...)
}
