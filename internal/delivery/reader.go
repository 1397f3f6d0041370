package delivery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// reader reads records for the sender and keeps the file of the first segment open.
type reader struct {
	path     string
	file     *os.File
	failures int // in a row, for this segment
}

// read finds the first record between off and end and reads its body.
func (r *reader) read(s *segment, off, end int64) (rec record, found bool, body []byte, intact bool, err error) {
	if r.path != s.path || r.file == nil {
		r.close()
		if r.file, err = os.Open(s.path); err != nil {
			r.file = nil
			return rec, false, nil, false, err
		}
		r.path = s.path
	}
	rec, found, err = nextRecord(r.file, s.base, off, end)
	if err == nil && found {
		body, intact, err = readBody(r.file, rec)
	}
	if err != nil {
		r.close() // A new descriptor may do better.
	}
	return rec, found, body, intact, err
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close() // Only read from: nothing can be lost.
		r.file = nil
	}
}

// isGone tells whether a file or directory does not exist any more.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// readOldest reads the first block on disk that is whole and young enough and returns it as
// the one in flight. What is neither is dropped and counted on the way. again asks to look
// anew, because there is nothing left on disk or the place has changed meanwhile.
func (q *Queue) readOldest() (j *job, again bool, err error) {
	q.mu.Lock()
	if len(q.index.segs) == 0 || q.index.left.Blocks == 0 {
		q.mu.Unlock()
		return nil, true, nil
	}
	s := q.index.segs[0]
	off, end := s.off, s.end
	q.mu.Unlock()

	rec, found, body, intact, err := q.reader.read(s, off, end)

	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.index.segs) == 0 || q.index.segs[0] != s || s.off != off || !found && s.end != end {
		return nil, true, nil // Dropped for the caps, or grown, in the meantime.
	}
	if err != nil && q.cannotRead(err) {
		return nil, false, err
	}
	q.canRead()
	switch {
	case err != nil, !found:
		q.loseRest(s)
	case !intact:
		q.corrupt++
		q.skip(s, rec, dropCorrupt)
	case q.tooOld(rec.time):
		q.skip(s, rec, dropTooOld)
	default:
		s.off, s.oldest = rec.at, rec.time
		j = &job{body: body, amount: rec.amount(), time: rec.time, seq: rec.seq, seg: s, rec: rec}
		q.inflight = j
		return j, false, nil
	}
	return nil, true, nil
}

// skip drops the first record on disk.
func (q *Queue) skip(s *segment, rec record, reason string) {
	q.drop(reason, rec.amount(), rec.time, rec.time, "")
	q.index.settled(s, rec)
	q.index.trim(q.active)
	q.acknowledge(0, rec.seq)
	wake(q.wakeDisk)
}

// loseRest gives up what is left of the first segment on disk, of which nothing can be read.
func (q *Queue) loseRest(s *segment) {
	lost := q.index.lose(s, Amount{})
	q.corrupt += lost.Blocks
	q.drop(dropCorrupt, lost, s.oldest, s.newest, "")
	s.off = s.end
	q.index.trim(q.active)
	q.acknowledge(0, s.last)
	wake(q.wakeDisk)
}

// giveUpReading is after how many attempts in vain to read a segment it is given up, about a
// minute.
const giveUpReading = 12

// cannotRead notes that the first segment could not be read and tells whether to try again.
func (q *Queue) cannotRead(err error) bool {
	if q.reader.failures == 0 {
		q.diskErrors++
	}
	q.reader.failures++
	q.readError = fmt.Sprintf("read the queue: %v", err)
	return !isGone(err) && q.reader.failures < giveUpReading
}

func (q *Queue) canRead() {
	q.reader.failures = 0
	q.readError = ""
}
