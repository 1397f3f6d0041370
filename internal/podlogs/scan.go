package podlogs

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scanner finds files. It alone opens them, and it goes on while the reader waits for its
// destination. One goroutine owns it.
//
// Each directory is watched, so that a file is opened as soon as it has a name. Scanning alone
// would find all the same, later: it makes up for notices that were lost and for directories
// that cannot be watched.
type scanner struct {
	c    *Collector
	tops map[dirKey]*dir
	now  time.Time
	pass int32
	// looks counts the directories that were looked at, and known before.
	looks int32
	// before are the files that had a name in the directory that is being looked at.
	before []*tail
	// scanning tells that everything is being looked at.
	scanning bool
	stat     unix.Stat_t
	head     [fingerprintSize]byte
	// most is the descriptor from which on none is used for a log file.
	most int
	// reads counts the directories that were read.
	reads int
	// reskip tells that what is not read has changed since it was published.
	reskip bool
	// blind are the directories that this pass could not look into, or not into all of.
	blind []string
	// refused holds what was logged as unreadable, by path.
	refused map[string]bool
	needed  map[fileID]bool // see Positions.prune

	// times reads the times of lines; skips and skippedBytes are what the first start left out.
	times        parser
	skips        int
	skippedBytes int64

	// unwatched is the number of directories that cannot be watched, for the reason unwatchedErr;
	// scarce tells that no other is tried in this pass.
	unwatched    int
	unwatchedErr error
	scarce       bool
	// young are directories that cannot be watched and appeared before youngUntil: the
	// directory of a container is there before its file.
	young      []*dir
	youngUntil time.Time
}

func newScanner(c *Collector) *scanner {
	return &scanner{c: c, tops: map[dirKey]*dir{}, refused: map[string]bool{}, needed: map[fileID]bool{}, most: mostDescriptors(), reskip: true}
}

// watchDir asks for notice of changes in one directory, if it was not done before, and tells
// whether it is watched.
func (s *scanner) watchDir(d *dir) bool {
	err := s.c.watchErr
	if s.c.watch != nil {
		err = s.c.watch.dir(d, s.scarce)
	}
	if err == nil {
		return true
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false // The kubelet may not have made it yet.
	}
	s.scarce = errors.Is(err, errNoWatch)
	isNew := d.id == fileID{}
	if s.scanning || isNew {
		s.unwatched, s.unwatchedErr = s.unwatched+1, err
	}
	// The first scan finds what has been there.
	if isNew && !(s.scanning && s.pass == 1) && len(s.young) < maxYoung {
		s.young, s.youngUntil = append(s.young, d), s.now.Add(youngAge)
	}
	return false
}

func (s *scanner) unwatchDir(d *dir) {
	if s.c.watch != nil {
		s.c.watch.dropDir(d)
	}
}

// run looks at what changes, and at everything each interval, until ctx ends.
func (s *scanner) run(ctx context.Context) {
	var changed <-chan struct{}
	if s.c.watch != nil {
		changed = s.c.watch.changed
	}
	next := time.Now().Add(s.interval())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause := time.Until(next)
		if len(s.young) > 0 {
			pause = min(pause, s.c.timing.hot)
		}
		timer.Reset(pause)
		select {
		case <-changed:
			s.changes(time.Now())
			// What else comes soon is looked at together, so that a storm of changes costs little.
			select {
			case <-time.After(s.c.timing.gather):
			case <-ctx.Done():
				return
			}
		case now := <-timer.C:
			if !time.Now().Before(next) {
				s.scan(time.Now())
				next = time.Now().Add(s.interval())
			} else {
				s.lookAtYoung(now)
			}
		case <-ctx.Done():
			return
		}
	}
}

// interval is the time between two scans.
func (s *scanner) interval() time.Duration {
	interval := time.Duration(s.c.cfg.Pods.ScanInterval)
	if s.unwatched > 0 {
		interval = min(interval, unwatchedInterval)
	}
	return interval
}

// scan makes one pass over all directories.
func (s *scanner) scan(now time.Time) {
	before := s.unwatched
	s.now, s.blind, s.unwatched, s.scarce = now, s.blind[:0], 0, false
	s.pass++
	s.scanning = true
	if s.c.cfg.Pods.Enabled {
		s.pods()
	}
	source := 0
	for i := range s.c.cfg.Files {
		for _, pattern := range s.c.cfg.Files[i].Paths {
			source++
			s.pattern(source, i, pattern)
		}
	}
	s.scanning = false
	clear(s.needed)
	s.walk(func(d *dir) {
		for _, id := range d.compressed {
			s.needed[id] = true
		}
	})
	s.rotatedAway(s.c.positions.prune(now, s.blind, s.needed, s.c.timing.goneAge, s.missing))
	s.watchChanged(before)
	s.publish()
	notices := Notices{Unwatched: s.unwatched}
	if s.unwatchedErr != nil {
		notices.Err = s.unwatchedErr.Error()
	}
	s.c.measure(now, notices, int(s.pass))
}

