package remotewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

// Codec answers what a queue has to know of the requests of an endpoint. It is meant for the
// rare: a request that is too large, or in a format that the endpoint does not take.
type Codec struct {
	auto   bool
	v1, v2 http.Header
	v1Zstd http.Header
}

var _ delivery.Codec = (*Codec)(nil)

// NewCodec returns the codec of an endpoint's queue.
func NewCodec(c EndpointConfig) *Codec {
	return &Codec{auto: c.ProtobufMessage == MessageAuto, v1: header(Format1), v2: header(Format2), v1Zstd: header(Format1Zstd)}
}

// Header implements [delivery.Codec].
func (c *Codec) Header(format byte) http.Header {
	switch format {
	case Format2:
		return c.v2
	case Format1Zstd:
		return c.v1Zstd
	default:
		return c.v1
	}
}

// Written implements [delivery.Codec]. An endpoint that was not asked whether it knows 2.0 and
// does not say what it has written has, by the specification, written nothing.
func (c *Codec) Written(h http.Header, format byte, items int) (accepted int, known bool) {
	if format != Format2 {
		return items, true
	}
	n, known := written(h)
	if !known && !c.auto {
		return 0, true
	}
	return min(n, items), known
}

var (
	errTruncated = errors.New("the request is damaged: a field ends beyond the end")
	errForeign   = errors.New("the request is damaged: a series has fields that were not written by this program")
)

// field is one field of a protobuf message.
type field struct {
	number int
	wire   byte
	varint uint64 // of fields that are numbers
	value  []byte // of fields that have a length
	whole  []byte // tag included
}

// tag returns the first byte of the field, which is the whole tag of all fields that we write
// but one.
func (f field) tag() byte { return f.whole[0] }

// nextField splits off the first field of a message.
func nextField(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > math.MaxInt32 {
		return field{}, nil, errTruncated
	}
	f = field{number: int(tag >> 3), wire: byte(tag & 7)}
	at := n
	switch f.wire {
	case wireVarint:
		if f.varint, n = binary.Uvarint(b[at:]); n <= 0 {
			return field{}, nil, errTruncated
		}
		at += n
	case wireFixed64:
		if len(b)-at < 8 {
			return field{}, nil, errTruncated
		}
		f.varint = binary.LittleEndian.Uint64(b[at:])
		at += 8
	case wireBytes:
		size, n := binary.Uvarint(b[at:])
		if n <= 0 || size > uint64(len(b)-at-n) {
			return field{}, nil, errTruncated
		}
		f.value = b[at+n : at+n+int(size)]
		at += n + int(size)
	default:
		return field{}, nil, fmt.Errorf("the request is damaged: field %d has wire type %d", f.number, f.wire)
	}
	f.whole = b[:at]
	return f, b[at:], nil
}

// fields calls visit for every field of a message.
func fields(b []byte, visit func(field) error) error {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// Split implements [delivery.Codec]. The border lies between two series, or two families of
// metadata. In 2.0 both halves keep only the symbols they need.
func (c *Codec) Split(format byte, body []byte) (left, right delivery.Part, err error) {
	raw, err := decodeBody(format, body)
	if err != nil {
		return left, right, err
	}
	if format == Format2 {
		return split2(raw)
	}
	return split1(format, raw)
}

func split1(format byte, raw []byte) (left, right delivery.Part, err error) {
	var all []field
	err = fields(raw, func(f field) error {
		all = append(all, f)
		return nil
	})
	if err != nil {
		return left, right, err
	}
	if len(all) < 2 {
		return left, right, delivery.ErrWhole
	}
	part := func(fs []field) (p delivery.Part) {
		var half []byte
		for _, f := range fs {
			half = append(half, f.whole...)
			if f.number == tagSeries1>>3 {
				p.Items++
			}
		}
		p.Body, err = encodeBody(format, half)
		return p
	}
	middle := len(all) / 2
	if left = part(all[:middle]); err != nil {
		return left, right, err
	}
	right = part(all[middle:])
	return left, right, err
}

// request2 is a request of 2.0 taken apart.
type request2 struct {
	symbols [][]byte
	series  []field
}

func readRequest2(raw []byte) (r request2, err error) {
	err = fields(raw, func(f field) error {
		switch {
		case f.number == tagSymbols>>3 && f.wire == wireBytes:
			r.symbols = append(r.symbols, f.value)
		case f.number == tagSeries2>>3 && f.wire == wireBytes:
			r.series = append(r.series, f)
		}
		return nil
	})
	return r, err
}

// symbol returns the string of a reference.
func (r *request2) symbol(ref uint64) ([]byte, error) {
	if ref >= uint64(len(r.symbols)) {
		return nil, fmt.Errorf("the request is damaged: it refers to symbol %d of %d", ref, len(r.symbols))
	}
	return r.symbols[ref], nil
}
