package podlogs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// pods looks through the kubelet's tree, <ns>_<pod>_<uid>/<container>/<file>.
func (s *scanner) pods() {
	d := s.top(0, s.c.cfg.Pods.Path)
	defer d.shut()
	if !s.relist(d) {
		return
	}
	for i := range d.entries {
		s.pod(d, &d.entries[i])
	}
}

// relist brings the entries of a directory up to date, of which the caller looks into some, and
// tells whether it could be looked into.
func (s *scanner) relist(d *dir) bool {
	found, changed, err := s.list(d)
	if !s.looked(d, err) {
		return false
	}
	if changed {
		s.keep(d, found)
	}
	return true
}

func (s *scanner) pod(root *dir, e *entry) {
	p, uid, ok := parsePodDir(e.name)
	switch {
	case !ok:
		s.skip(root, e.name, skipName)
		return
	case !s.takes(p.namespace):
		return
	case s.excluded(p, uid, root, e.name):
		if e.sub != nil {
			s.forget(e.sub)
		}
		return
	case !e.isDir():
		s.skip(root, e.name, e.reason(skipNotDir))
		return
	}
	d := root.child(e)
	defer d.shut()
	if !s.relist(d) {
		return
	}
	for i := range d.entries {
		s.podEntry(d, &d.entries[i])
	}
}

// podEntry looks at one entry of the directory of a pod.
func (s *scanner) podEntry(d *dir, e *entry) {
	if !e.isDir() {
		s.skip(d, e.name, e.reason(skipNotDir))
		return
	}
	s.container(d.child(e))
}

func (s *scanner) container(d *dir) {
	defer d.shut()
	entries, changed, err := s.list(d)
	if !s.looked(d, err) || !changed {
		return
	}
	var found []*tail
	for _, e := range entries {
		switch kind := kindOf(e.name); kind {
		case kindLog:
			if t := s.open(0, d, e.name); t != nil {
				found = append(found, t)
			}
		case kindCompressed:
			if t := s.compressed(d, e.name); t != nil {
				found = append(found, t)
			}
		case kindUnknown:
			s.skip(d, e.name, e.reason(skipName))
		case kindTemporary:
		}
	}
	// Files without a name any more are older than what has one now.
	s.settle()
	if len(found) > 0 {
		sortTails(found)
		p, uid, _ := parsePodDir(d.parent.name)
		p.container = d.name
		ch := &chain{key: d.path, format: FormatCRI, pod: p, uid: uid, found: s.now}
		if found = s.begin(ch, found); len(found) > 0 {
			s.c.add(ch, found)
		}
	}
}

// open opens the file name of a directory for a source, 0 for pods, unless it is open. It
// returns nil for a file that needs no new tail.
func (s *scanner) open(config int, d *dir, name string) *tail {
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
		if t := s.c.claim(idOf(&s.stat)); t != nil {
			s.known(config, d, t, name)
			return nil
		}
	}
	f, err := openFile(parent, name, &s.stat, s.most)
	if err != nil {
		s.refuseFile(d, name, err)
		return nil
	}
	head, err := readHead(f, s.head[:])
	if err != nil {
		s.refuseFile(d, name, errors.Join(err, f.close()))
		return nil
	}
	path := filepath.Join(d.path, name)
	s.readable(d, path, name)
	d.share(path)
	id := idOf(&s.stat)
	pos, replaced := s.c.positions.open(id, path, head)
	t := &tail{id: id, file: f, path: path, added: s.now, print: fingerprintOf(head)}
	s.name(d, t)
	s.c.positions.fingerprint(pos, t.print)
	t.pos.Store(pos)
	t.marked = pos.acked.Load()
	t.off.Store(t.marked)
	t.again = s.c.positions.again(pos)
	t.size.Store(s.stat.Size)
	pos.resize(s.stat.Size)
	if replaced {
		t.note("has the inode of a file that is gone and is read from its start")
		s.c.log.Info("stored position is of another file, log file is read from its start", "path", path)
	}
	return t
}

// known handles a name that leads to an open file.
func (s *scanner) known(config int, d *dir, t *tail, name string) {
	if t.chain.config != config {
		s.skip(d, name, skipTwice)
		return
	}
	path := filepath.Join(d.path, name)
	s.readable(d, path, name)
	s.name(d, t)
	t.mu.Lock()
	changed := t.path != path
	if changed {
		t.path = path
	}
	t.mu.Unlock()
	if changed {
		s.c.positions.rename(t.id, path)
	}
}

// name notes that a name in d leads to t.
func (s *scanner) name(d *dir, t *tail) {
	d.tails = append(d.tails, t)
	t.names++
}

// unname takes back one name; without any the file is gone.
func (s *scanner) unname(t *tail) {
	if t.names--; t.names == 0 {
		s.c.miss(t, s.now)
	}
}

// rematch looks for the files of the pattern that has this number, of every pattern for 0.
func (s *scanner) rematch(wanted int) {
	source := 0
	for i := range s.c.cfg.Files {
		for _, pattern := range s.c.cfg.Files[i].Paths {
			if source++; wanted == 0 || source == wanted {
				s.pattern(source, i, pattern)
			}
		}
	}
}

// pattern looks for the files of one pattern of file_logs element i.
func (s *scanner) pattern(source, i int, pattern string) {
	base, rest := splitPattern(pattern)
	s.match(i, s.top(source, base), rest)
}

// match looks in one directory for what the first element of rest matches.
func (s *scanner) match(i int, d *dir, rest []string) {
	if rest[0] == deep {
		s.matchDeep(i, d, rest[1])
		return
	}
	defer d.shut()
	if len(rest) > 1 {
		if s.relist(d) {
			s.matchBelow(i, d, rest)
		}
		return
	}
	found, changed, err := s.list(d)
	if !s.looked(d, err) {
		return
	}
	for _, e := range found {
		// The pattern has passed Validate, so that there is no error.
		if ok, _ := filepath.Match(rest[0], e.name); ok {
			s.file(i, d, e)
		}
	}
	if changed {
		s.settle()
	}
}

func (s *scanner) matchBelow(i int, d *dir, rest []string) {
	for j := range d.entries {
		e := &d.entries[j]
		if ok, _ := filepath.Match(rest[0], e.name); !ok {
			continue
		}
		switch {
		case s.c.cfg.Files[i].leftOut(filepath.Join(d.path, e.name)):
		case e.isDir():
			s.match(i, d.child(e), rest[1:])
		case e.mode&fs.ModeSymlink != 0:
			s.skip(d, e.name, skipSymlink)
		}
	}
}

// file takes one file of file_logs element i.
func (s *scanner) file(i int, d *dir, e entry) {
	switch {
	case s.c.cfg.Files[i].leftOut(filepath.Join(d.path, e.name)):
		return
	case strings.HasSuffix(e.name, ".gz"):
		s.skip(d, e.name, skipCompressed)
		return
	case e.isDir():
		s.skip(d, e.name, skipIrregular)
		return
	}
	if t := s.open(i+1, d, e.name); t != nil {
		cfg := &s.c.cfg.Files[i]
		ch := &chain{
			key: t.path, config: i + 1, format: cfg.Format, found: s.now,
			labels: fileLabels(t.path, cfg.Labels, s.c.fromPath[i]), labelled: true,
		}
		s.c.add(ch, s.begin(ch, []*tail{t}))
	}
}
