package delivery

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// This file is where the disk goroutine meets the queue: each function takes the lock for one
// step.

// ready lets the sender start, whether the directory could be read or not.
func (q *Queue) ready() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.diskReady = true
	wake(q.wakeSend)
}

// diskSlow notes that the disk does not answer, so that nothing waits for it.
func (q *Queue) diskSlow() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.diskReady = true
	if q.cannotWrite(fmt.Sprintf("the disk has not answered for %s", diskPatience)) {
		q.log.Warn("disk is slow, data is kept in memory", "path", q.dir, "duration", diskPatience)
	}
}

// degraded notes that the disk has failed.
func (q *Queue) degraded(err error) {
	q.mu.Lock()
	q.diskErrors++
	first, limit := q.cannotWrite(err.Error()), q.memoryLimit
	q.mu.Unlock()
	if first {
		if q.waits() {
			q.log.Error("queue cannot be written to disk, its source waits while the memory is full", "bytes", limit, "err", err)
			return
		}
		q.log.Error("queue cannot be written to disk, data is kept in memory", "bytes", limit, "err", err)
	}
}

// cannotWrite notes why blocks stay in memory and releases those who wait for the disk. It
// tells whether that is new.
func (q *Queue) cannotWrite(text string) (first bool) {
	first = q.writeError == ""
	q.writeError = text
	for _, e := range q.mem {
		e.release()
	}
	wake(q.wakeSend)
	return first
}

// healed notes that the disk takes blocks.
func (q *Queue) healed() {
	q.mu.Lock()
	was := q.writeError
	q.writeError = ""
	q.mu.Unlock()
	if was != "" {
		q.log.Info("queue can be written to disk again", "path", q.dir)
	}
}

func (q *Queue) diskFailing() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.writeError != ""
}

func (q *Queue) stopped() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

func (q *Queue) countDiskError() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.diskErrors++
}

// spillMustWait tells whether the first block in memory cannot go to disk yet: it is in
// flight and there are older blocks on disk that are not, which happens when the directory could be opened
// only now. Behind those it would lose its place.
func (q *Queue) spillMustWait() bool {
	return q.mem[0].flying && q.index.unread() != nil
}

// nextSpill returns the block to be written to disk now, nil if none is due.
func (q *Queue) nextSpill(now time.Time) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.behind(now) || q.spillMustWait() {
		return nil
	}
	q.writing = q.mem[0]
	return q.writing
}

// notWritten notes that the block is not on disk and stays in memory.
func (q *Queue) notWritten() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writing.settled {
		q.writing.forgetBody()
	}
	q.writing = nil
}

// written moves a block from memory to the place where it is on disk now.
func (q *Queue) written(e *entry, s *segment, rec record) {
	q.mu.Lock()
	q.writing = nil
	q.index.placed(s, rec, e.left)
	if q.spools() {
		q.spooled(e)
	}
	if s.read == rec.at && (e.settled || e.taken) {
		s.read = rec.end() // The sender has it already.
	}
	if e.settled { // Delivered while it was being written.
		if s.read < rec.end() {
			q.settled[rec.seq] = struct{}{}
		}
		e.forgetBody()
		q.index.moved = true
		q.index.trim(q.active)
	} else {
		q.memory.sub(e.left)
		q.leaveMemory(e)
		if e.taken {
			e.seg, e.rec = s, rec
			q.index.take(s, e.left)
			q.index.moved = q.index.moved || e.left != e.total
		}
	}
	wake(q.wakeSend)
	q.mu.Unlock()
	q.healed()
}

// overShare tells whether a spool holds more than a limit that has been lowered. A single block
// that alone is over it stays.
func (q *Queue) overShare() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.spools() && q.index.bytes > q.maxBytes() && len(q.index.segs) > 1
}

// overCap tells whether the files would pass the cap with need bytes more.
func (q *Queue) overCap(need int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.index.bytes+need > q.maxBytes()
}

// onlyActive tells whether the segment that is being written is the oldest.
func (q *Queue) onlyActive() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.active != nil && len(q.index.segs) == 1
}

// delivered tells whether nothing is left on disk.
func (q *Queue) delivered() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.index.left.Blocks == 0
}

// oldestExpired tells whether everything in the oldest segment is too old.
func (q *Queue) oldestExpired() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.index.left.Blocks > 0 && q.tooOld(q.index.segs[0].newest)
}

// dropSegment drops what is left of the oldest segment that has something to drop, and tells
// whether there was one. Blocks in flight stay until their outcome is known; their file does
// not count towards the cap any more, which it exceeds for the time of one request. For age
// only a segment goes of which all is too old.
func (q *Queue) dropSegment(reason string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, s := range q.index.segs {
		if s == q.active || s.left.Blocks > 0 && s.left.Blocks == q.window.flyingOf(s) {
			continue
		}
		if reason == dropTooOld && !q.tooOld(s.newest) {
			return false
		}
		oldest := s.oldest
		if first := q.window.of(s); len(first) > 0 {
			oldest = min(oldest, first[0].Time.UnixMilli())
		}
		q.drop(reason, q.index.lose(s, q.dropWaiting(s)), oldest, s.newest, "")
		q.acknowledge(0, s.last)
		q.forget(s.last)
		if s.left.Blocks == 0 {
			q.index.drop(i)
		} else {
			q.index.grow(s, -s.size)
		}
		return true
	}
	return false
}

// position returns where the cursor belongs and whether it has moved since the last call.
func (q *Queue) position() (cursor, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	moved := q.index.moved
	q.index.moved = false
	c := cursor{skipped: q.unreadable}
	for format, at := range q.refused {
		c.refused = append(c.refused, refusal{format: format, at: at.UnixMilli()})
	}
	if len(q.index.segs) == 0 {
		c.base = q.nextSeq
		return c, moved
	}
	first := q.index.segs[0]
	c.base, c.off = first.base, first.read
	for _, e := range q.window.entries {
		if e.settled {
			c.settled = append(c.settled, e.seq)
			continue
		}
		if e.seg == first {
			c.off = min(c.off, e.rec.at)
		}
		if done := e.done(); e.seg != nil && done.Items > 0 {
			c.begun = append(c.begun, begun{seq: e.seq, items: done.Items, bytes: done.Bytes})
		}
	}
	for seq := range q.settled {
		c.settled = append(c.settled, seq)
	}
	for _, b := range q.started {
		c.begun = append(c.begun, b)
	}
	slices.Sort(c.settled)
	slices.SortFunc(c.begun, func(a, b begun) int { return cmp.Compare(a.seq, b.seq) })
	return c, moved
}

// forget ends the waiting for blocks up to that number which the cursor has found settled:
// they have gone with their segment.
func (q *Queue) forget(last uint64) {
	maps.DeleteFunc(q.settled, func(seq uint64, _ struct{}) bool { return seq <= last })
	maps.DeleteFunc(q.started, func(seq uint64, _ begun) bool { return seq <= last })
}

// takeTrash returns the files to be removed, returnTrash those that could not be.
func (q *Queue) takeTrash() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	paths := q.index.trash
	q.index.trash = nil
	return paths
}

func (q *Queue) returnTrash(paths []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.index.trash = append(paths, q.index.trash...)
}

// takeSeq returns the number of a new segment.
func (q *Queue) takeSeq() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	seq := q.nextSeq
	q.nextSeq++
	return seq
}
