package sink

import (
	"encoding/binary"
	"errors"
)

var errWire = errors.New("the body is not the protobuf message it should be")

// The wire types of protobuf.
const (
	wireVarint = 0
	wireFixed  = 1
	wireBytes  = 2
	wireShort  = 5
)

// A field of a message. Numbers and 64-bit values are in number, the others in bytes.
type field struct {
	id     int
	number uint64
	bytes  []byte
}

// take returns the first field of a message and what follows it.
func take(msg []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(msg)
	if n <= 0 {
		return f, nil, errWire
	}
	f.id, msg = int(tag>>3), msg[n:]
	switch tag & 7 {
	case wireVarint:
		if f.number, n = binary.Uvarint(msg); n <= 0 {
			return f, nil, errWire
		}
		return f, msg[n:], nil
	case wireFixed:
		if len(msg) < 8 {
			return f, nil, errWire
		}
		f.number = binary.LittleEndian.Uint64(msg)
		return f, msg[8:], nil
	case wireBytes:
		size, n := binary.Uvarint(msg)
		if n <= 0 || size > uint64(len(msg)-n) {
			return f, nil, errWire
		}
		end := n + int(size)
		f.bytes = msg[n:end]
		return f, msg[end:], nil
	case wireShort:
		if len(msg) < 4 {
			return f, nil, errWire
		}
		f.number = uint64(binary.LittleEndian.Uint32(msg))
		return f, msg[4:], nil
	default:
		return f, nil, errWire
	}
}
