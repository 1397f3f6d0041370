package remotewrite

import (
	"encoding/binary"
	"hash/maphash"
)

// symbols is the table of strings of one request of remote write 2.0. Nothing in it is a
// pointer but the slices themselves.
type symbols struct {
	seed  maphash.Seed
	wire  []byte   // field 4 of the request for each string in order, the empty one first
	all   []symbol // by reference
	index []uint32 // open addressing by hash: references, 0 is free
}

// symbol is where a string stands in symbols.wire.
type symbol struct{ from, to, hash uint32 }

const (
	tagSymbols = 4<<3 | wireBytes
	minIndex   = 256 // places; a power of two, as all sizes of an index
)

func newSymbols(seed maphash.Seed) symbols {
	s := symbols{seed: seed, index: make([]uint32, minIndex)}
	s.reset()
	return s
}

// reset empties the table: a request's first string is the empty one.
func (s *symbols) reset() {
	s.wire = append(s.wire[:0], tagSymbols, 0)
	s.all = append(s.all[:0], symbol{from: 2, to: 2})
	clear(s.index)
}

// ref returns the reference of a string, which it adds if it is new.
func (s *symbols) ref(str []byte) uint32 {
	return add(s, str, uint32(maphash.Bytes(s.seed, str)))
}

// refString is ref for strings.
func (s *symbols) refString(str string) uint32 {
	return add(s, str, uint32(maphash.String(s.seed, str)))
}

func add[S string | []byte](s *symbols, str S, hash uint32) uint32 {
	if len(str) == 0 {
		return 0
	}
	mask := uint32(len(s.index) - 1)
	at := hash & mask
	for ; s.index[at] != 0; at = (at + 1) & mask {
		ref := s.index[at]
		if y := s.all[ref]; y.hash == hash && string(s.wire[y.from:y.to]) == string(str) {
			return ref
		}
	}
	ref := uint32(len(s.all))
	s.index[at] = ref
	s.wire = append(s.wire, tagSymbols)
	s.wire = binary.AppendUvarint(s.wire, uint64(len(str)))
	from := uint32(len(s.wire))
	s.wire = append(s.wire, str...)
	s.all = append(s.all, symbol{from: from, to: uint32(len(s.wire)), hash: hash})
	if 2*len(s.all) > len(s.index) {
		s.index = make([]uint32, 2*len(s.index))
		for i := 1; i < len(s.all); i++ {
			insert(s.index, s.all[i].hash, uint32(i))
		}
	}
	return ref
}

// insert puts a reference that is not there yet in an index with room.
func insert(index []uint32, hash, ref uint32) {
	mask := uint32(len(index) - 1)
	at := hash & mask
	for index[at] != 0 {
		at = (at + 1) & mask
	}
	index[at] = ref
}

// pairs finds the references of whole labels, so that a label is hashed once instead of its
// name and its value, and mostly not even that: the label in the same place of the sample
// before, or the one that followed that label the last time, is nearly always right, since
// the families of an exposition repeat the same objects in the same order.
type pairs struct {
	wire  []byte
	all   []pair   // the first is not used
	index []uint32 // open addressing by hash: places in all, 0 is free
	last  []place  // of the sample before, by position
}

// place is one position of label sets.
type place struct {
	pair uint32 // of the sample before
	// moves tells which guess comes first, as a processor predicts branches: from 2 on the
	// successor of the pair, below the same pair again.
	moves uint8
}

// pair is one label in a request.
type pair struct {
	from, to, hash uint32 // of the wire form, in pairs.wire
	next           uint32 // the pair that came after this one in the same position
	refs           uint64 // the references of name and value as varints
	width          uint8  // bytes of refs
}

func newPairs() pairs {
	return pairs{all: make([]pair, 1), index: make([]uint32, minIndex)}
}

func (p *pairs) reset() {
	p.wire, p.all, p.last = p.wire[:0], p.all[:1], p.last[:0]
	p.all[0] = pair{}
	clear(p.index)
}

func (p *pairs) is(q *pair, label []byte) bool {
	return int(q.to-q.from) == len(label) && string(p.wire[q.from:q.to]) == string(label)
}

// find returns the pair of a label at the given position of its set. The symbols that it
// lacks are added to s.
func (p *pairs) find(s *symbols, label []byte, position int) *pair {
	if position == len(p.last) {
		p.last = append(p.last, place{})
	}
	at := &p.last[position]
	before := &p.all[at.pair] // The first, which equals no label, stands for none.
	if at.moves < 2 {
		if p.is(before, label) {
			at.moves = 0
			return before
		}
		if next := &p.all[before.next]; p.is(next, label) {
			at.pair = before.next
			at.moves++
			return next
		}
	} else {
		if next := &p.all[before.next]; p.is(next, label) {
			at.pair = before.next
			at.moves = 3
			return next
		}
		if p.is(before, label) {
			at.moves--
			return before
		}
	}
	found := p.search(s, label)
	p.all[at.pair].next = found
	at.pair = found
	return &p.all[found]
}

func (p *pairs) search(s *symbols, label []byte) uint32 {
	hash := uint32(maphash.Bytes(s.seed, label))
	mask := uint32(len(p.index) - 1)
	at := hash & mask
	for ; p.index[at] != 0; at = (at + 1) & mask {
		if i := p.index[at]; p.all[i].hash == hash && p.is(&p.all[i], label) {
			return i
		}
	}
	i := uint32(len(p.all))
	p.index[at] = i
	name, value := splitLabel(label)
	// Both take at most four bytes each: a request ends long before it has 2^28 symbols.
	var refs [2 * binary.MaxVarintLen32]byte
	width := binary.PutUvarint(refs[:], uint64(s.ref(name)))
	width += binary.PutUvarint(refs[width:], uint64(s.ref(value)))
	from := uint32(len(p.wire))
	p.wire = append(p.wire, label...)
	p.all = append(p.all, pair{from: from, to: uint32(len(p.wire)), hash: hash, refs: binary.LittleEndian.Uint64(refs[:]), width: uint8(width)})
	if 2*len(p.all) > len(p.index) {
		p.index = make([]uint32, 2*len(p.index))
		for j := 1; j < len(p.all); j++ {
			insert(p.index, p.all[j].hash, uint32(j))
		}
	}
	return i
}
