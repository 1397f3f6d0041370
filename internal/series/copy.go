package series

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	// fewStrings is how many strings of a line are remembered where it costs next to nothing.
	fewStrings = 8
	// chunk is how many bytes are copied at once, without a call, of what is short. Such a copy
	// reads and writes up to so many bytes beyond the end of what it is about.
	chunk = 16
)

// append appends the finished labels of the line with the given key, whose metric name ends
// at name. A key that the template does not fit, which the hash of keys rules out, gives
// nothing or wrong labels. What stands behind the key in its memory may be read and does not
// matter.
func (p template) append(dst, key []byte, name int, t *targetLabels) []byte {
	room := int(p[2]) | int(p[3])<<8
	room += t.size + int(p[1])*len(key) + 4*chunk
	if cap(dst)-len(dst) < room {
		dst = slices.Grow(dst, room)
	}
	n := int(p[4])
	if n > fewStrings {
		var found [maxStrings]span
		return p.run(dst, key, name, found[:], t)
	}
	var found [fewStrings]span
	return p.run(dst, key, name, found[:], t)
}

// run is append with memory for the strings, and enough of it for the labels.
func (p template) run(dst, key []byte, name int, found []span, t *targetLabels) []byte {
	i := templateHead
	at := name
	for k := range int(p[4]) {
		if at += int(p[i]); at > len(key) {
			return dst
		}
		i++
		end := closing(key, at)
		if end < 0 {
			return dst
		}
		found[k] = span{uint16(at), uint16(end)}
		at = end
	}
	w := len(dst)
	d := dst[:cap(dst)]
	for i < len(p) {
		switch p[i] {
		case stepTarget:
			from, to := int(t.at[p[i+1]]), int(t.at[p[i+2]])
			i += 3
			size := to - from
			if size > 4*chunk {
				w += copy(d[w:], t.wire[from:to])
				continue
			}
			out, in := d[w:w+4*chunk], t.wire[from:from+4*chunk]
			*(*[chunk]byte)(out) = *(*[chunk]byte)(in)
			*(*[chunk]byte)(out[chunk:]) = *(*[chunk]byte)(in[chunk:])
			if size > 2*chunk {
				*(*[chunk]byte)(out[2*chunk:]) = *(*[chunk]byte)(in[2*chunk:])
				*(*[chunk]byte)(out[3*chunk:]) = *(*[chunk]byte)(in[3*chunk:])
			}
			w += size
		case stepRaw:
			v, n := found[p[i+1]], int(p[i+2])
			i += 3
			from := int(v.from) - 2 - n
			size := int(v.to) - from
			if size > 3*chunk || cap(key)-from < 3*chunk {
				w = putRaw(d, w, key, v, n)
				continue
			}
			// In the line it stands as name="value, where the two bytes between are just what
			// the wire form needs room for.
			out, in := d[w:w+4+3*chunk], key[from:from+3*chunk]
			*(*[chunk]byte)(out[4:]) = *(*[chunk]byte)(in)
			*(*[chunk]byte)(out[4+chunk:]) = *(*[chunk]byte)(in[chunk:])
			if size > 2*chunk {
				*(*[chunk]byte)(out[4+2*chunk:]) = *(*[chunk]byte)(in[2*chunk:])
			}
			binary.LittleEndian.PutUint32(out, 0x0a_00_0a|uint32(size+2)<<8|uint32(n)<<24)
			binary.LittleEndian.PutUint16(out[4+n:], 0x12|uint16(size-n-2)<<8)
			w += size + 4
		case stepName:
			i++
			const head = 4 + len(nameLabel) + 2
			if name > 3*chunk || cap(key) < 3*chunk {
				w = putLabel(d, w, nameLabel, key[:name])
				continue
			}
			out, in := d[w:w+head+3*chunk], key[:3*chunk]
			*(*[chunk]byte)(out[head:]) = *(*[chunk]byte)(in)
			*(*[chunk]byte)(out[head+chunk:]) = *(*[chunk]byte)(in[chunk:])
			if name > 2*chunk {
				*(*[chunk]byte)(out[head+2*chunk:]) = *(*[chunk]byte)(in[2*chunk:])
			}
			binary.LittleEndian.PutUint32(out, 0x0a_00_0a|uint32(head-2+name)<<8|uint32(len(nameLabel))<<24)
			copy(out[4:], nameLabel)
			binary.LittleEndian.PutUint16(out[4+len(nameLabel):], 0x12|uint16(name)<<8)
			w += head + name
		case stepAs:
			v, size := found[p[i+1]], int(p[i+2])
			i += 3
			w = putLabel(d, w, p[i:i+size], key[v.from:v.to])
			i += size
		case stepText:
			size := int(p[i+1]) | int(p[i+2])<<8
			i += 3
			w += copy(d[w:], p[i:i+size])
			i += size
		default:
			return dst
		}
	}
	return d[:w]
}

