package podlogs

// maxStamps bounds the times that are kept of one file.
const maxStamps = 256

// stamp is the time that the raw line at an offset was given. Those after it follow by a
// nanosecond each, up to the next stamp.
type stamp struct {
	Off int64 `json:"offset"`
	T   int64 `json:"time"` // in nanoseconds since 1970
}

// stamps are the times of raw lines that were read and are not settled, by offset. A raw line
// has the time at which it was read; should it be read again after a restart, it gets the same,
// so that Loki recognises it.
type stamps struct {
	at  []stamp
	end int64 // the offset behind the last line
}

// settle drops what is about lines before off alone.
func (s *stamps) settle(off int64) {
	n := 0
	for n+1 < len(s.at) && s.at[n+1].Off <= off {
		n++
	}
	if len(s.at) > 0 && s.end <= off {
		n = len(s.at)
	}
	s.at = append(s.at[:0], s.at[n:]...)
}

// rawTime returns the time of the raw line at an offset of t.
func (r *reader) rawTime(t *tail, at int64) int64 {
	if t.again != nil {
		if last, ok := t.again.time(t.lastT, at); ok {
			return last
		}
		t.again = nil
	}
	next := t.lastT + 1
	if now := r.now.UnixNano(); now > next {
		next = now
		r.c.positions.stamp(t.pos.Load(), stamp{at, now})
	}
	return next
}

// time returns the time of the line at an offset, given that of the line before it, 0 for none.
// ok is false if none is known.
func (s *stamps) time(last, at int64) (t int64, ok bool) {
	if at >= s.end {
		return 0, false
	}
	for len(s.at) > 0 && s.at[0].Off <= at {
		if last = s.at[0].T - 1; s.at[0].Off < at {
			last = 0
		}
		s.at = s.at[1:]
	}
	return last + 1, last > 0
}

// stamp notes the time of a raw line.
func (p *Positions) stamp(pos *position, s stamp) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos.times == nil {
		pos.times = &stamps{}
	}
	if pos.times.settle(pos.acked.Load()); len(pos.times.at) < maxStamps {
		pos.times.at = append(pos.times.at, s)
	}
}

// stamped notes up to where the raw lines of a file were given times.
func (p *Positions) stamped(pos *position, end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos.times != nil && len(pos.times.at) < maxStamps {
		pos.times.end = max(pos.times.end, end)
		p.touch(pos)
	}
}

// again returns the times that raw lines of pos were given before the start, nil without any.
func (p *Positions) again(pos *position) *stamps {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos.times == nil {
		return nil
	}
	again := &stamps{at: append([]stamp(nil), pos.times.at...), end: pos.times.end}
	return again
}