// watchChanged logs when directories begin or cease to be unwatched.
func (s *scanner) watchChanged(before int) {
	switch {
	case s.unwatched == 0:
		s.unwatchedErr = nil
		if before > 0 {
			s.c.log.Info("all log directories are watched again")
		}
	case before == 0 && s.unwatchedErr != nil:
		s.c.log.Warn("log directories cannot be watched and are looked through every two seconds instead", "count", s.unwatched, "err", s.unwatchedErr)
	}
}

// walk calls f with each known directory.
func (s *scanner) walk(f func(*dir)) {
	for _, top := range s.tops {
		top.walk(f)
	}
}

// publish makes visible what this look has brought.
func (s *scanner) publish() {
	s.c.meet()
	if !s.reskip {
		return
	}
	s.reskip = false
	var skipped []Skipped
	s.walk(func(d *dir) {
		for _, x := range d.skipped {
			skipped = append(skipped, x)
		}
	})
	slices.SortFunc(skipped, func(a, b Skipped) int { return strings.Compare(a.Path, b.Path) })
	s.c.publishSkipped(skipped)
}

// changes looks at what the notices since the last call are about.
func (s *scanner) changes(now time.Time) {
	touched, all := s.c.watch.take()
	if all {
		s.scan(now)
		return
	}
	s.now = now
	done := make(map[touch]bool, len(touched))
	for _, t := range touched {
		if t.d.left {
			continue
		}
		isContainer := t.d.parent != nil && t.d.parent.parent != nil
		if t.d.source > 0 || isContainer {
			t.name = "" // They are looked through as a whole.
		}
		if done[t] {
			continue
		}
		done[t] = true
		switch {
		case t.d.source > 0:
			s.rematch(int(t.d.source))
		case isContainer:
			s.container(t.d)
		default:
			s.named(t.d, t.name)
		}
		t.d.shutAll()
	}
	s.publish()
}

// lookAtYoung looks at the directories that were found lately and of which no notices come.
func (s *scanner) lookAtYoung(now time.Time) {
	s.now = now
	young := s.young
	s.young = nil
	for _, d := range young {
		switch {
		case d.left:
		case d.source > 0:
			s.rematch(int(d.source))
		case d.parent != nil && d.parent.parent != nil:
			s.container(d)
		case d.parent != nil:
			s.pod(d.parent, d.parent.find(d.name))
		}
		d.shutAll()
	}
	if now.Before(s.youngUntil) {
		s.young = append(young, s.young...)
	}
	s.publish()
}

// named looks at one entry of the directory of all pods, or of a pod.
func (s *scanner) named(d *dir, name string) {
	f, err := d.open()
	if err != nil {
		return // The next scan tells.
	}
	i, known := slices.BinarySearchFunc(d.entries, name, byName)
	if err := lstat(f, name, &s.stat); err != nil {
		if known && errors.Is(err, fs.ErrNotExist) {
			if sub := d.entries[i].sub; sub != nil {
				s.forget(sub)
			}
			d.entries = slices.Delete(d.entries, i, i+1)
		}
		return
	}
	if !known {
		d.entries = slices.Insert(d.entries, i, entry{name: name})
	}
	e := &d.entries[i]
	if e.mode = typeOf(&s.stat); !e.isDir() && e.sub != nil {
		s.forget(e.sub)
	}
	if d.parent == nil {
		s.pod(d, e)
	} else {
		s.podEntry(d, e)
	}
}

