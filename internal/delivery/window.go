package delivery

import (
	"cmp"
	"slices"
	"time"
)

// maxAhead bounds how far the sender looks ahead of the oldest block that is not settled for one
// whose shard is free. Every block in this range may have to be noted in the cursor, see
// maxSettled. The bodies of blocks on disk are not read for that, so that this is about a
// megabyte at most.
const maxAhead = 2048

// entry is a block on its way, in memory or on disk.
type entry struct {
	Block // Body is nil while only the disk has it, and when it is done with
	seq   uint64
	put   time.Time // when it entered the queue
	total Amount
	left  Amount // what is not settled of it
	parts []part // what is to be sent instead of Body, in order, if the endpoint wants it so
	vain  int    // requests in vain
	seg   *segment
	rec   record // where it is in seg

	taken   bool      // it is in the window, and not settled
	flying  bool      // its request is on its way
	settled bool      // accepted, or dropped and counted
	started time.Time // when its last request was sent
	epoch   int       // of the sender then

	alone    int       // requests in vain between which the endpoint has taken others
	answered int       // Queue.answered at the last one in vain
	again    time.Time // not before then while the endpoint takes others

	stored chan struct{} // if not nil, closed when the block is on disk or will not be
}

// done returns what is settled of a block that is not settled as a whole.
func (e *entry) done() Amount {
	a := e.total
	a.sub(e.left)
	return a
}

// fresh forgets what was in vain, since something else is to be sent of the block next.
func (e *entry) fresh() { e.vain, e.alone, e.again = 0, 0, time.Time{} }

// forgetBody gives back the block's hold of its body, if it has one.
func (e *entry) forgetBody() {
	if e.Body != nil {
		e.Body.Release()
		e.Body = nil
	}
}

// release ends the wait of a Put for the disk.
func (e *entry) release() {
	if e.stored != nil {
		close(e.stored)
		e.stored = nil
	}
}

func bySeq(e *entry, seq uint64) int { return cmp.Compare(e.seq, seq) }

// insert puts e at its place in a list that is ordered by sequence number.
func insert(list []*entry, e *entry) []*entry {
	i, _ := slices.BinarySearchFunc(list, e.seq, bySeq)
	return slices.Insert(list, i, e)
}

// without takes e out of such a list, if it is there.
func without(list []*entry, e *entry) []*entry {
	if i, ok := slices.BinarySearchFunc(list, e.seq, bySeq); ok {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// lane is the blocks of one shard in the window.
type lane struct {
	flying  *entry
	waiting []*entry // in order
}

// window is the blocks that the sender has taken up, the oldest ones of the queue: it begins
// with one that is not settled and has no gaps but for blocks that were dropped. It decides
// which block goes next, and needs the queue's lock.
type window struct {
	entries []*entry // in order, with those behind the first that are settled
	lanes   map[uint32]*lane
	ready   []*entry // in order: the first of each lane in which none is flying
	flights []*entry
}

func (w *window) full() bool { return len(w.entries) >= maxAhead }

// add takes up a block.
func (w *window) add(e *entry) {
	w.entries = insert(w.entries, e)
	if e.settled {
		w.trim()
		return
	}
	e.taken = true
	if w.lanes == nil {
		w.lanes = map[uint32]*lane{}
	}
	l := w.lanes[e.Shard]
	if l == nil {
		l = &lane{}
		w.lanes[e.Shard] = l
	}
	w.unready(l)
	l.waiting = insert(l.waiting, e)
	w.makeReady(l)
}

// makeReady and unready enter the first block of a lane into ready and take it out.
func (w *window) makeReady(l *lane) {
	if l.flying == nil && len(l.waiting) > 0 {
		w.ready = insert(w.ready, l.waiting[0])
	}
}

func (w *window) unready(l *lane) {
	if l.flying == nil && len(l.waiting) > 0 {
		w.ready = without(w.ready, l.waiting[0])
	}
}

// start notes that a block from ready is being sent.
func (w *window) start(e *entry) {
	l := w.lanes[e.Shard]
	w.unready(l)
	l.waiting = without(l.waiting, e)
	l.flying, e.flying = e, true
	w.flights = append(w.flights, e)
}

// stop notes that a block is not being sent any more, and has to be sent again.
func (w *window) stop(e *entry) {
	l := w.land(e)
	l.waiting = insert(l.waiting, e)
	w.makeReady(l)
}

func (w *window) land(e *entry) *lane {
	l := w.lanes[e.Shard]
	l.flying, e.flying = nil, false
	w.flights = slices.DeleteFunc(w.flights, func(f *entry) bool { return f == e })
	return l
}

// leave takes a block out of its lane.
func (w *window) leave(e *entry) {
	l := w.lanes[e.Shard]
	if e.flying {
		w.land(e)
	} else {
		w.unready(l)
		l.waiting = without(l.waiting, e)
	}
	e.taken = false
	if len(l.waiting) == 0 && l.flying == nil {
		delete(w.lanes, e.Shard)
		return
	}
	w.makeReady(l)
}

// settle notes that a block is done with.
func (w *window) settle(e *entry) {
	w.leave(e)
	e.settled, e.parts = true, nil
	w.trim()
}

// giveBack undoes add.
func (w *window) giveBack(e *entry) {
	w.leave(e)
	w.entries = without(w.entries, e)
	w.trim()
}

// trim forgets the settled blocks in front of the first that is not.
func (w *window) trim() {
	n := 0
	for n < len(w.entries) && w.entries[n].settled {
		n++
	}
	w.entries = slices.Delete(w.entries, 0, n)
}

// onDisk returns how many blocks that are on disk are being sent.
func (w *window) onDisk() (n int64) {
	for _, e := range w.flights {
		if e.seg != nil {
			n++
		}
	}
	return n
}

// flyingOf returns how many blocks of a segment are being sent.
func (w *window) flyingOf(s *segment) (n int64) {
	for _, e := range w.flights {
		if e.seg == s {
			n++
		}
	}
	return n
}

// holds tells whether a block is in the window and not settled.
func (w *window) holds(seq uint64) bool {
	i, ok := slices.BinarySearchFunc(w.entries, seq, bySeq)
	return ok && !w.entries[i].settled
}

// of returns the blocks of a segment that are not settled.
func (w *window) of(s *segment) []*entry {
	var all []*entry
	for _, e := range w.entries {
		if e.seg == s && !e.settled {
			all = append(all, e)
		}
	}
	return all
}
