package podlogs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// journal is the file of positions as it was last written. It belongs to Positions.Run.
type journal struct {
	file *os.File // open for appending, nil if the file must be written whole
	sum  uint32   // the checksum so far
	// base is the size of what was written whole, added that of what was appended since.
	base, added int
	whole       time.Time // when it was last written whole
	buf         []byte
}

// write brings the file on disk up to date. Without changes it does nothing.
func (p *Positions) write() {
	p.changes.Lock()
	n, whole := len(p.changed), p.whole
	p.changes.Unlock()
	if n == 0 && !whole {
		return
	}
	j := &p.journal
	if whole || j.file == nil || j.added > max(minJournal, 2*j.base) || time.Since(j.whole) >= rewriteInterval || !j.inPlace(p.path) {
		p.rewrite()
		return
	}
	p.report(p.append())
}

// rewrite writes the file whole, unless it is up to date and was written so.
func (p *Positions) rewrite() {
	j := &p.journal
	p.changes.Lock()
	changed := p.changed
	if len(changed) == 0 && !p.whole && j.file != nil && j.added == 0 {
		p.changes.Unlock()
		return
	}
	p.changed, p.whole = nil, false
	for _, pos := range changed {
		pos.dirty = false
	}
	p.changes.Unlock()
	data := encodePositions(p.all())
	if j.file != nil {
		_ = j.file.Close() // What it holds is flushed and about to be replaced.
		j.file = nil
	}
	file, err := writeFile(p.path, data)
	if err == nil && j.whole.IsZero() && !p.started() {
		err = p.markStarted(time.Now())
	}
	if err != nil {
		p.removed() // Tried again as a whole.
		if file != nil {
			_ = file.Close() // Likewise.
		}
	} else {
		*j = journal{file: file, sum: checksumOf(0, data), base: len(data), whole: time.Now(), buf: j.buf}
	}
	p.report(err)
}

// append adds what has changed to the file.
func (p *Positions) append() error {
	j := &p.journal
	recs := p.takeChanged()
	if len(recs) == 0 {
		return nil
	}
	j.buf, j.sum = appendPositions(j.buf[:0], recs, j.sum)
	_, err := j.file.Write(j.buf)
	if err = errors.Join(err, j.file.Sync()); err != nil {
		_ = j.file.Close() // It may hold half of it, and is not believed after a failed flush.
		j.file = nil
		p.removed()
		return fmt.Errorf("write positions: %w", err)
	}
	j.added += len(j.buf)
	if cap(j.buf) > minJournal {
		j.buf = nil
	}
	return nil
}

// inPlace tells whether the file that is appended to is still that at path.
func (j *journal) inPlace(path string) bool {
	mine, err := j.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// report counts and logs how writing went, and keeps it for the status.
func (p *Positions) report(err error) {
	p.changes.Lock()
	before := p.failed
	p.failed = err
	p.changes.Unlock()
	p.m.positionWrites.WithLabelValues(p.endpoint).Inc()
	switch {
	case err != nil:
		p.m.positionFailures.WithLabelValues(p.endpoint).Inc()
		if before == nil {
			p.log.Warn("positions cannot be written, lines will be sent again after a restart", "path", p.path, "err", err)
		}
	case before != nil:
		p.log.Info("positions can be written again", "path", p.path)
	}
}

// takeChanged returns what has changed since it was last written, in no order.
func (p *Positions) takeChanged() []storedPosition {
	p.changes.Lock()
	changed := p.changed
	p.changed = nil
	for _, pos := range changed {
		pos.dirty = false // Before its numbers are read, so that a change meanwhile is not missed.
	}
	p.changes.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	recs := make([]storedPosition, 0, len(changed))
	for _, pos := range changed {
		if p.files[pos.id] == pos { // Else another has taken its place.
			recs = pos.appendTo(recs)
		}
	}
	return recs
}

// all returns all places by path.
func (p *Positions) all() []storedPosition {
	p.mu.Lock()
	recs := make([]storedPosition, 0, len(p.files))
	for _, pos := range p.files {
		recs = pos.appendTo(recs)
	}
	p.mu.Unlock()
	slices.SortFunc(recs, func(a, b storedPosition) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Dev, b.Dev), cmp.Compare(a.Ino, b.Ino))
	})
	return recs
}

// appendTo appends what is stored of pos, if that says more than its absence: it does not of an
// empty file. The caller holds Positions.mu.
func (pos *position) appendTo(recs []storedPosition) []storedPosition {
	off, size := pos.acked.Load(), pos.size.Load()
	if off == 0 && size == 0 {
		return recs
	}
	r := storedPosition{
		Path: strings.ToValidUTF8(pos.path, "\uFFFD"), Dev: pos.id.dev, Ino: pos.id.ino,
		Offset: off, HeadSize: pos.print.n, HeadSum: pos.print.sum,
		Size: size, Done: pos.whole && off >= size,
	}
	if pos.times != nil {
		if pos.times.settle(off); len(pos.times.at) > 0 {
			r.Times, r.TimesEnd = slices.Clone(pos.times.at), pos.times.end
		}
	}
	return append(recs, r)
}

// writeFile replaces the file at path and keeps the one before as path.bak. A crash at any
// point leaves one of the two whole. The new file is returned open for appending.
func writeFile(path string, data []byte) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of positions: %w", err)
	}
	tmp := path + ".tmp"
	f, err := writeSynced(tmp, data)
	if err != nil {
		return nil, fmt.Errorf("write positions: %w", err)
	}
	if err = os.Rename(path, path+".bak"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("keep the old positions: %w", err), f.Close())
	}
	if err = os.Rename(tmp, path); err != nil {
		return nil, errors.Join(fmt.Errorf("write positions: %w", err), f.Close())
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write positions: %w", err), f.Close())
	}
	if err = errors.Join(d.Sync(), d.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("write positions: %w", err), f.Close())
	}
	return f, nil
}

func writeSynced(path string, data []byte) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
