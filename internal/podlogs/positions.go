package podlogs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeInterval is how often changed positions are written.
	writeInterval = time.Second
	// soonInterval is the least time between two writes that were asked for by Soon.
	soonInterval = 100 * time.Millisecond
	// rewriteInterval is how often the file is written whole while positions change: the backup
	// is not older.
	rewriteInterval = 5 * time.Minute
	// minJournal is how long the end of the file, which is appended to, may become in any case.
	minJournal = 256 << 10
	// keepGone is how long the position of a file that is not seen any more is kept: a
	// directory may be unreadable for a while.
	keepGone = 10 * time.Minute
)

// Positions remembers how far each file of one destination has been acknowledged, across
// restarts. It is used by one [Collector], and its Run outlives that of the collector and of
// the destination's queue, so that the last acknowledgements are written.
//
// What changes within a second is appended to the file and flushed. Now and then, and when Run
// ends, the file is written whole to a temporary one, flushed and renamed, and the one before is
// kept as a backup. If neither can be used, files are read from their beginning.
type Positions struct {
	path, endpoint string
	log            *slog.Logger
	m              *Metrics

	loading sync.Once
	// first tells that there have been no positions here before. load sets it.
	first bool

	mu    sync.Mutex // guards files
	files map[fileID]*position
	// stored holds what was loaded, by inode alone; load writes it and nothing else does.
	stored map[uint64]*position
	// displaced is the last number that was given to a place without inode.
	displaced uint64

	changes sync.Mutex  // guards all below; it may be locked while mu is, not the other way round
	changed []*position // have something to be written
	whole   bool        // the file must be written whole, since a place was removed
	failed  error       // why positions could not be written the last time

	journal journal // Run's
	soon    chan struct{}
}

// position is one file's place. What is not atomic is guarded by Positions.mu.
type position struct {
	of    *Positions
	id    fileID
	path  string
	print fingerprint
	// acked is the offset up to which every line has been settled.
	acked atomic.Int64
	// size is how large the file was when it was last seen.
	size atomic.Int64
	// whole tells that the file does not grow any more and was handed on to its end, so that
	// at most acknowledgements are missing.
	whole bool
	// open tells that a tail uses it; otherwise seen is when the file was last known.
	open bool
	seen time.Time
	// times are those of raw lines that are not settled, nil without any.
	times *stamps
	// dirty tells that it is in Positions.changed; guarded by Positions.changes.
	dirty bool
}

// resize notes how large the file is.
func (pos *position) resize(size int64) {
	if pos.size.Swap(size) != size {
		pos.of.touch(pos)
	}
}

// acknowledge notes that all before the marks has been settled.
func (p *Positions) acknowledge(marks []mark) {
	for _, m := range marks {
		m.pos.acked.Store(m.off)
	}
	p.changes.Lock()
	defer p.changes.Unlock()
	for _, m := range marks {
		p.touchLocked(m.pos)
	}
}

// touch notes that pos is to be written.
func (p *Positions) touch(pos *position) {
	p.changes.Lock()
	defer p.changes.Unlock()
	p.touchLocked(pos)
}

func (p *Positions) touchLocked(pos *position) {
	if !pos.dirty {
		pos.dirty = true
		p.changed = append(p.changed, pos)
	}
}

// removed notes that a place is not among the files any more.
func (p *Positions) removed() {
	p.changes.Lock()
	defer p.changes.Unlock()
	p.whole = true
}

// failure tells why positions could not be written the last time.
func (p *Positions) failure() string {
	p.changes.Lock()
	defer p.changes.Unlock()
	if p.failed == nil {
		return ""
	}
	return p.failed.Error()
}

// NewPositions returns the positions that are kept in the file at path, whose directory is
// created when needed. endpoint is the name of the destination. m is shared by all of a
// process.
func NewPositions(path, endpoint string, log *slog.Logger, m *Metrics) *Positions {
	return &Positions{path: path, endpoint: endpoint, log: log, m: m, files: make(map[fileID]*position), soon: make(chan struct{}, 1)}
}

// Soon asks for what has been acknowledged to be written at once, or as soon as that is not too
// often. Lines that are in a spool and not noted here would be in it twice after a crash.
func (p *Positions) Soon() {
	select {
	case p.soon <- struct{}{}:
	default: // It will be.
	}
}

// Run writes changed positions each second, or when Soon asks for it, until ctx ends, and then
// once more. In its first second it does so more often: a program that is killed before each
// time a second is over would send the same lines again and again. A disk that does not take
// them is counted and logged, and tried again; Run returns nil.
func (p *Positions) Run(ctx context.Context) error {
	p.load()
	pause := soonInterval
	t := time.NewTimer(pause)
	defer t.Stop()
	var last time.Time
	var due <-chan time.Time
	for {
		select {
		case <-t.C:
			p.write()
			pause = min(2*pause, writeInterval)
			t.Reset(pause)
		case <-p.soon:
			if due == nil {
				due = time.After(soonInterval - time.Since(last))
			}
		case <-due:
			due, last = nil, time.Now()
			p.write()
		case <-ctx.Done():
			p.rewrite()
			return nil
		}
	}
}

