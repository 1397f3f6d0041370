package delivery

// segment is one file of the log as far as it has not been delivered.
type segment struct {
	base   uint64
	path   string
	size   int64  // of the file; counts towards the cap
	read   int64  // up to where the sender has taken up the records
	end    int64  // where the last record ends
	left   Amount // what has not been settled
	taken  Amount // of left, what the sender has taken up
	last   uint64 // sequence number of the last record
	oldest int64  // when the first block of left was finished, as far as known; ms since the Unix epoch
	newest int64
	whole  contents // of the file since it was begun; for its trailer
}

// index knows what is on disk: segments in order. It does no I/O and needs the queue's lock.
type index struct {
	segs  []*segment
	left  Amount // sum of the segments' left
	taken Amount // sum of the segments' taken
	bytes int64  // sum of the segments' size
	trash []string
	// moved says that more blocks are settled than when the cursor was written.
	moved bool
}

// add appends a segment found at a start or begun now.
func (x *index) add(s *segment) {
	x.segs = append(x.segs, s)
	x.left.add(s.left)
	x.bytes += s.size
}

// placed notes a record that has been written to the end of the last segment, of which a is
// not settled.
func (x *index) placed(s *segment, r record, a Amount) {
	if s.left.Blocks == 0 {
		s.oldest = r.time
	}
	s.whole.add(r)
	s.end, s.last, s.newest = r.end(), r.seq, s.whole.newest
	s.left.add(a)
	x.left.add(a)
	x.grow(s, r.end()-s.size)
}

// grow notes that the file of a segment has changed its size.
func (x *index) grow(s *segment, by int64) {
	s.size += by
	x.bytes += by
}

// take notes that the sender has taken up a of a segment.
func (x *index) take(s *segment, a Amount) {
	s.taken.add(a)
	x.taken.add(a)
}

// settled notes that a of what the sender has taken up of a segment is done with.
func (x *index) settled(s *segment, a Amount) {
	s.left.sub(a)
	s.taken.sub(a)
	x.left.sub(a)
	x.taken.sub(a)
	x.moved = true
}

// again undoes settled: a of a segment, which the sender has taken up, has to be sent again.
func (x *index) again(s *segment, a Amount) {
	for _, to := range [...]*Amount{&s.left, &s.taken, &x.left, &x.taken} {
		to.add(a)
	}
}

// lose gives up what is left of a segment but for what keep says, and returns it.
func (x *index) lose(s *segment, keep Amount) Amount {
	lost := s.left
	lost.sub(keep)
	x.taken.sub(s.taken)
	x.taken.add(keep)
	s.left, s.taken, s.read = keep, keep, s.end
	x.left.sub(lost)
	x.moved = true
	return lost
}

// unread returns the first segment of which the sender has not taken up everything, nil if
// there is none.
func (x *index) unread() *segment {
	if x.left.Blocks == x.taken.Blocks {
		return nil
	}
	for _, s := range x.segs {
		if s.left.Blocks > s.taken.Blocks {
			return s
		}
	}
	return nil
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
