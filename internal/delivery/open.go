package delivery

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const segmentSuffix = ".seg"

// segmentName returns the file name of a segment. Names sort in order of their contents.
func segmentName(base uint64) string { return fmt.Sprintf("%020d%s", base, segmentSuffix) }

func parseSegmentName(name string) (base uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 10, 64)
	return base, err == nil
}

// open locks the directory and finds out what is in it, without reading bodies: a start takes
// as long as two reads for each finished segment. What cannot be used is counted and left
// alone.
func (d *disk) open() error {
	if err := os.MkdirAll(d.q.dir, 0o700); err != nil {
		return fmt.Errorf("create the queue directory: %w", err)
	}
	dir, err := os.Open(d.q.dir)
	if err != nil {
		return fmt.Errorf("open the queue directory: %w", err)
	}
	d.dir = dir
	if !d.loaded && inMemory(dir) {
		d.q.log.Warn("queue directory is in memory, a reboot loses what waits in it", "path", d.q.dir)
	}
	if err = d.lock(); err == nil && !d.loaded { // Not again when the directory had vanished.
		err = d.load()
	}
	if err != nil {
		d.closeFiles()
		return err
	}
	d.loaded = true
	return nil
}

// lock keeps other processes out. It is on the directory itself, so that it works where
// nothing can be written.
func (d *disk) lock() error {
	err := syscall.Flock(int(d.dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("lock the queue directory %s: %w", d.q.dir, errInUse)
	} else if err != nil {
		d.q.log.Warn("queue directory cannot be locked, make sure that no other process uses it", "path", d.q.dir, "err", err)
	}
	return nil
}

// load fills the index from the directory.
func (d *disk) load() error {
	names, err := d.dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list the queue directory: %w", err)
	}
	var at cursor
	var known bool
	if err = d.openCursor(os.O_RDONLY); err == nil {
		at, known, err = readCursor(d.cursor)
		d.cursor.Close() // Only read from.
		d.cursor = nil
	}
	if err != nil && !isGone(err) { // Without one everything would be sent again.
		return fmt.Errorf("read the cursor: %w", err)
	}
	d.generation = at.generation
	var x index
	f := &found{dir: d.q.dir, at: at, next: at.base + 1}
	for _, seq := range at.settled {
		f.next = max(f.next, seq+1) // Blocks that never got to disk are among them.
	}
	for _, b := range at.begun {
		f.next = max(f.next, b.seq+1)
	}
	for _, name := range names {
		f.take(name)
	}
	slices.SortFunc(f.segs, func(a, b *segment) int { return cmp.Compare(a.base, b.base) })
	f.missContents()
	f.subtractSettled()
	for _, s := range f.segs {
		x.add(s)
	}
	x.trash = f.trash
	x.trim(nil)
	if len(names) > 0 {
		d.q.log.Info("queue opened", "count", x.left.Items, "bytes", x.left.Bytes, "path", d.q.dir)
	}
	if !known && x.left.Blocks > 0 {
		d.q.log.Info("queue has no cursor, all that is kept is sent", "path", d.q.dir)
	}
	if len(f.skipped) > 0 {
		d.q.log.Warn("files in the queue directory were skipped", "count", len(f.skipped), "path", d.q.dir, "err", errors.Join(f.skipped[:min(len(f.skipped), 5)]...))
	}
	d.q.restore(x, f)
	return nil
}

// found collects what a start finds in the directory.
type found struct {
	dir     string
	at      cursor
	segs    []*segment
	trash   []string // delivered or empty
	skipped []error  // not ours, not readable, of another version, empty, or missing
	unread  []uint64 // of skipped, the segments that are not done with
	corrupt int64
	next    uint64           // higher than every sequence number that may have been used
	started map[uint64]begun // blocks of segs of which a part is settled
	cut     []uint64         // of trash, the segments of no length that were not done with
	reached bool             // the file that the cursor is in is there, whatever it holds
}

// take looks at one name in the directory.
func (f *found) take(name string) {
	if name == cursorName {
		return
	}
	path := filepath.Join(f.dir, name)
	base, ok := parseSegmentName(name)
	switch {
	case !ok && strings.HasPrefix(name, "cursor"):
		f.skip(path, errCursor)
		return
	case !ok:
		f.skip(path, errForeign)
		return
	}
	f.next = max(f.next, base+1)
	f.reached = f.reached || base == f.at.base
	s, damaged, err := openSegment(path, base, f.at)
	switch {
	case errors.Is(err, errCut):
		f.trash = append(f.trash, path)
		if base >= f.at.base || slices.Contains(f.at.skipped, base) {
			f.cut = append(f.cut, base)
		}
	case errors.Is(err, errEmpty):
		f.trash = append(f.trash, path)
	case err != nil:
		f.skip(path, err)
		if base >= f.at.base || slices.Contains(f.at.skipped, base) {
			f.unread = append(f.unread, base)
		}
		return
	case s.left.Blocks == 0:
		f.trash = append(f.trash, path)
	default:
		f.segs = append(f.segs, s)
		f.next = max(f.next, s.last+1)
	}
	f.corrupt += damaged
}