// load reads the file or its backup, once.
func (p *Positions) load() {
	p.loading.Do(func() {
		recs, torn, err := readPositions(p.path)
		switch {
		case err == nil && torn:
			p.m.positionRecoveries.WithLabelValues(p.endpoint, "torn").Inc()
			p.log.Warn("the end of the positions is torn, some lines are sent again", "path", p.path)
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			if recs = p.loadBackup(nil); recs != nil {
				break
			}
			if p.first = !p.started(); !p.first {
				p.m.positionRecoveries.WithLabelValues(p.endpoint, "from_beginning").Inc()
				p.log.Error("positions are lost, log files are read from the beginning", "path", p.path)
			}
		default:
			// It is put aside, or the next write would make it the backup.
			if renameErr := os.Rename(p.path, p.path+".bad"); renameErr != nil {
				p.log.Warn("positions could not be put aside", "path", p.path, "err", renameErr)
			}
			if recs = p.loadBackup(err); recs == nil {
				p.m.positionRecoveries.WithLabelValues(p.endpoint, "from_beginning").Inc()
				p.log.Error("positions are unusable, log files are read from the beginning", "path", p.path, "err", err)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		now := time.Now()
		p.whole = true // What was read may be the backup, or of an older version.
		p.stored = make(map[uint64]*position, len(recs))
		for _, r := range recs {
			pos := &position{of: p, id: fileID{r.Dev, r.Ino}, path: r.Path, print: fingerprint{r.HeadSize, r.HeadSum}, whole: r.Done, seen: now}
			if len(r.Times) > 0 {
				pos.times = &stamps{at: r.Times, end: r.TimesEnd}
			}
			pos.acked.Store(r.Offset)
			pos.size.Store(r.Size)
			if r.Dev == 0 {
				p.displaced++
				pos.id.ino = p.displaced
			} else {
				p.stored[r.Ino] = pos
			}
			p.files[pos.id] = pos
		}
	})
}

// loadBackup reads the backup; cause is why the file itself could not be used, nil when there
// is none.
func (p *Positions) loadBackup(cause error) []storedPosition {
	recs, _, err := readPositions(p.path + ".bak")
	if err != nil {
		return nil
	}
	p.m.positionRecoveries.WithLabelValues(p.endpoint, "backup").Inc()
	p.log.Warn("positions were read from the backup, some lines are sent again", "path", p.path, "err", cause)
	return recs
}

func readPositions(path string) (recs []storedPosition, torn bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("read positions: %w", err)
	}
	return decodePositions(data)
}

// open returns the place of a file that begins with head. replaced tells that there was a
// stored place of another file, whose inode this one has taken over.
func (p *Positions) open(id fileID, path string, head []byte) (pos *position, replaced bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos = p.find(id, head); pos != nil {
		if pos.id != id { // It was found under another device number.
			delete(p.files, pos.id)
			p.removed()
		}
		pos.id, pos.path, pos.open, pos.whole = id, path, true, false
		p.files[id] = pos
		p.touch(pos)
		return pos, false
	}
	old := p.files[id]
	p.displace(id)
	pos = &position{of: p, id: id, path: path, open: true}
	p.files[id] = pos
	return pos, old != nil && old.acked.Load() > 0
}

// find returns the stored place of the file, by inode and fingerprint. Device numbers may
// change at a reboot, so without an exact match the fingerprint decides if it is long enough.
func (p *Positions) find(id fileID, head []byte) *position {
	if pos := p.files[id]; pos != nil {
		if pos.print.fits(head) {
			return pos
		}
		return nil
	}
	if pos := p.stored[id.ino]; pos != nil && p.files[pos.id] == pos && !pos.open && pos.print.n >= 64 && pos.print.fits(head) {
		return pos
	}
	return nil
}

// restart returns a new place, at the beginning, for a file that was truncated. What is still
// in flight acknowledges the old one, to no effect.
func (p *Positions) restart(old *position) *position {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos := &position{of: p, id: old.id, path: old.path, open: true}
	p.files[pos.id] = pos
	p.removed() // The old one must not stay while the new one says nothing yet.
	return pos
}

// fingerprint notes the first bytes of an open file.
func (p *Positions) fingerprint(pos *position, head fingerprint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos.print != head {
		pos.print = head
		p.touch(pos)
	}
}

// unprinted tells whether nothing is known of the first bytes of a file.
func (p *Positions) unprinted(pos *position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pos.print.n == 0
}

// firstFingerprint notes the first bytes of an open file unless a reader was faster.
func (p *Positions) firstFingerprint(pos *position, head fingerprint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos.print.n == 0 {
		pos.print = head
		p.touch(pos)
	}
}

// rename notes the present path of an open file.
func (p *Positions) rename(id fileID, path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos := p.files[id]; pos != nil {
		pos.path = path
		p.touch(pos)
	}
}

// release tells that a file was closed after all that can be read of it was handed on.
func (p *Positions) release(pos *position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos.open, pos.whole, pos.seen = false, true, time.Now()
	p.touch(pos)
}

// reopenable tells that a file that was released may be read on.
func (p *Positions) reopenable(pos *position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos.whole = false
	p.touch(pos)
}

// prune drops what has been gone for long. keep lists places that are still needed, and so are
// those of files in or below the directories of blind, which cannot be looked into. It returns
// what was not found for age, had unread bytes and is missing from its path; that is told once.
func (p *Positions) prune(now time.Time, blind []string, keep map[fileID]bool, age time.Duration, missing func(path string) bool) (lost []unread) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, pos := range p.files {
		if pos.open || keep[id] || slices.ContainsFunc(blind, func(dir string) bool { return below(pos.path, dir) }) {
			pos.seen = now
			continue
		}
		rest := pos.size.Load() - pos.acked.Load()
		if rest > 0 && pos.whole {
			continue // The destination may yet acknowledge it; a restart would make it a loss.
		}
		if gone := now.Sub(pos.seen); rest > 0 && gone > age && missing(pos.path) {
			lost = append(lost, unread{pos.path, rest})
			pos.resize(pos.acked.Load())
		} else if gone > keepGone {
			delete(p.files, id)
			p.removed()
		}
	}
	return lost
}

// below tells whether path is in the directory dir or deeper.
func below(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (dir == "/" || rest != "" && rest[0] == filepath.Separator)
}
