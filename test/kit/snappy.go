package kit

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxDecoded bounds what a declared length may allocate.
const maxDecoded = 256 << 20

var errSnappy = errors.New("snappy: corrupt input")

// DecodeSnappy decodes Snappy's block format, and only that: backends use the original
// library, which knows neither the framing format nor the extensions of S2 (repeat offsets),
// so a sender that produced those would be refused by them too.
func DecodeSnappy(src []byte) ([]byte, error) {
	size, n := binary.Uvarint(src)
	if n <= 0 {
		return nil, errSnappy
	}
	if size > maxDecoded {
		return nil, fmt.Errorf("snappy: decoded size %d is over the limit of %d bytes", size, maxDecoded)
	}
	dst, src := make([]byte, 0, size), src[n:]
	for len(src) > 0 {
		tag := src[0]
		var length, offset, head int
		switch tag & 3 {
		case 0: // a literal; 60 to 63 mean 1 to 4 bytes of length follow
			length, head = int(tag>>2)+1, 1
			if extra := length - 60; extra > 0 {
				if len(src) < 1+extra {
					return nil, errSnappy
				}
				var word [4]byte
				copy(word[:], src[1:1+extra])
				length, head = int(binary.LittleEndian.Uint32(word[:]))+1, 1+extra
			}
			if length > len(src)-head || uint64(len(dst)+length) > size {
				return nil, errSnappy
			}
			dst = append(dst, src[head:head+length]...)
			src = src[head+length:]
			continue
		case 1:
			if len(src) < 2 {
				return nil, errSnappy
			}
			length, offset, head = 4+int(tag>>2&7), int(tag>>5)<<8|int(src[1]), 2
		case 2:
			if len(src) < 3 {
				return nil, errSnappy
			}
			length, offset, head = int(tag>>2)+1, int(binary.LittleEndian.Uint16(src[1:])), 3
		case 3:
			if len(src) < 5 {
				return nil, errSnappy
			}
			length, offset, head = int(tag>>2)+1, int(binary.LittleEndian.Uint32(src[1:])), 5
		}
		if offset == 0 || offset > len(dst) || uint64(len(dst)+length) > size {
			return nil, errSnappy
		}
		for range length { // byte by byte: the copy may overlap what it appends
			dst = append(dst, dst[len(dst)-offset])
		}
		src = src[head:]
	}
	if uint64(len(dst)) != size {
		return nil, errSnappy
	}
	return dst, nil
}
