package series

import (
	"encoding/binary"
	"slices"
	"sort"
)

// blockSize is how much text is compressed together. Larger blocks save little (node 0 %,
// kube-state-metrics 4 % from 16 to 128 KiB) and cost more when one text is wanted.
const blockSize = 32 << 10

// smallBlock is that for whole label sets, which every scrape reads, in any order.
const smallBlock = 4 << 10

// texts keeps the label parts of lines, numbered from 0, for the day their series end.
type texts struct {
	blocks []block
	n      uint32
	small  bool // Blocks are of smallBlock bytes.

	// open is the block that is being written, not compressed.
	open  []byte
	first uint32 // The number of its first text.
}

// block is some texts one after the other, each with its length before it as a varint,
// compressed with zstd when that saves anything.
type block struct {
	data  []byte
	first uint32
	size  uint32 // Before compression.
}

// blockSize returns how much text is compressed together.
func (x *texts) blockSize() int {
	if x.small {
		return smallBlock
	}
	return blockSize
}

// add keeps a text and returns its number.
func (x *texts) add(s *Shared, text []byte) uint32 {
	full := x.blockSize()
	switch {
	case x.open != nil:
	case len(x.blocks) > 0 && int(x.blocks[len(x.blocks)-1].size) < full/2:
		last := x.blocks[len(x.blocks)-1]
		x.open, x.first = last.unpack(s, nil), last.first
		x.blocks = x.blocks[:len(x.blocks)-1]
	default:
		x.open, x.first = make([]byte, 0, 1024), x.n
	}
	x.open = binary.AppendUvarint(x.open, uint64(len(text)))
	x.open = append(x.open, text...)
	x.n++
	if len(x.open) >= full {
		room := x.open[:0]
		x.close(s)
		x.open, x.first = room, x.n
	}
	return x.n - 1
}

// close compresses what is open.
func (x *texts) close(s *Shared) {
	if len(x.open) > 0 {
		m := s.scratch()
		m.packed = s.enc.EncodeAll(x.open, m.packed[:0])
		data := m.packed
		if len(data) >= len(x.open) {
			data = x.open
		}
		kept := make([]byte, len(data))
		copy(kept, data)
		x.blocks = appendTight(x.blocks, block{data: kept, first: x.first, size: uint32(len(x.open))})
		s.free(m)
	}
	x.open = nil
}

func (b *block) unpack(s *Shared, dst []byte) []byte {
	if len(b.data) == int(b.size) {
		return append(dst[:0], b.data...)
	}
	raw, err := s.dec.DecodeAll(b.data, dst[:0])
	if err != nil {
		// It was written by this process and has been in memory since. Markers of series
		// that end are lost, which a broken memory may cost.
		return dst[:0]
	}
	return raw
}

func (x *texts) bytes() int {
	n := cap(x.blocks)*32 + cap(x.open)
	for i := range x.blocks {
		n += cap(x.blocks[i].data)
	}
	return n
}

// reader reads texts, best in the order of their numbers. The zero value is ready.
type reader struct {
	raw   []byte // Of the block that is open, after unpacking.
	first uint32
	end   uint32 // The number behind the last one of the block.
	next  uint32 // The number of the text at off.
	off   int
	buf   []byte
}

// text returns the text with that number, valid until the next call.
func (r *reader) text(x *texts, s *Shared, number uint32) []byte {
	if number < r.first || number >= r.end {
		r.load(x, s, number)
	}
	if number < r.next {
		r.next, r.off = r.first, 0
	}
	for {
		size, n := binary.Uvarint(r.raw[r.off:])
		if n <= 0 || uint64(len(r.raw)-r.off-n) < size {
			return nil
		}
		text := r.raw[r.off+n : r.off+n+int(size)]
		if r.next == number {
			return text
		}
		r.off += n + int(size)
		r.next++
	}
}

func (r *reader) load(x *texts, s *Shared, number uint32) {
	r.off = 0
	if len(x.open) > 0 && number >= x.first {
		r.raw, r.first, r.next = x.open, x.first, x.first
		r.end = r.first // The block grows: look again each time.
		return
	}
	i := sort.Search(len(x.blocks), func(i int) bool { return x.blocks[i].first > number }) - 1
	if i < 0 {
		r.raw, r.first, r.next, r.end = nil, 0, 0, 0
		return
	}
	r.buf = x.blocks[i].unpack(s, r.buf)
	r.raw, r.first, r.next = r.buf, x.blocks[i].first, x.blocks[i].first
	switch {
	case i+1 < len(x.blocks):
		r.end = x.blocks[i+1].first
	case x.open != nil:
		r.end = x.first
	default:
		r.end = x.n
	}
}

// maxWholes is how many bytes of whole label sets are kept ready to be copied. A target that
// needs more, whose lines have next to nothing to do with its labels, is slower to scrape.
const maxWholes = 4 << 20

// wholes keeps finished label sets of parts of which nothing can be copied from the line.
type wholes struct {
	at    []wholeAt // By part.
	bytes []byte

	packed *packedWholes // Those behind the first maxWholes bytes, nil without.
}

// packedWholes keeps label sets compressed.
type packedWholes struct {
	parts []uint32 // By the number of their text.
	texts texts
	last  reader
}

type wholeAt struct{ part, from uint32 }

func (h *wholes) add(s *Shared, part uint32, labels []byte) {
	if h.packed == nil && len(h.bytes)+len(labels) > maxWholes {
		h.packed = &packedWholes{texts: texts{small: true}}
	}
	if p := h.packed; p != nil {
		p.texts.add(s, labels)
		p.parts = append(p.parts, part)
		return
	}
	h.at = append(h.at, wholeAt{part, uint32(len(h.bytes))})
	h.bytes = append(h.bytes, labels...)
}

// get returns the labels of a part, valid until the next call.
func (h *wholes) get(s *Shared, part uint32) []byte {
	if p := h.packed; p != nil && part >= p.parts[0] {
		if i, ok := slices.BinarySearch(p.parts, part); ok {
			return p.last.text(&p.texts, s, uint32(i))
		}
		return nil
	}
	i := sort.Search(len(h.at), func(i int) bool { return h.at[i].part >= part })
	if i == len(h.at) || h.at[i].part != part {
		return nil
	}
	to := len(h.bytes)
	if i+1 < len(h.at) {
		to = int(h.at[i+1].from)
	}
	return h.bytes[h.at[i].from:to]
}

// size returns how much memory they take, in bytes.
func (h *wholes) size() int {
	n := 8*cap(h.at) + cap(h.bytes)
	if p := h.packed; p != nil {
		n += 4*cap(p.parts) + p.texts.bytes() + cap(p.last.buf)
	}
	return n
}

// close compresses what is open.
func (h *wholes) close(s *Shared) {
	if h.packed != nil {
		h.packed.texts.close(s)
	}
}

// clip cuts off what slices have left over.
func (h *wholes) clip() {
	h.at, h.bytes = clipped(h.at), clipped(h.bytes)
	if p := h.packed; p != nil {
		p.parts, p.texts.blocks = clipped(p.parts), clipped(p.texts.blocks)
	}
}

// appendTight appends without the spare room that append makes, since a table lives long and
// grows little after its first scrape.
func appendTight[T any](s []T, v T) []T {
	if len(s) == cap(s) {
		grown := make([]T, len(s), len(s)+len(s)/16+1)
		copy(grown, s)
		s = grown
	}
	return append(s, v)
}
