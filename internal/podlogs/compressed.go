package podlogs

import (
	"math"
	"path/filepath"
	"strings"
)

// compressed opens a file that the kubelet has compressed, unless it is open or was read
// before, itself or its original. It returns nil for a file that needs no new tail.
//
// The copy has an inode of its own, so that its first uncompressed bytes tell which original
// it was made of; from then on the position of the original is that of the copy.
func (s *scanner) compressed(d *dir, name string) *tail {
	path := filepath.Join(d.path, name)
	parent, err := d.open()
	if err != nil {
		s.refuseFile(d, name, err)
		return nil
	}
	if err = lstat(parent, name, &s.stat); err != nil {
		s.refuseFile(d, name, err)
		return nil
	}
	if typeOf(&s.stat) == 0 {
		id := idOf(&s.stat)
		if t := s.c.claim(id); t != nil {
			d.compressed = append(d.compressed, id)
			s.known(0, d, t, name)
			return nil
		}
		if s.c.positions.finished(id, path) {
			d.compressed = append(d.compressed, id)
			return nil
		}
	}
	f, err := openFile(parent, name, &s.stat, s.most)
	if err != nil {
		s.refuseFile(d, name, err)
		return nil
	}
	s.readable(d, path, name)
	head, size, err := gzipHead(f, s.stat.Size)
	if len(head) > 0 {
		if t := s.openCompressed(d, f, path, head, size); t != nil {
			return t
		}
	} else if err != nil {
		s.refuse(d, name, Skipped{Path: path, Reason: skipCompressed, Size: s.stat.Size, Err: err.Error()})
	}
	_ = f.close() // It was only read.
	return nil
}

// openCompressed makes the tail of an open compressed file, of which stat tells, unless nothing
// of it is to be read.
func (s *scanner) openCompressed(d *dir, f descriptor, path string, head []byte, size uint32) *tail {
	id := idOf(&s.stat)
	known := int64(size)
	if known > s.stat.Size*maxRatio {
		known = 0
	}
	s.fingerprintUnread(d)
	pos, key, seen := s.c.positions.openCompressed(id, path, head, size, known)
	d.compressed = append(d.compressed, key)
	if pos == nil {
		return nil
	}
	t := &tail{
		id: id, file: f, path: path, added: s.now, print: fingerprintOf(head),
		packed: &packed{size: known, seen: seen},
	}
	s.name(d, t)
	t.pos.Store(pos)
	t.marked = pos.acked.Load()
	t.off.Store(t.marked)
	t.size.Store(pos.size.Load())
	return t
}

// fingerprintUnread takes the fingerprint of open files of a container that were empty when
// they were found and of which nothing has been read since. Without it such a file would not
// be recognised as the original of its compressed copy, and its lines would go out twice.
func (s *scanner) fingerprintUnread(d *dir) {
	s.c.mu.Lock()
	var open []*tail
	if ch := s.c.chains[d.path]; ch != nil {
		open = ch.tails // It is replaced, never changed.
	}
	s.c.mu.Unlock()
	for _, t := range open {
		pos := t.pos.Load()
		if t.packed != nil || !s.c.positions.unprinted(pos) {
			continue
		}
		head, err := readHead(t.file, s.head[:])
		if err == nil && len(head) > 0 {
			s.c.positions.firstFingerprint(pos, fingerprintOf(head))
		}
	}
}

// openCompressed returns the place of the compressed file at path, whose original begins with
// head and has a size that gzip gives as size; known is that size if it can be believed, else
// 0. The place is nil if nothing of the file is to be read: its original was acknowledged to
// its end, or is being read. key is the place on which this knowledge rests, seen the size
// that the original had when it was last seen.
func (p *Positions) openCompressed(id fileID, path string, head []byte, size uint32, known int64) (pos *position, key fileID, seen int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos = p.original(path, head)
	if pos != nil {
		acked := pos.acked.Load()
		if pos.open || pos.whole || uint32(acked&math.MaxUint32) == size && acked > 0 && acked >= pos.size.Load() {
			return nil, pos.id, 0
		}
		delete(p.files, pos.id)
		p.removed()
		seen = pos.size.Load()
	} else {
		pos = &position{of: p}
	}
	p.displace(id)
	pos.id, pos.path, pos.open, pos.print = id, path, true, fingerprintOf(head)
	pos.size.Store(max(seen, known))
	p.files[id] = pos
	p.touch(pos)
	return pos, id, seen
}

// original returns the place of the file of which a compressed copy is at path, or of the copy
// itself. Files of a container begin with different times, so that the first bytes tell them
// apart; should they not, the name does.
func (p *Positions) original(path string, head []byte) (best *position) {
	dir, name := filepath.Split(path)
	stem, _, _ := strings.Cut(name, ".log")
	plain, rank := strings.TrimSuffix(path, ".gz"), 0
	for _, pos := range p.files {
		rest, ok := strings.CutPrefix(pos.path, dir)
		if !ok || pos.print.n == 0 || !strings.HasPrefix(rest, stem+".log") || !pos.print.fits(head) {
			continue
		}
		n := pos.print.n
		if pos.path == path || pos.path == plain {
			n += fingerprintSize
		}
		if n > rank {
			best, rank = pos, n
		}
	}
	return best
}

// finished tells whether the compressed file at path was read to its end.
func (p *Positions) finished(id fileID, path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pos := p.files[id]
	return pos != nil && pos.path == path && pos.whole && !pos.open
}

// displace keeps the place of a file whose inode has become that of another: a compressed copy
// may be found yet. Device number 0 is that of no file.
func (p *Positions) displace(id fileID) {
	old := p.files[id]
	if old == nil {
		return
	}
	delete(p.files, id)
	p.removed()
	if old.acked.Load() > 0 || old.size.Load() > 0 {
		p.displaced++
		old.id = fileID{0, p.displaced}
		p.files[old.id] = old
	}
}
