package loki

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"

	"github.com/klauspost/compress/snappy"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

// maxRaw bounds a request that is decompressed again, far above what a writer makes.
const maxRaw = 256 << 20

// Codec answers what a queue has to know of push requests: it divides one that is too large, and
// reads from Loki's words which lines were refused (answers.go).
type Codec struct{}

var _ delivery.Refuser = Codec{}

// Header implements [delivery.Codec]: there is one format, whose headers are those of [Header].
func (Codec) Header(byte) http.Header { return nil }

// Fallback implements [delivery.Codec].
func (Codec) Fallback(byte, []byte) (byte, delivery.Part, error) {
	return 0, delivery.Part{}, delivery.ErrNoFallback
}

// Written implements [delivery.Codec]: Loki says it in words only.
func (Codec) Written(_ http.Header, _ byte, items int) (accepted int, known bool) { return items, true }

// Split implements [delivery.Codec]. The border lies between two lines; lines keep their order.
func (Codec) Split(_ byte, body []byte) (left, right delivery.Part, err error) {
	raw, err := decompress(body)
	if err != nil {
		return left, right, err
	}
	var a, b half
	err = eachStream(raw, func(labels []byte, entries []byte) error {
		a.open, b.open = false, false
		return eachField(entries, func(number int, _, whole []byte) error {
			if number != 2 {
				return nil // The labels.
			}
			if a.items == 0 || b.items == 0 && len(a.buf)+len(a.stream)+len(whole) <= len(raw)/2 {
				a.add(labels, whole)
			} else {
				b.add(labels, whole)
			}
			return nil
		})
	})
	if err != nil {
		return left, right, err
	}
	if b.items == 0 {
		return left, right, fmt.Errorf("%w: it holds %d lines", delivery.ErrWhole, a.items)
	}
	return a.part(), b.part(), nil
}

// half is one of two requests that another is divided into.
type half struct {
	buf    []byte
	stream []byte // content of the open Stream message
	open   bool   // it is of the stream at hand
	items  int
}

// add appends an Entry message of a stream with these labels.
func (h *half) add(labels, entry []byte) {
	if !h.open {
		h.end()
		h.open = true
		h.stream = append(h.stream, 1<<3|2)
		h.stream = binary.AppendUvarint(h.stream, uint64(len(labels)))
		h.stream = append(h.stream, labels...)
	}
	h.stream = append(h.stream, entry...)
	h.items++
}

// end closes the open Stream message.
func (h *half) end() {
	if len(h.stream) == 0 {
		return
	}
	h.buf = append(h.buf, 1<<3|2)
	h.buf = binary.AppendUvarint(h.buf, uint64(len(h.stream)))
	h.buf = append(h.buf, h.stream...)
	h.stream = h.stream[:0]
}

func (h *half) part() delivery.Part {
	h.end()
	return delivery.Part{Body: snappy.Encode(nil, h.buf), Items: h.items}
}

var errDamaged = errors.New("the push request is damaged")

func decompress(body []byte) ([]byte, error) {
	if n, err := snappy.DecodedLen(body); err != nil || n > maxRaw {
		return nil, errDamaged
	}
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("decompress the push request: %w", err)
	}
	return raw, nil
}

// eachStream calls visit for each Stream message with its labels and its content.
func eachStream(raw []byte, visit func(labels, content []byte) error) error {
	return eachField(raw, func(_ int, content, _ []byte) error {
		var labels []byte
		err := eachField(content, func(number int, value, _ []byte) error {
			if number == 1 {
				labels = value
			}
			return nil
		})
		if err != nil {
			return err
		}
		return visit(labels, content)
	})
}

// eachField calls visit for each field of a message, all of which have a length, with its content
// and with the field as a whole.
func eachField(b []byte, visit func(number int, value, whole []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag&7 != 2 {
			return errDamaged
		}
		size, m := binary.Uvarint(b[n:])
		if m <= 0 || size > uint64(len(b)-n-m) {
			return errDamaged
		}
		end := n + m + int(size)
		if err := visit(int(tag>>3), b[n+m:end], b[:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}
