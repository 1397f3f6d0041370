package podlogs

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// scanner finds files. It alone opens them, and it goes on while the reader waits for its
// destination. One goroutine owns it.
type scanner struct {
	c    *Collector
	dirs map[dirKey]*dir
	now  time.Time
	pass int
	// blind are the directories that this pass could not look into, or not into all of.
	blind []string
	// refused holds what was logged as unreadable, by path.
	refused map[string]bool

	// times reads the times of lines; skips and skippedBytes are what the first start left out.
	times        parser
	skips        int
	skippedBytes int64

	watcher *fsnotify.Watcher
	watched map[string]bool
}

func newScanner(c *Collector) *scanner {
	return &scanner{c: c, dirs: map[dirKey]*dir{}, refused: map[string]bool{}, watched: map[string]bool{}}
}

// watch asks for notice of new pods and containers. Directories with files in them are not
// watched: each write to a file would be an event. stop frees what was acquired.
func (s *scanner) watch() (stop func()) {
	if !s.c.cfg.Pods.Enabled {
		return func() {}
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		s.c.log.Info("new pods are found by scanning alone", "err", err)
		return func() {}
	}
	s.watcher = w
	return func() { _ = w.Close() } // Nobody can do anything about a failure.
}

// watchDir asks for notice of changes in one directory, if it was not done before.
func (s *scanner) watchDir(path string) {
	if s.watcher == nil || s.watched[path] {
		return
	}
	err := s.watcher.Add(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // The kubelet may not have made it yet.
	}
	s.watched[path] = true // Even if it cannot be: scanning finds what notices would.
	if err != nil {
		s.c.log.Debug("directory is scanned only", "path", path, "err", err)
	}
}

// run scans each interval, and more often while something new appears, until ctx ends.
func (s *scanner) run(ctx context.Context) {
	var events chan fsnotify.Event
	var errs chan error
	if s.watcher != nil {
		events, errs = s.watcher.Events, s.watcher.Errors
	}
	interval := time.Duration(s.c.cfg.Pods.ScanInterval)
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var hotUntil time.Time
	for {
		select {
		case <-events:
			if now := time.Now(); now.After(hotUntil) {
				hotUntil = now.Add(interval)
				timer.Reset(0)
			}
		case <-errs: //nolint:errcheck // Events were lost, which the next scan makes up for.
		case <-ctx.Done():
			return
		case <-timer.C:
			s.scan(time.Now())
			next := interval
			if time.Now().Before(hotUntil) {
				// The directory of a container is there before its file.
				next = min(next, s.c.timing.hot)
			}
			timer.Reset(next)
		}
	}
}

// scan makes one pass over all directories.
func (s *scanner) scan(now time.Time) {
	s.now, s.blind = now, s.blind[:0]
	s.pass++
	if s.c.cfg.Pods.Enabled {
		s.pods(s.c.cfg.Pods.Path)
	}
	source := 0
	for i := range s.c.cfg.Files {
		for _, pattern := range s.c.cfg.Files[i].Paths {
			source++
			s.pattern(source, i, pattern)
		}
	}
	needed := map[fileID]bool{}
	for key, d := range s.dirs {
		if d.pass != s.pass {
			s.forget(key, d)
			continue
		}
		for _, id := range d.compressed {
			needed[id] = true
		}
	}
	s.markGone()
	s.c.meet()
	s.rotatedAway(s.c.positions.prune(now, s.blind, needed, s.c.timing.goneAge, s.missing))
	s.c.publish(s.dirs, now)
}

// pods looks through the kubelet's tree, <ns>_<pod>_<uid>/<container>/<file>.
func (s *scanner) pods(path string) {
	top := topHandle(path)
	defer top.close()
	s.watchDir(path)
	d, _, err := s.list(0, top)
	if !s.looked(d, top, ".", err) {
		return
	}
	for _, e := range d.entries {
		p, uid, ok := parsePodDir(e.name)
		if !ok {
			d.skip(top, e.name, skipName)
			continue
		}
		if !s.takes(p.namespace) || s.excluded(p, uid, filepath.Join(path, e.name)) {
			continue
		}
		s.pod(d, top, e, p, uid)
	}
}

