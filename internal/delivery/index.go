package delivery

// segment is one file of the log as far as it has not been delivered.
type segment struct {
	base   uint64
	path   string
	size   int64  // of the file; counts towards the cap
	off    int64  // where the first record that is not settled starts, or damage before it
	end    int64  // where the last record ends
	left   Amount // what has not been settled
	last   uint64 // sequence number of the last record
	oldest int64  // when the first block of left was finished, as far as known; ms since the Unix epoch
	newest int64
	whole  contents // of the file since it was begun; for its trailer
}

// index knows what is on disk: segments in order, of which only the first is partly settled.
// It does no I/O and needs the queue's lock.
type index struct {
	segs  []*segment
	left  Amount // sum of the segments' left
	bytes int64  // sum of the segments' size
	trash []string
	// moved says that the place up to which blocks are settled has changed since the cursor
	// was written.
	moved bool
}

// add appends a segment found at a start or begun now.
func (x *index) add(s *segment) {
	x.segs = append(x.segs, s)
	x.left.add(s.left)
	x.bytes += s.size
}

// placed notes a record that has been written to the end of the last segment.
func (x *index) placed(s *segment, r record) {
	if s.left.Blocks == 0 {
		s.oldest = r.time
	}
	s.whole.add(r)
	s.end, s.last, s.newest = r.end(), r.seq, s.whole.newest
	s.left.add(r.amount())
	x.left.add(r.amount())
	x.grow(s, r.end()-s.size)
}

// grow notes that the file of a segment has changed its size.
func (x *index) grow(s *segment, by int64) {
	s.size += by
	x.bytes += by
}

// settled notes that the first record of the first segment is done with.
func (x *index) settled(s *segment, r record) {
	s.off = r.end()
	s.left.sub(r.amount())
	x.left.sub(r.amount())
	x.moved = true
}

// lose gives up what is left of a segment but for what keep says, and returns it.
func (x *index) lose(s *segment, keep Amount) Amount {
	lost := s.left
	lost.sub(keep)
	s.left = keep
	x.left.sub(lost)
	x.moved = true
	return lost
}

// drop removes segment i, whose blocks have been accounted for, and leaves its file to be
// deleted.
func (x *index) drop(i int) {
	s := x.segs[i]
	x.bytes -= s.size
	x.trash = append(x.trash, s.path)
	x.segs = append(x.segs[:i:i], x.segs[i+1:]...)
	x.moved = true
}

// trim removes the segments at the front of which nothing is left, except the one that is
// still being written.
func (x *index) trim(active *segment) {
	for len(x.segs) > 0 && x.segs[0] != active && x.segs[0].left.Blocks == 0 {
		x.drop(0)
	}
}

// cursor returns the place up to which everything is settled; next is the sequence number
// that the next block gets.
func (x *index) cursor(next uint64) cursor {
	if len(x.segs) == 0 {
		return cursor{base: next}
	}
	return cursor{base: x.segs[0].base, off: x.segs[0].off}
}
