package delivery

import (
	"fmt"
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
	first := q.cannotWrite(err.Error())
	q.mu.Unlock()
	if first {
		q.log.Error("queue cannot be written to disk, data is kept in memory", "bytes", q.memoryLimit, "err", err)
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

func (q *Queue) countDiskError() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.diskErrors++
}

// spillMustWait tells whether the first block in memory cannot go to disk yet: it is in
// flight and there are older blocks on disk, which happens when the directory could be opened
// only now. Behind those it would lose its place.
func (q *Queue) spillMustWait() bool {
	return q.inflight != nil && q.inflight.entry == q.mem[0] && q.index.left.Blocks > 0
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
	q.writing = nil
}

// written moves a block from memory to the place where it is on disk now.
func (q *Queue) written(e *entry, s *segment, rec record) {
	q.mu.Lock()
	q.writing = nil
	q.index.placed(s, rec)
	if e.settled { // Delivered while it was being written.
		q.index.settled(s, rec)
		q.index.trim(q.active)
	} else {
		q.popMemory()
		if q.inflight != nil && q.inflight.entry == e {
			q.inflight.entry, q.inflight.seg, q.inflight.rec = nil, s, rec
		}
	}
	wake(q.wakeSend)
	q.mu.Unlock()
	q.healed()
}

// overCap tells whether the files would pass the cap with need bytes more.
func (q *Queue) overCap(need int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.index.bytes+need > int64(q.cfg.MaxBytes)
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
// whether there was one. A block in flight stays until its outcome is known; its file does
// not count towards the cap any more, which it exceeds for the time of one request. For age
// only a segment goes of which all is too old.
func (q *Queue) dropSegment(reason string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, s := range q.index.segs {
		var keep Amount
		if q.inflight != nil && q.inflight.seg == s {
			keep = q.inflight.amount
		}
		if s == q.active || s.left == keep && keep != (Amount{}) {
			continue
		}
		if reason == dropTooOld && !q.tooOld(s.newest) {
			return false
		}
		lost := q.index.lose(s, keep)
		q.drop(reason, lost, s.oldest, s.newest, "")
		q.acknowledge(0, s.last)
		if keep == (Amount{}) {
			q.index.drop(i)
		} else {
			s.end, s.last = q.inflight.rec.end(), q.inflight.seq
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
	return q.index.cursor(q.nextSeq), moved
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
