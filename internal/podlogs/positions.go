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
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeInterval is how often changed positions are written.
	writeInterval = time.Second
	// keepGone is how long the position of a file that is not seen any more is kept: a
	// directory may be unreadable for a while.
	keepGone = 10 * time.Minute
)

// Positions remembers how far each file of one destination has been acknowledged, across
// restarts. It is used by one [Collector], and its Run outlives that of the collector and of
// the destination's queue, so that the last acknowledgements are written.
//
// The file is written whole to a temporary file, flushed and renamed, and the one before is
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

	// written is what the file on disk holds and failed tells that the last attempt to write
	// went wrong. Both belong to Run.
	written string
	failed  bool
}

// position is one file's place. What is not atomic is guarded by Positions.mu.
type position struct {
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
}

// NewPositions returns the positions that are kept in the file at path, whose directory is
// created when needed. endpoint is the name of the destination. m is shared by all of a
// process.
func NewPositions(path, endpoint string, log *slog.Logger, m *Metrics) *Positions {
	return &Positions{path: path, endpoint: endpoint, log: log, m: m, files: make(map[fileID]*position)}
}

// Run writes changed positions each second until ctx ends, and then once more. A disk that
// does not take them is counted and logged, and tried again; Run returns nil.
func (p *Positions) Run(ctx context.Context) error {
	p.load()
	t := time.NewTicker(writeInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.write()
		case <-ctx.Done():
			p.write()
			return nil
		}
	}
}

// load reads the file or its backup, once.
func (p *Positions) load() {
	p.loading.Do(func() {
		recs, err := readPositions(p.path)
		switch {
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
		p.stored = make(map[uint64]*position, len(recs))
		for _, r := range recs {
			pos := &position{id: fileID{r.Dev, r.Ino}, path: r.Path, print: fingerprint{r.HeadSize, r.HeadSum}, whole: r.Done, seen: now}
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
	recs, err := readPositions(p.path + ".bak")
	if err != nil {
		return nil
	}
	p.m.positionRecoveries.WithLabelValues(p.endpoint, "backup").Inc()
	p.log.Warn("positions were read from the backup, some lines are sent again", "path", p.path, "err", cause)
	return recs
}

func readPositions(path string) ([]storedPosition, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	return decodePositions(data)
}

// open returns the place of a file that begins with head. replaced tells that there was a
// stored place of another file, whose inode this one has taken over.
func (p *Positions) open(id fileID, path string, head []byte) (pos *position, replaced bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos = p.find(id, head); pos != nil {
		delete(p.files, pos.id) // It may have been found under another device number.
		pos.id, pos.path, pos.open, pos.whole = id, path, true, false
		p.files[id] = pos
		return pos, false
	}
	old := p.files[id]
	p.displace(id)
	pos = &position{id: id, path: path, open: true}
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
	pos := &position{id: old.id, path: old.path, open: true}
	p.files[pos.id] = pos
	return pos
}

// fingerprint notes the first bytes of an open file.
func (p *Positions) fingerprint(pos *position, head fingerprint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos.print = head
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
	}
}

// rename notes the present path of an open file.
func (p *Positions) rename(id fileID, path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos := p.files[id]; pos != nil {
		pos.path = path
	}
}

// release tells that a file was closed after all that can be read of it was handed on.
func (p *Positions) release(pos *position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos.open, pos.whole, pos.seen = false, true, time.Now()
}

// reopenable tells that a file that was released may be read on.
func (p *Positions) reopenable(pos *position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos.whole = false
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
			pos.size.Store(pos.acked.Load())
		} else if gone > keepGone {
			delete(p.files, id)
		}
	}
	return lost
}

// below tells whether path is in the directory dir or deeper.
func below(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (dir == "/" || rest != "" && rest[0] == filepath.Separator)
}

// write brings the file on disk up to date.
func (p *Positions) write() {
	data := p.encode()
	if data == p.written {
		return
	}
	err := writeFile(p.path, data)
	p.m.positionWrites.WithLabelValues(p.endpoint).Inc()
	if err != nil {
		p.m.positionFailures.WithLabelValues(p.endpoint).Inc()
		if !p.failed {
			p.log.Warn("positions cannot be written, lines will be sent again after a restart", "path", p.path, "err", err)
		}
	} else {
		if p.written == "" && !p.started() {
			err = p.markStarted(time.Now())
		}
		p.written = data
		if p.failed {
			p.log.Info("positions can be written again", "path", p.path)
		}
	}
	p.failed = err != nil
}

func (p *Positions) encode() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	recs := make([]storedPosition, 0, len(p.files))
	for id, pos := range p.files {
		// A position at 0 in an empty file says nothing that its absence does not say.
		if off, size := pos.acked.Load(), pos.size.Load(); off > 0 || size > 0 {
			recs = append(recs, storedPosition{
				Path: strings.ToValidUTF8(pos.path, "\uFFFD"), Dev: id.dev, Ino: id.ino,
				Offset: off, HeadSize: pos.print.n, HeadSum: pos.print.sum,
				Size: size, Done: pos.whole && off >= size,
			})
		}
	}
	sort.Slice(recs, func(i, j int) bool {
		a, b := &recs[i], &recs[j]
		return a.Path < b.Path || a.Path == b.Path && (a.Dev < b.Dev || a.Dev == b.Dev && a.Ino < b.Ino)
	})
	return encodePositions(recs)
}

// writeFile replaces the file at path and keeps the one before as path.bak. A crash at any
// point leaves one of the two whole.
func writeFile(path, data string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the directory of positions: %w", err)
	}
	tmp := path + ".tmp"
	if err := writeSynced(tmp, data); err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	if err := os.Rename(path, path+".bak"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the old positions: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeSynced(path, data string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(data)
	return errors.Join(err, f.Sync(), f.Close())
}
