package delivery

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// diskPause is how long a disk that failed is left alone.
	diskPause = 5 * time.Second
	// syncPause is how often files are synced.
	syncPause = time.Second
	// agePause is how often the age of what is on disk is looked at.
	agePause = 5 * time.Second

	maxSegmentBytes = 64 << 20
	minSegmentBytes = 64 << 10
	// segmentsPerCap is into how many segments max_bytes is divided. When the cap is reached
	// the oldest segment goes, so this is the part of the data that is dropped at a time.
	segmentsPerCap = 16
)

// errInUse is the one condition of the directory that ends Run.
var errInUse = errors.New("another process uses it; two programs need two --data directories")

// fileOps are the operations of which tests make the failing ones.
type fileOps struct {
	writeAt func(f *os.File, b []byte, at int64) (int, error)
	sync    func(f *os.File) error
}

// disk owns the files of a queue. Its goroutine is the only one that writes, creates and
// removes them; the sender reads.
type disk struct {
	q      *Queue
	dir    *os.File // open and locked while the log is usable
	loaded bool     // what was in the directory at the start is in the index
	cursor *os.File
	file   *os.File // of the active segment
	buf    []byte

	generation uint64
	moved      bool // the cursor has moved since it was written
	unsynced   bool // the active segment or the cursor was written since the last sync
	created    bool // a file was created since the last sync

	lastWrite, lastSync, lastAge time.Time
	retryAt, cursorRetryAt       time.Time // not before then after an error
}

// run works until stop is closed and then writes everything that is left. opened gets the
// outcome of opening the directory: nil, even if that went wrong for now, or errInUse.
func (d *disk) run(opened chan<- error, stop <-chan struct{}) {
	err := d.open()
	if errors.Is(err, errInUse) {
		opened <- err
		return
	}
	if err != nil {
		d.failed(err)
	}
	d.q.ready()
	opened <- nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			d.finish()
			return
		case <-d.q.wakeDisk:
		case <-timer.C:
		}
		d.work()
		d.q.reportDrops(false)
		if due, ok := d.due(); ok {
			timer.Reset(max(time.Until(due), 0))
		} else {
			timer.Stop()
		}
	}
}

// work does what is due now.
func (d *disk) work() {
	now := time.Now()
	if d.waiting(now) {
		d.upkeep(now)
		return
	}
	if d.dir == nil {
		if err := d.open(); err != nil {
			d.failed(err)
			return
		}
	}
	if err := d.spill(now); err != nil {
		d.failed(err)
	} else if d.q.diskFailing() {
		if err := d.probe(); err != nil {
			d.failed(err)
		}
	}
	d.upkeep(now)
}

// waiting tells whether the disk is left alone after an error.
func (d *disk) waiting(now time.Time) bool { return now.Before(d.retryAt) }

// spill writes blocks from memory as long as they are due.
func (d *disk) spill(now time.Time) error {
	for {
		e := d.q.nextSpill(now)
		if e == nil {
			return nil
		}
		seg, rec, err := d.write(e)
		if err == nil && d.q.spools() {
			err = d.keep(seg, rec)
		}
		if err != nil {
			d.q.notWritten()
			return err
		}
		d.lastWrite, d.unsynced = now, true
		d.q.written(e, seg, rec)
	}
}

// write appends a block to the log. One that alone is over the cap is written nevertheless,
// after everything older has been dropped.
func (d *disk) write(e *entry) (*segment, record, error) {
	need := int64(recordHeaderSize + e.Body.Len())
	if a := d.q.active; a != nil && a.end > segmentHeaderSize && a.end+need > d.segmentSize() {
		d.seal(true)
	}
	d.makeRoom(need)
	if d.q.active == nil {
		if err := d.begin(); err != nil {
			return nil, record{}, err
		}
	}
	a := d.q.active
	d.buf = appendRecord(d.buf[:0], a.base, a.end, e.seq, e.Block)
	rec, _ := parseRecord(d.buf, a.base, a.end, a.end+need)
	_, err := d.q.files.writeAt(d.file, d.buf, a.end)
	if cap(d.buf) > 4<<20 {
		d.buf = nil // One large block shall not cost memory for ever.
	}
	if err != nil {
		// What was written of the record must not be taken for damage later.
		_ = d.file.Truncate(a.end) // The disk is failing already; the reader copes with the rest.
		d.seal(false)
		return nil, record{}, fmt.Errorf("write %s: %w", a.path, err)
	}
	return a, rec, nil
}

// segmentSize is when a segment is full.
func (d *disk) segmentSize() int64 {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	return min(max(d.q.maxBytes()/segmentsPerCap, minSegmentBytes), maxSegmentBytes)
}

// begin starts a new segment.
func (d *disk) begin() error {
	base := d.q.takeSeq()
	path := filepath.Join(d.q.dir, segmentName(base))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create a segment: %w", err)
	}
	if _, err = d.q.files.writeAt(f, segmentHeader(base, time.Now()), 0); err != nil {
		f.Close()
		_ = os.Remove(path) // Best effort: it is empty, and a start removes it.
		return fmt.Errorf("write %s: %w", path, err)
	}
	d.file, d.created, d.unsynced = f, true, true
	s := &segment{base: base, path: path, size: segmentHeaderSize, read: segmentHeaderSize, end: segmentHeaderSize}
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	d.q.active = s
	if d.q.index.add(s); len(d.q.index.segs) == 1 {
		d.q.index.moved = true // The cursor gets into it, so that it is missed when it is gone.
	}
	return nil
}