func (s *scanner) pod(parent *dir, top *handle, e entry, p pod, uid string) {
	if !e.isDir() {
		parent.skip(top, e.name, e.reason(skipNotDir))
		return
	}
	h := top.sub(e.name)
	defer h.close()
	s.watchDir(h.path)
	d, _, err := s.list(0, h)
	if !s.looked(parent, top, e.name, err) {
		return
	}
	for _, e := range d.entries {
		if !e.isDir() {
			d.skip(h, e.name, e.reason(skipNotDir))
			continue
		}
		p.container = e.name
		s.container(d, h, e.name, p, uid)
	}
}

func (s *scanner) container(parent *dir, ph *handle, name string, p pod, uid string) {
	h := ph.sub(name)
	defer h.close()
	d, changed, err := s.list(0, h)
	if !s.looked(parent, ph, name, err) || !changed {
		return
	}
	var found []*tail
	for _, e := range d.entries {
		switch kind := kindOf(e.name); kind {
		case kindLog:
			if t := s.open(0, d, h, e.name); t != nil {
				found = append(found, t)
			}
		case kindCompressed:
			if t := s.compressed(d, h, e.name); t != nil {
				found = append(found, t)
			}
		case kindUnknown:
			d.skip(h, e.name, e.reason(skipName))
		case kindTemporary:
		}
	}
	sortTails(found)
	ch := &chain{key: h.path, format: FormatCRI, pod: p, uid: uid, found: s.now}
	if found = s.begin(ch, found); len(found) > 0 {
		s.c.add(ch, found)
	}
}

// open opens the file name of a directory for a source, 0 for pods, unless it is open. It
// returns nil for a file that needs no new tail.
func (s *scanner) open(config int, d *dir, h *handle, name string) *tail {
	path := filepath.Join(h.path, name)
	root, err := h.get()
	if err != nil {
		s.refuseFile(d, h, name, err)
		return nil
	}
	if fi, missing := root.Lstat(name); missing == nil && fi.Mode().IsRegular() {
		if t := s.c.claim(idOf(fi)); t != nil {
			s.known(config, d, h, t, name)
			return nil
		}
	}
	f, fi, err := openFile(root, name)
	if err != nil {
		s.refuseFile(d, h, name, err)
		return nil
	}
	head, err := readHead(f, make([]byte, fingerprintSize))
	if err != nil {
		s.refuseFile(d, h, name, errors.Join(err, f.Close()))
		return nil
	}
	s.readable(d, path, name)
	id := idOf(fi)
	d.files[id] = true
	pos, replaced := s.c.positions.open(id, path, head)
	t := &tail{id: id, file: f, fd: int(f.Fd()), path: path, added: s.now, print: fingerprintOf(head)}
	s.c.positions.fingerprint(pos, t.print)
	t.pos.Store(pos)
	t.stem, _, _ = strings.Cut(name, ".log")
	t.marked = pos.acked.Load()
	t.off.Store(t.marked)
	t.size.Store(fi.Size())
	if replaced {
		t.problem = "has the inode of a file that is gone and is read from its start"
		s.c.log.Info("stored position is of another file, log file is read from its start", "path", path)
	}
	return t
}

// known handles a name that leads to an open file.
func (s *scanner) known(config int, d *dir, h *handle, t *tail, name string) {
	path := filepath.Join(h.path, name)
	if t.chain.config != config {
		d.skip(h, name, skipTwice)
		return
	}
	s.readable(d, path, name)
	d.files[t.id] = true
	t.mu.Lock()
	changed := t.path != path
	t.path = path
	t.mu.Unlock()
	if changed {
		s.c.positions.rename(t.id, path)
	}
}

// looked notes how listing the directory name of h went, and tells whether it went well. What
// was known below a directory that cannot be listed stays known.
func (s *scanner) looked(parent *dir, h *handle, name string, err error) bool {
	path := filepath.Join(h.path, name)
	if err == nil {
		s.readable(parent, path, name)
		return true
	}
	if name != "." && errors.Is(err, fs.ErrNotExist) {
		return false // It went away since its parent was listed.
	}
	if skip, ok := errors.AsType[*skipError](err); ok {
		parent.skip(h, name, skip.reason)
		return false
	}
	s.blind = append(s.blind, path)
	s.unreadable(parent, path, name, err)
	for key, d := range s.dirs {
		if strings.HasPrefix(key.path, path+string(filepath.Separator)) {
			d.pass = s.pass
		}
	}
	return false
}

