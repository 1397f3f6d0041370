package delivery

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// waitForRoom waits until a block of the given size fits the memory, and returns with the
// turn, which keeps other calls from taking the place. A block that alone is larger than the
// memory waits until that is empty. Calls get their turn in order, so a large block is not
// overtaken for ever by small ones.
func (q *Queue) waitForRoom(ctx context.Context, size int64) error {
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-q.closing:
		return ErrClosed
	}
	for {
		q.mu.Lock()
		fits := q.memory.Blocks == 0 || q.memory.Bytes+size <= q.memoryLimit
		q.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-q.room:
			continue
		case <-ctx.Done():
			<-q.turn
			return ctx.Err()
		case <-q.closing:
			<-q.turn
			return ErrClosed
		}
	}
}

// enqueue takes a block into memory. With a directory that always succeeds: when the disk
// does not take blocks fast enough, the oldest in memory give way. stored is not nil if the
// caller has to wait for the disk.
func (q *Queue) enqueue(b Block) (stored <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	total := Amount{Blocks: 1, Items: int64(b.Items), Bytes: int64(b.Body.Len())}
	e := &entry{Block: b, seq: q.nextSeq, put: time.Now(), total: total, left: total}
	q.nextSeq++
	q.lastPut = e.put
	if !q.waits() {
		q.makeMemory(int64(b.Body.Len()))
		if q.always() && q.writeError == "" {
			e.stored = make(chan struct{})
		}
	}
	q.mem = append(q.mem, e)
	q.memory.add(total)
	q.put.add(total)
	if b.Ack != nil {
		q.acks = append(q.acks, &ack{seq: e.seq, call: b.Ack, callKept: b.Kept})
	}
	wake(q.wakeSend)
	if q.dir != "" && (len(q.mem) == 1 || q.behind(e.put)) {
		wake(q.wakeDisk)
	}
	return e.stored, nil
}

// waitForDisk waits until the disk has taken a block or is known not to.
func (q *Queue) waitForDisk(stored <-chan struct{}) {
	patience := time.NewTimer(diskPatience)
	defer patience.Stop()
	select {
	case <-stored:
	case <-patience.C:
		q.diskSlow()
	}
}

// always tells whether blocks have to be on disk before they are sent.
func (q *Queue) always() bool { return q.dir != "" && q.cfg.Durability == Always }

// makeMemory drops blocks from memory until size bytes more fit, the oldest first. The ones
// in flight and being written stay, since what becomes of them is open.
func (q *Queue) makeMemory(size int64) {
	for i := 0; q.memory.Bytes+size > q.memoryLimit && i < len(q.mem); {
		e := q.mem[i]
		switch {
		case e == q.writing || e.flying:
			i++
		case e.taken:
			q.dropTaken(e, dropMemoryFull, "")
		default:
			ms := e.Time.UnixMilli()
			q.drop(dropMemoryFull, e.left, ms, ms, "")
			q.memory.sub(e.left)
			q.leaveMemory(e)
			q.acknowledge(e.seq, e.seq)
		}
	}
}

// untaken returns the first block in memory that is not in the window, nil if there is none.
func (q *Queue) untaken() *entry {
	for _, e := range q.mem {
		if !e.taken {
			return e
		}
	}
	return nil
}

// leaveMemory removes a block from memory of which nothing is left there.
func (q *Queue) leaveMemory(e *entry) {
	if q.mem[0] == e { // As nearly always.
		q.mem[0] = nil
		q.mem = q.mem[1:]
	} else {
		q.mem = without(q.mem, e)
	}
	if e != q.writing {
		e.forgetBody() // A block settled before its time stays in the window.
	}
	e.release()
	wake(q.room)
}

// behind tells whether the blocks in memory are due to be written to disk.
func (q *Queue) behind(now time.Time) bool {
	if len(q.mem) == 0 || q.dir == "" {
		return false
	}
	return q.always() || q.closed || q.state != StateOK || now.Sub(q.mem[0].put) >= q.spillPause() ||
		q.index.left.Blocks > q.window.onDisk() // A backlog: more than what is on its way.
}

// Behind tells whether blocks wait because the endpoint fails, or for others to be delivered from
// disk. Who could put something that is not worth keeping had better leave it out then.
func (q *Queue) Behind() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state != StateOK || q.index.left.Blocks > q.window.onDisk()
}

// ack is the Ack of a block that has not been called.
type ack struct {
	seq  uint64
	done bool // The block is accepted or dropped, or in a spool.
	kept bool // It is in a spool, whose source hears of that by the second call.

	call, callKept func()
}

// acknowledge marks the blocks from first to last, by sequence number, as done with. The
// sender makes the calls. Blocks among them that the window still
// holds are not done with.
func (q *Queue) acknowledge(first, last uint64) {
	from, _ := q.findAck(first)
	for _, a := range q.acks[from:] {
		if a.seq > last {
			break
		}
		if !q.window.holds(a.seq) {
			a.done = true
		}
	}
	if len(q.acks) > 0 && q.acks[0].done {
		wake(q.wakeSend)
	}
}

// findAck returns where the Ack of a block is, or would be.
func (q *Queue) findAck(seq uint64) (i int, ok bool) {
	return slices.BinarySearchFunc(q.acks, seq, func(a *ack, seq uint64) int { return cmp.Compare(a.seq, seq) })
}

// callAcks calls what is due, in order of Put. Only the sender calls it, and Run after its end.
func (q *Queue) callAcks() {
	for {
		q.mu.Lock()
		before := q.window.entries // Also blocks of a former run, which have no Ack.
		if len(q.acks) == 0 || !q.acks[0].done || !q.spools() && len(before) > 0 && before[0].seq < q.acks[0].seq {
			q.mu.Unlock()
			return
		}
		a := q.acks[0]
		q.acks[0] = nil
		q.acks = q.acks[1:]
		q.mu.Unlock()
		a.call()
		if a.kept && a.callKept != nil {
			a.callKept()
		}
	}
}
