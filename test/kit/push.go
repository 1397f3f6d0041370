package kit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"unicode/utf8"
)

// PushStream is one stream of a Loki push as it came in, unchecked.
type PushStream struct {
	Labels  string
	Entries []PushEntry
}

// PushEntry is one line of a Loki push as it came in.
type PushEntry struct {
	T        int64 // nanoseconds since the Unix epoch
	Line     string
	Metadata []Pair
}

// Pair is one pair of structured metadata.
type Pair struct{ Name, Value string }

// DecodePush checks the headers of a Loki push of protobuf and snappy and decodes the body,
// logproto.PushRequest, structured metadata included. As the format demands, every string is
// valid UTF-8. Labels and times are not looked at; see [LogsReceiver].
func DecodePush(h http.Header, body []byte) ([]PushStream, error) {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "application/x-protobuf" {
		return nil, fmt.Errorf("content type %q is not application/x-protobuf", h.Get("Content-Type"))
	}
	// Loki ignores the encoding of protobuf bodies, which are snappy always; a wrong word
	// would still be a lie that a proxy in between may act upon.
	if enc := h.Get("Content-Encoding"); enc != "" && enc != "snappy" {
		return nil, fmt.Errorf("content encoding %q is not snappy", enc)
	}
	raw, err := DecodeSnappy(body)
	if err != nil {
		return nil, err
	}
	var streams []PushStream
	err = eachField(raw, func(num int, v field) error {
		if num != 1 {
			return nil // unknown fields are skipped, as protobuf demands
		}
		s, streamErr := decodeStream(v)
		streams = append(streams, s)
		return streamErr
	})
	if err != nil {
		return nil, fmt.Errorf("decode logproto.PushRequest: %w", err)
	}
	return streams, nil
}

func decodeStream(v field) (s PushStream, err error) {
	msg, err := v.bytes()
	if err != nil {
		return s, err
	}
	err = eachField(msg, func(num int, v field) (err error) {
		switch num {
		case 1:
			s.Labels, err = v.text()
		case 2:
			var e PushEntry
			e, err = decodeEntry(v)
			s.Entries = append(s.Entries, e)
		}
		return err
	})
	return s, err
}

func decodeEntry(v field) (e PushEntry, err error) {
	msg, err := v.bytes()
	if err != nil {
		return e, err
	}
	err = eachField(msg, func(num int, v field) (err error) {
		switch num {
		case 1:
			e.T, err = decodeTime(v)
		case 2:
			e.Line, err = v.text()
		case 3:
			var p Pair
			p, err = decodePair(v)
			e.Metadata = append(e.Metadata, p)
		}
		return err
	})
	return e, err
}

// decodeTime reads google.protobuf.Timestamp.
func decodeTime(v field) (int64, error) {
	msg, err := v.bytes()
	if err != nil {
		return 0, err
	}
	var sec, nsec int64
	err = eachField(msg, func(num int, v field) (err error) {
		switch num {
		case 1:
			sec, err = v.int()
		case 2:
			nsec, err = v.int()
		}
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case nsec < 0 || nsec > 999_999_999:
		return 0, fmt.Errorf("timestamp has %d nanoseconds", nsec)
	case sec < -9_000_000_000 || sec > 9_000_000_000: // beyond the years that int64 nanoseconds hold
		return 0, fmt.Errorf("timestamp has %d seconds", sec)
	}
	return sec*1e9 + nsec, nil
}

func decodePair(v field) (p Pair, err error) {
	msg, err := v.bytes()
	if err != nil {
		return p, err
	}
	err = eachField(msg, func(num int, v field) (err error) {
		switch num {
		case 1:
			p.Name, err = v.text()
		case 2:
			p.Value, err = v.text()
		}
		return err
	})
	return p, err
}

// field is the value of one protobuf field: a number, or the bytes of a string or message.
type field struct {
	wire byte
	num  uint64
	data []byte
}

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

var (
	errTruncated = errors.New("message ends inside a field")
	errWireType  = errors.New("field has another type than the format says")
	errUTF8      = errors.New("string is not valid UTF-8")
)

func (f field) bytes() ([]byte, error) {
	if f.wire != wireBytes {
		return nil, errWireType
	}
	return f.data, nil
}

func (f field) text() (string, error) {
	if f.wire != wireBytes {
		return "", errWireType
	}
	if !utf8.Valid(f.data) {
		return "", errUTF8
	}
	return string(f.data), nil
}

func (f field) int() (int64, error) {
	if f.wire != wireVarint {
		return 0, errWireType
	}
	return int64(f.num), nil
}

// eachField walks the fields of one protobuf message.
func eachField(msg []byte, visit func(num int, v field) error) error {
	for len(msg) > 0 {
		key, n := binary.Uvarint(msg)
		if n <= 0 {
			return errTruncated
		}
		msg = msg[n:]
		v := field{wire: byte(key & 7)}
		switch v.wire {
		case wireVarint:
			if v.num, n = binary.Uvarint(msg); n <= 0 {
				return errTruncated
			}
		case wireFixed64:
			n = 8
		case wireFixed32:
			n = 4
		case wireBytes:
			size, head := binary.Uvarint(msg)
			if head <= 0 || size > uint64(len(msg)-head) {
				return errTruncated
			}
			v.data = msg[head : head+int(size)]
			n = head + int(size)
		default:
			return fmt.Errorf("unknown wire type %d", v.wire)
		}
		if n > len(msg) {
			return errTruncated
		}
		msg = msg[n:]
		num := key >> 3
		if num == 0 || num > 1<<29-1 {
			return fmt.Errorf("bad field number %d", num)
		}
		if err := visit(int(num), v); err != nil {
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
	return nil
}