// refuseFile notes that the file name of d is not read.
func (s *scanner) refuseFile(d *dir, h *handle, name string, err error) {
	if skip, ok := errors.AsType[*skipError](err); ok {
		d.skip(h, name, skip.reason)
		return
	}
	d.again = true
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errReplaced) {
		return // The next look will tell what became of it.
	}
	s.blind = append(s.blind, h.path) // The file may have had another name there before.
	s.unreadable(d, filepath.Join(h.path, name), name, err)
}

// unreadable notes what could be read and is not. Only the first time is logged.
func (s *scanner) unreadable(d *dir, path, name string, err error) {
	s.c.m.scanErrors.Inc()
	d.skipped[name] = Skipped{Path: path, Reason: skipUnreadable, Err: err.Error()}
	if !s.refused[path] {
		s.refused[path] = true
		s.c.log.Warn("log file or directory cannot be opened, trying again", "path", path, "err", err)
	}
}

// readable notes that the entry name of d, at path, could be opened.
func (s *scanner) readable(d *dir, path, name string) {
	delete(d.skipped, name)
	if s.refused[path] {
		delete(s.refused, path)
		s.c.log.Info("log file or directory can be opened again", "path", path)
	}
}

// forget drops a directory that is gone.
func (s *scanner) forget(key dirKey, d *dir) {
	delete(s.dirs, key)
	delete(s.watched, key.path)
	delete(s.refused, key.path)
	for name := range d.skipped {
		delete(s.refused, filepath.Join(key.path, name))
	}
}

// markGone notes which open files have no name any more. Collector.claim notes the opposite.
func (s *scanner) markGone() {
	named := map[fileID]bool{}
	for _, d := range s.dirs {
		maps.Copy(named, d.files)
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for id, t := range s.c.byID {
		if named[id] {
			continue
		}
		t.mu.Lock()
		if t.gone.IsZero() {
			t.gone = s.now
		}
		t.mu.Unlock()
	}
}

// pattern looks for the files of one pattern of file_logs element i.
func (s *scanner) pattern(source, i int, pattern string) {
	base, rest := splitPattern(pattern)
	top := topHandle(base)
	defer top.close()
	d, err := s.match(source, i, top, rest)
	s.looked(d, top, ".", err)
}

// match looks in one directory for what the first element of rest matches.
func (s *scanner) match(source, i int, h *handle, rest []string) (d *dir, err error) {
	d, changed, err := s.list(source, h)
	if err != nil {
		return d, err
	}
	for _, e := range d.entries {
		// The pattern has passed Validate, so that there is no error.
		if ok, _ := filepath.Match(rest[0], e.name); !ok {
			continue
		}
		switch {
		case len(rest) == 1 && changed:
			s.file(i, d, h, e)
		case len(rest) > 1 && e.isDir():
			sub := h.sub(e.name)
			_, err := s.match(source, i, sub, rest[1:])
			s.looked(d, h, e.name, err)
			sub.close()
		case len(rest) > 1 && e.mode&fs.ModeSymlink != 0:
			d.skip(h, e.name, skipSymlink)
		}
	}
	return d, nil
}

// file takes one file of file_logs element i.
func (s *scanner) file(i int, d *dir, h *handle, e entry) {
	switch {
	case strings.HasSuffix(e.name, ".gz"):
		d.skip(h, e.name, skipCompressed)
		return
	case e.isDir():
		d.skip(h, e.name, skipIrregular)
		return
	}
	if t := s.open(i+1, d, h, e.name); t != nil {
		cfg := &s.c.cfg.Files[i]
		ch := &chain{
			key: t.path, config: i + 1, format: cfg.Format, found: s.now,
			labels: fileLabels(t.path, cfg.Labels), labelled: true,
		}
		s.c.add(ch, s.begin(ch, []*tail{t}))
	}
}