// closing returns where the string that begins at at ends, -1 when it does not. Most are
// short, so the first bytes are looked at without a call and, as their lengths are hard to
// predict, without a branch.
func closing(key []byte, at int) int {
	const (
		each   = 0x0101010101010101
		quotes = each * '"'
		short  = 16
	)
	if len(key)-at >= short {
		b := key[at : at+short]
		x, y := binary.LittleEndian.Uint64(b)^quotes, binary.LittleEndian.Uint64(b[8:])^quotes
		x, y = (x-each)&^x&(each<<7), (y-each)&^y&(each<<7)
		first := bits.TrailingZeros64(x) // 64 without one.
		second := bits.TrailingZeros64(y) + 64
		if x == 0 {
			first = second
		}
		if first < 8*short {
			return at + first/8
		}
		at += short
	}
	i := bytes.IndexByte(key[at:], '"')
	if i < 0 {
		return -1
	}
	return at + i
}

// putRaw writes a label in wire form that stands in the line as name="value, where v is the
// value and name the length of the name, which is below 128.
func putRaw(d []byte, w int, key []byte, v span, name int) int {
	from := int(v.from) - 2 - name
	raw := key[from:v.to]
	value := len(raw) - name - 2
	switch size := len(raw) + 2; {
	case size < 128:
		d = d[w : w+2+size]
		copy(d[4:], raw)
		binary.LittleEndian.PutUint32(d, 0x0a_00_0a|uint32(size)<<8|uint32(name)<<24)
		binary.LittleEndian.PutUint16(d[4+name:], 0x12|uint16(value)<<8)
		return w + 2 + size
	case size < 1<<14-1 && value >= 128: // Both lengths take two bytes.
		size++
		d = d[w : w+3+size]
		d[0], d[1], d[2], d[3], d[4] = 0x0a, byte(size)|0x80, byte(size>>7), 0x0a, byte(name)
		copy(d[5:], raw[:name])
		d = d[5+name:]
		d[0], d[1], d[2] = 0x12, byte(value)|0x80, byte(value>>7)
		copy(d[3:], raw[name+2:])
		return w + 3 + size
	}
	return putLabel(d, w, raw[:name], raw[name+2:])
}

// putLabel writes a label in wire form, of a name and a value below 64 KiB.
func putLabel[N ~string | []byte](d []byte, w int, name N, value []byte) int {
	n, v := model.UvarintLen(uint64(len(name))), model.UvarintLen(uint64(len(value)))
	d[w] = 0x0a
	w = putUvarint(d, w+1, 2+n+len(name)+v+len(value))
	d[w] = 0x0a
	w = putUvarint(d, w+1, len(name))
	w += copy(d[w:], name)
	d[w] = 0x12
	w = putUvarint(d, w+1, len(value))
	return w + copy(d[w:], value)
}

func putUvarint(d []byte, w, v int) int {
	for v >= 0x80 {
		d[w] = byte(v) | 0x80
		v >>= 7
		w++
	}
	d[w] = byte(v)
	return w + 1
}