// pods looks through the kubelet's tree, <ns>_<pod>_<uid>/<container>/<file>.
func (s *scanner) pods() {
	d := s.top(0, s.c.cfg.Pods.Path)
	defer d.shut()
	found, changed, err := s.list(d)
	if !s.looked(d, err) {
		return
	}
	if changed {
		s.keep(d, found)
	}
	for i := range d.entries {
		s.pod(d, &d.entries[i])
	}
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
	found, changed, err := s.list(d)
	if !s.looked(d, err) {
		return
	}
	if changed {
		s.keep(d, found)
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

// looked notes how listing d went, and tells whether it went well. What was known below a
// directory that cannot be listed stays known, unless it does not exist.
func (s *scanner) looked(d *dir, err error) bool {
	owner, name := d.parent, d.name
	if owner == nil {
		owner, name = d, "."
	}
	if err == nil {
		s.readable(owner, d.path, name)
		return true
	}
	if skip, ok := errors.AsType[*skipError](err); ok {
		s.skip(owner, name, skip.reason)
		return false
	}
	switch gone := errors.Is(err, fs.ErrNotExist); {
	case gone && d.parent != nil:
		s.forget(d) // It went away since its parent was listed.
		return false
	case gone && d.source > 0:
		s.empty(d)
	default:
		s.blind = append(s.blind, d.path)
		d.walk(func(x *dir) { x.pass = s.pass })
	}
	s.unreadable(owner, d.path, name, err)
	return false
}

// refuseFile notes that the file name of d is not read.
func (s *scanner) refuseFile(d *dir, name string, err error) {
	if skip, ok := errors.AsType[*skipError](err); ok {
		s.skip(d, name, skip.reason)
		return
	}
	d.again = true
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errReplaced) {
		return // The next look will tell what became of it.
	}
	s.blind = append(s.blind, d.path) // The file may have had another name there before.
	s.unreadable(d, filepath.Join(d.path, name), name, err)
}

// skip notes that an entry of d is not read.
func (s *scanner) skip(d *dir, name, reason string) {
	if d.skipped[name].Reason != reason {
		s.refuse(d, name, Skipped{Path: filepath.Join(d.path, name), Reason: reason})
	}
}

func (s *scanner) refuse(d *dir, name string, x Skipped) {
	if d.skipped == nil {
		d.skipped = map[string]Skipped{}
	}
	d.skipped[name], s.reskip = x, true
}

func (s *scanner) clearSkipped(d *dir) {
	if len(d.skipped) > 0 {
		d.skipped, s.reskip = nil, true
	}
}

// unreadable notes what could be read and is not. Only the first time is logged.
func (s *scanner) unreadable(d *dir, path, name string, err error) {
	s.c.m.scanErrors.Inc()
	if text := err.Error(); d.skipped[name].Err != text {
		s.refuse(d, name, Skipped{Path: path, Reason: skipUnreadable, Err: text})
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		path = "" // Said once for all.
	}
	if !s.refused[path] {
		s.refused[path] = true
		s.c.log.Warn("log file or directory cannot be opened, trying again", "path", filepath.Join(d.path, name), "err", err)
	}
}

// readable notes that the entry name of d, at path, could be opened.
func (s *scanner) readable(d *dir, path, name string) {
	if _, ok := d.skipped[name]; ok {
		delete(d.skipped, name)
		s.reskip = true
	}
	if s.refused[path] {
		delete(s.refused, path)
		s.c.log.Info("log file or directory can be opened again", "path", path)
	}
}

// forget drops a directory that is gone, and all below it.
func (s *scanner) forget(d *dir) {
	s.empty(d)
	d.left = true
	s.unwatchDir(d)
	d.shut()
	delete(s.refused, d.path)
	if d.parent == nil {
		return
	}
	if e := d.parent.find(d.name); e != nil && e.sub == d {
		e.sub = nil
	}
	if _, ok := d.parent.skipped[d.name]; ok {
		delete(d.parent.skipped, d.name)
		s.reskip = true
	}
}

// empty drops what is known to be in a directory.
func (s *scanner) empty(d *dir) {
	for i := range d.entries {
		if sub := d.entries[i].sub; sub != nil {
			s.forget(sub)
		}
	}
	for name := range d.skipped {
		delete(s.refused, filepath.Join(d.path, name))
	}
	s.clearSkipped(d)
	tails := d.tails
	d.tails = nil
	for _, t := range tails {
		s.unname(t)
	}
	d.entries, d.compressed, d.listed, d.id = nil, nil, false, fileID{}
}

// rematch looks for the files of the pattern that has this number.
func (s *scanner) rematch(wanted int) {
	source := 0
	for i := range s.c.cfg.Files {
		for _, pattern := range s.c.cfg.Files[i].Paths {
			if source++; source == wanted {
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
	found, changed, err := s.list(d)
	if !s.looked(d, err) {
		return
	}
	if len(rest) > 1 {
		if changed {
			s.keep(d, found)
		}
		s.matchBelow(i, d, rest)
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
