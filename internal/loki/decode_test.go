package loki

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/klauspost/compress/snappy"
)

// sent is one line as a receiver of push requests sees it.
type sent struct {
	Labels   string
	Sec      int64
	Nanos    int64
	Line     string
	Metadata string
}

// decode reads a push request strictly: it knows every field and takes no other.
func decode(t *testing.T, compressed []byte) (lines []sent, streams int) {
	t.Helper()
	raw, err := snappy.Decode(nil, compressed)
	if err != nil {
		t.Fatalf("decompress: %v", err)
	}
	fields(t, raw, func(n int, _ uint64, stream []byte) {
		if n != 1 {
			t.Fatalf("field %d of a push request", n)
		}
		streams++
		labels := ""
		fields(t, stream, func(n int, _ uint64, v []byte) {
			switch n {
			case 1:
				labels = string(v)
			case 2:
				l := entry(t, v)
				l.Labels = labels
				lines = append(lines, l)
			default:
				t.Fatalf("field %d of a stream", n)
			}
		})
	})
	return lines, streams
}

func entry(t *testing.T, b []byte) (l sent) {
	t.Helper()
	fields(t, b, func(n int, _ uint64, v []byte) {
		switch n {
		case 1:
			fields(t, v, func(n int, x uint64, _ []byte) {
				switch n {
				case 1:
					l.Sec = int64(x)
				case 2:
					l.Nanos = int64(x)
				default:
					t.Fatalf("field %d of a timestamp", n)
				}
			})
		case 2:
			l.Line = string(v)
		case 3:
			var pair [3]string
			fields(t, v, func(n int, _ uint64, v []byte) { pair[n] = string(v) })
			l.Metadata += fmt.Sprintf("%s=%q ", pair[1], pair[2])
		default:
			t.Fatalf("field %d of an entry", n)
		}
	})
	return l
}

// fields calls f for each field of a message, with its number or its bytes.
func fields(t *testing.T, b []byte, f func(n int, x uint64, v []byte)) {
	t.Helper()
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatal("bad key")
		}
		x, k := binary.Uvarint(b[n:])
		if k <= 0 {
			t.Fatal("bad varint")
		}
		b = b[n+k:]
		switch key & 7 {
		case 0:
			f(int(key>>3), x, nil)
		case 2:
			if x > uint64(len(b)) {
				t.Fatalf("a field of %d bytes in %d", x, len(b))
			}
			f(int(key>>3), 0, b[:x])
			b = b[x:]
		default:
			t.Fatalf("wire type %d", key&7)
		}
	}
}
