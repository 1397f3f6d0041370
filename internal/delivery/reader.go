package delivery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// reader keeps the segment file open that was read last.
type reader struct {
	path string
	file *os.File
}

func (r *reader) open(path string) (*os.File, error) {
	if r.path == path && r.file != nil {
		return r.file, nil
	}
	r.close()
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r.path, r.file = path, f
	return f, nil
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close() // Only read from: nothing can be lost.
		r.file = nil
	}
}

// closeGone closes the file of a segment that is delivered or dropped: as long as it is open a
// deleted file takes up disk space.
func (q *Queue) closeGone(r *reader) {
	if r.file == nil {
		return
	}
	q.mu.Lock()
	gone := !slices.ContainsFunc(q.index.segs, func(s *segment) bool { return s.path == r.path })
	q.mu.Unlock()
	if gone {
		r.close()
	}
}

// isGone tells whether a file or directory does not exist any more.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// scan reads the header of the first record between off and end of a segment and takes the
// block up into the window. What cannot be read is dropped and counted on the way.
func (q *Queue) scan(s *segment, off, end int64) {
	var rec record
	var found bool
	f, err := q.scanner.open(s.path)
	if err == nil {
		rec, found, err = nextRecord(f, s.base, off, end)
	}
	if err != nil {
		q.scanner.close() // A new descriptor may do better.
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.index.unread() != s || s.read != off || !found && s.end != end {
		return // Dropped for the caps, or grown, in the meantime.
	}
	if err != nil && q.cannotRead(err) {
		return
	}
	q.canRead()
	if err != nil || !found {
		q.loseRest(s, s.taken) // What has been taken up is another matter.
		return
	}
	s.read, s.oldest = rec.end(), rec.time
	e := &entry{
		Block: Block{Items: int(rec.items), Time: time.UnixMilli(rec.time), Shard: rec.shard, Format: rec.format},
		seq:   rec.seq, seg: s, rec: rec, total: rec.amount(), left: rec.amount(),
	}
	if _, e.settled = q.settled[rec.seq]; e.settled {
		delete(q.settled, rec.seq)
		q.index.moved = true
	} else {
		if b, ok := q.started[rec.seq]; ok {
			delete(q.started, rec.seq)
			e.left.sub(b.of(rec))
		}
		q.index.take(s, e.left)
	}
	q.window.add(e)
}

// load returns what to send of a block that is on its way, after reading its body if only the
// disk has it. If that fails ok is false: the block is in its place again, or has been dropped
// and counted.
func (q *Queue) load(e *entry) (p part, attempt int, ok bool) {
	q.mu.Lock()
	if e.Body != nil || len(e.parts) > 0 || e.seg == nil {
		defer q.mu.Unlock()
		p, attempt = q.begin(e)
		return p, attempt, true
	}
	s, rec := e.seg, e.rec
	q.mu.Unlock()
	var body []byte
	var intact bool
	f, err := q.loader.open(s.path)
	if err == nil {
		body, intact, err = readBody(f, rec)
	}
	if err != nil {
		q.loader.close()
	}
	var rest []part
	if done := e.done(); intact && done.Items > 0 {
		rest = q.rest(e.Format, body, e.total, done)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.window.stop(e)
		if !q.cannotRead(err) {
			q.canRead()
			q.loseRest(s, q.dropWaiting(s))
		}
		return part{}, 0, false
	}
	q.canRead()
	if !intact {
		q.corrupt++
		q.dropTaken(e, dropCorrupt, "")
		return part{}, 0, false
	}
	if e.parts = rest; rest == nil {
		e.Body = NewBody(nil, body)
		q.startOver(e)
	}
	p, attempt = q.begin(e)
	return p, attempt, true
}

// startOver sends a block whole again of which a part was settled in a former run.
func (q *Queue) startOver(e *entry) {
	again := e.done()
	q.restored.add(again)
	q.index.again(e.seg, again)
	e.left = e.total
}

// loseRest gives up what is left of a segment, but for what keep says, since it cannot be
// read.
func (q *Queue) loseRest(s *segment, keep Amount) {
	lost := q.index.lose(s, keep)
	q.corrupt += lost.Blocks
	q.drop(dropCorrupt, lost, s.oldest, s.newest, "")
	q.acknowledge(0, s.last)
	q.forget(s.last)
	q.index.trim(q.active)
	wake(q.wakeDisk)
}

// dropWaiting takes the blocks of a segment out of the window that are not on their way, and
// returns what is left of the others. The caller accounts for what it has taken out.
func (q *Queue) dropWaiting(s *segment) (keep Amount) {
	for _, e := range q.window.of(s) {
		if e.flying {
			keep.add(e.left)
		} else {
			q.window.settle(e)
		}
	}
	return keep
}

// giveUpReading is after how many attempts in vain to read a segment it is given up, about a
// minute.
const giveUpReading = 12

// cannotRead notes that a segment could not be read and tells whether to try again.
func (q *Queue) cannotRead(err error) bool {
	if q.readFailures == 0 {
		q.diskErrors++
	}
	q.readFailures++
	q.readError = fmt.Sprintf("read the queue: %v", err)
	q.readAgain = time.Now().Add(diskPause)
	return !isGone(err) && q.readFailures < giveUpReading
}

func (q *Queue) canRead() {
	q.readFailures = 0
	q.readError, q.readAgain = "", time.Time{}
}