func (f *found) skip(path string, err error) {
	f.skipped = append(f.skipped, fmt.Errorf("%s: %w", path, err))
}

// missContents counts segments that somebody has emptied, and the one that the cursor is in if
// it was removed: something of that was left, since the cursor leaves a segment before its file
// goes. A later one that was removed leaves no trace, for numbers have gaps, and the last one may
// have no length yet when a process is killed.
func (f *found) missContents() {
	inside := f.at.off > 0 // Without an offset the cursor is in no file.
	if inside && !f.reached {
		f.skip(filepath.Join(f.dir, segmentName(f.at.base)), errMissing)
	}
	for _, base := range f.cut {
		if inside && base == f.at.base || len(f.segs) > 0 && base < f.segs[len(f.segs)-1].base {
			f.skip(filepath.Join(f.dir, segmentName(base)), errCut)
		}
	}
}

// subtractSettled takes what the cursor notes as settled off what is left. It lies close behind
// the cursor, so few headers are read. In a file that cannot be read now it stays, and counts
// as corrupt when that still cannot be read later.
func (f *found) subtractSettled() {
	settled, started := map[uint64]bool{}, map[uint64]begun{}
	last := uint64(0)
	for _, seq := range f.at.settled {
		settled[seq], last = true, max(last, seq)
	}
	for _, b := range f.at.begun {
		started[b.seq], last = b, max(last, b.seq)
	}
	f.started = map[uint64]begun{}
	for _, s := range f.segs {
		// Blocks that waited in memory have lower numbers than the segment they are in.
		if last == 0 || s.base < f.at.base {
			continue
		}
		s.eachUnread(last, func(r record) {
			if settled[r.seq] {
				s.left.sub(r.amount())
			} else if b, ok := started[r.seq]; ok {
				s.left.sub(b.of(r))
				f.started[r.seq] = b
			}
		})
	}
}

// eachUnread calls visit for the records that the sender has not taken up, up to the one with
// the number last, as far as they can be read.
func (s *segment) eachUnread(last uint64, visit func(r record)) {
	file, err := os.Open(s.path)
	if err != nil {
		return
	}
	defer file.Close() // Only read from.
	for at := s.read; ; {
		r, ok, err := nextRecord(file, s.base, at, s.end)
		if err != nil || !ok || r.seq > last {
			return
		}
		visit(r)
		at = r.end()
	}
}

// openSegment finds out what is left to deliver of a segment file.
func openSegment(path string, base uint64, at cursor) (s *segment, damaged int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close() // Only read from.
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errForeign
	}
	s = &segment{base: base, path: path, size: info.Size(), read: segmentHeaderSize}
	if base == at.base && at.off > s.read {
		s.read = at.off
	}
	c, err := inspect(file, base, info.Size(), s.read)
	if err != nil {
		return nil, c.damaged(), err
	}
	s.end, s.last, s.oldest, s.newest = c.end, c.last, c.oldest, c.newest
	if base >= at.base || slices.Contains(at.skipped, base) {
		s.left = c.amount
	}
	return s, c.damaged(), nil
}

// restore takes over what a start has found. Blocks that are in memory already, because the
// directory could not be opened earlier, come after it.
func (q *Queue) restore(x index, f *found) {
	q.mu.Lock()
	defer q.mu.Unlock()
	shift := f.next
	q.nextSeq += shift
	for _, e := range q.mem {
		e.seq += shift
	}
	for _, e := range q.window.entries {
		if e.settled { // The others are in memory, and have their number.
			e.seq += shift
		}
	}
	for _, a := range q.acks {
		a.seq += shift
	}
	q.index = x
	for _, seq := range f.at.settled {
		q.settled[seq] = struct{}{}
	}
	q.started = f.started
	q.restoreRefused(f.at.refused)
	for _, e := range q.mem {
		if e.taken && !e.flying && x.unread() != nil {
			q.giveBack(e)
		}
	}
	q.restored.add(x.left)
	q.corrupt += f.corrupt
	q.skipped, q.unreadable = int64(len(f.skipped)), f.unread
	wake(q.wakeSend)
}