// seal ends the active segment. A good one gets its trailer and is synced; one with an error
// is left alone and never written again.
func (d *disk) seal(good bool) {
	a := d.q.active
	if a == nil {
		return
	}
	var grown int64
	if good && a.whole.amount.Blocks > 0 {
		if _, err := d.q.files.writeAt(d.file, appendTrailer(nil, a.base, a.whole), a.end); err == nil {
			grown = trailerSize // Without one a start reads the segment, no more.
		}
		if err := d.q.files.sync(d.file); err != nil {
			d.failed(fmt.Errorf("sync %s: %w", a.path, err))
		}
	}
	d.file.Close() // Synced, or not to be relied on anyway.
	d.file = nil
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	d.q.index.grow(a, grown)
	d.q.active = nil
	d.q.index.trim(nil)
}

// makeRoom drops the oldest segments until need bytes more stay under the cap.
func (d *disk) makeRoom(need int64) {
	need += segmentHeaderSize + trailerSize
	for d.q.overCap(need) {
		if !d.dropOldest(dropQueueFull) {
			break
		}
	}
	d.removeTrash()
}

// dropOldest drops what is left of the oldest segment. It returns false when there is nothing
// to drop for that reason but a block in flight.
func (d *disk) dropOldest(reason string) bool {
	if d.q.onlyActive() {
		d.seal(false)
	}
	return d.q.dropSegment(reason)
}

// upkeep does what is not about new blocks: removes what is delivered or too old, writes the
// cursor, syncs.
func (d *disk) upkeep(now time.Time) {
	if now.Sub(d.lastAge) >= agePause {
		d.lastAge = now
		for d.q.oldestExpired() {
			if !d.dropOldest(dropTooOld) {
				break
			}
		}
	}
	for d.q.overShare() && d.dropOldest(dropQueueFull) {
		continue
	}
	if d.q.active != nil && now.Sub(d.lastWrite) >= syncPause && d.q.delivered() {
		d.seal(false)
	}
	if d.dir == nil {
		return
	}
	if !now.Before(d.cursorRetryAt) {
		d.saveCursor() // At once: what a kill leaves out of it is sent again.
	}
	if d.unsynced && now.Sub(d.lastSync) >= syncPause {
		d.lastSync = now
		d.sync(false)
	}
	if !d.waiting(now) {
		d.removeTrash()
	}
}

// due returns when there is something to do next, if there is.
func (d *disk) due() (at time.Time, ok bool) {
	earliest := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	if d.dir == nil || d.q.writeError != "" {
		earliest(d.retryAt)
	}
	if !d.waiting(time.Now()) {
		switch {
		case len(d.q.mem) == 0 || d.q.spillMustWait():
		case d.q.behind(time.Now()):
			earliest(time.Now())
		default:
			earliest(d.q.mem[0].put.Add(d.q.spillPause()))
		}
		if len(d.q.index.trash) > 0 {
			earliest(time.Now())
		}
	}
	if d.dir != nil && (d.moved || d.q.index.moved) {
		earliest(d.cursorRetryAt)
	}
	if d.dir != nil && d.unsynced {
		earliest(d.lastSync.Add(syncPause))
	}
	if d.q.index.left.Blocks > 0 {
		earliest(d.lastAge.Add(agePause))
	} else if d.q.active != nil {
		earliest(d.lastWrite.Add(syncPause))
	}
	return at, ok
}

// probe finds out whether the disk takes data again: a segment is begun, with room for a
// block in it.
func (d *disk) probe() error {
	d.removeTrash() // Perhaps that is what the disk is full of.
	if d.q.active == nil {
		if err := d.begin(); err != nil {
			return err
		}
		d.lastWrite = time.Now()
	}
	a := d.q.active
	if _, err := d.q.files.writeAt(d.file, make([]byte, minSegmentBytes), a.end); err != nil {
		_ = d.file.Truncate(a.end) // As in write.
		d.seal(false)
		return fmt.Errorf("write %s: %w", a.path, err)
	}
	if err := d.file.Truncate(a.end); err != nil {
		d.seal(false)
		return fmt.Errorf("truncate %s: %w", a.path, err)
	}
	d.q.healed()
	return nil
}

// failed notes an error of the disk and leaves it alone for a while. If the directory is gone
// it is made anew then.
func (d *disk) failed(err error) {
	d.retryAt = time.Now().Add(diskPause)
	if _, statErr := os.Stat(d.q.dir); isGone(statErr) {
		d.closeFiles()
	}
	d.q.degraded(err)
}

// finish writes what is in memory and ends the log in good order.
func (d *disk) finish() {
	now := time.Now()
	if d.dir == nil {
		if err := d.open(); err != nil {
			d.q.degraded(err)
			return
		}
	}
	if err := d.spill(now); err != nil {
		d.q.degraded(err)
	}
	d.saveCursor() // Before what may take long: all is with the system now if the process ends.
	if a := d.q.active; a != nil {
		d.seal(!d.q.delivered())
	}
	d.removeTrash()
	d.saveCursor()
	d.sync(true)
	d.closeFiles()
}

// closeFiles gives up the directory and its lock.
func (d *disk) closeFiles() {
	for _, f := range []**os.File{&d.cursor, &d.dir} {
		if *f != nil {
			(*f).Close() // Synced before; the lock goes with the directory.
			*f = nil
		}
	}
}
