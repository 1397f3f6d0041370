package podlogs

import (
	"cmp"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fresh is how old the time of a directory must be before an unchanged time is believed to
// mean an unchanged directory: kernels stamp with the time of their last tick.
const fresh = 100 * time.Millisecond

const (
	// unwatchedInterval is the longest time between two scans while not all directories are
	// watched.
	unwatchedInterval = 2 * time.Second
	// youngAge is how long a new directory that is not watched is looked at often, maxYoung how
	// many are.
	youngAge = 10 * time.Second
	maxYoung = 1000
	// watchedShare is how many scans it takes to look at all directories and silent files that
	// are watched, of which notices tell as a rule.
	watchedShare = 6
)

// dirKey names a directory of the configuration as one source sees it: 0 is the tree of pods,
// then come the patterns of file_logs.
type dirKey struct {
	source int
	path   string
}

// dir is what was last found in a directory. The scanner owns it, except for wd and twin.
type dir struct {
	parent *dir   // nil for a directory that the configuration names
	name   string // in parent
	path   string
	source int32
	pass   int32  // the last pass that came by
	mtime  int64  // of the entries
	id     fileID // of the directory whose entries they are
	// entries are what is in it, by name, of directories that may have directories below.
	entries []entry
	// tails are the open files that have a name here.
	tails   []*tail
	skipped map[string]Skipped // by name
	// compressed are the files whose compressed copies are here.
	compressed []fileID
	// file is open while the directory is being looked through.
	file *os.File

	listed bool // the entries are those of the time in mtime
	// again asks for another look although the directory has not changed.
	again bool
	// left tells that it is not among those of the scanner any more.
	left bool

	wd   int32 // of its watch, 0 without; guarded by watch.mu
	twin *dir  // the same directory for another source; guarded by watch.mu
}

type entry struct {
	name string
	mode fs.FileMode // type bits only
	sub  *dir        // what was found in it, if it was looked into
}

func (e entry) isDir() bool { return e.mode.IsDir() }

// reason says why an entry is not what was looked for.
func (e entry) reason(otherwise string) string {
	if e.mode&fs.ModeSymlink != 0 {
		return skipSymlink
	}
	return otherwise
}

// top returns what is known of a directory that the configuration names, which may be a link.
func (s *scanner) top(source int, path string) *dir {
	key := dirKey{source, filepath.Clean(path)}
	d := s.tops[key]
	if d == nil {
		d = &dir{path: key.path, source: int32(source)}
		s.tops[key] = d
	}
	return d
}

// share keeps the path of d and those above it as parts of path, which is below d, so that many
// directories with a file each take little memory.
func (d *dir) share(path string) {
	if len(d.tails) > 0 {
		return
	}
	for ; d.parent != nil && len(path) > len(d.path); d = d.parent {
		d.path = path[:len(d.path)]
		if e := d.parent.find(d.name); e != nil {
			e.name = d.path[len(d.path)-len(d.name):]
			d.name = e.name
		}
	}
}

// child returns what is known of the directory that e is in d.
func (d *dir) child(e *entry) *dir {
	if e.sub == nil {
		e.sub = &dir{parent: d, name: e.name, path: filepath.Join(d.path, e.name), source: d.source}
	}
	return e.sub
}

// find returns the entry of that name, nil if none is known.
func (d *dir) find(name string) *entry {
	if i, ok := slices.BinarySearchFunc(d.entries, name, byName); ok {
		return &d.entries[i]
	}
	return nil
}

// at returns what is known of the directory at path, which may be d or below it.
func (d *dir) at(path string) *dir {
	if path == d.path {
		return d
	}
	if !below(path, d.path) {
		return nil
	}
	for i := range d.entries {
		if sub := d.entries[i].sub; sub != nil {
			if x := sub.at(path); x != nil {
				return x
			}
		}
	}
	return nil
}

func byName(e entry, name string) int { return strings.Compare(e.name, name) }

// keep takes entries, by name, in place of those that were known before.
func (s *scanner) keep(d *dir, entries []entry) {
	old := d.entries
	for i := range old {
		if old[i].sub == nil {
			continue
		}
		if j, ok := slices.BinarySearchFunc(entries, old[i].name, byName); ok && entries[j].isDir() {
			entries[j].sub = old[i].sub
		} else {
			s.forget(old[i].sub)
		}
	}
	d.entries = entries
}

// walk calls f with d and all directories below it that were looked into.
func (d *dir) walk(f func(*dir)) {
	f(d)
	for i := range d.entries {
		if sub := d.entries[i].sub; sub != nil {
			sub.walk(f)
		}
	}
}

// open opens a directory and those above it that are not open, none of which may be a link but
// the one that the configuration names.
func (d *dir) open() (*os.File, error) {
	if d.file != nil {
		return d.file, nil
	}
	var err error
	if d.parent == nil {
		d.file, err = os.Open(d.path)
		return d.file, err
	}
	above, err := d.parent.open()
	if err != nil {
		return nil, err
	}
	d.file, err = openDir(above, d.name)
	return d.file, err
}

// shut closes what open has opened of d alone.
func (d *dir) shut() {
	if d.file != nil {
		_ = d.file.Close() // It was only read.
		d.file = nil
	}
}

// shutAll closes d and the directories above it.
func (d *dir) shutAll() {
	for ; d != nil; d = d.parent {
		d.shut()
	}
}

// list reads a directory anew and returns its entries by name, unless its time is what it was.
// After them it is to be settled.
func (s *scanner) list(d *dir) (found []entry, changed bool, err error) {
	d.pass = s.pass
	watched := s.watchDir(d) // Before it is listed, so that nothing comes in between.
	// Only a hint, taken by path. What is opened afterwards is verified.
	if d.listed && !d.again {
		if s.looks++; watched && s.scanning && !s.closely && (s.looks+s.pass)%watchedShare != 0 {
			return nil, false, nil // Its notices tell.
		}
		if unix.Stat(d.path, &s.stat) == nil && idOf(&s.stat) == d.id && mtimeOf(&s.stat) == d.mtime {
			return nil, false, nil
		}
	}
	d.listed = false
	f, err := d.open()
	if err != nil {
		return nil, false, err
	}
	// Before the names are read, so that a change meanwhile shows at the next look.
	if err = descriptor(f.Fd()).stat(&s.stat); err != nil {
		return nil, false, &fs.PathError{Op: "look at", Path: d.path, Err: err}
	}
	id, mtime := idOf(&s.stat), mtimeOf(&s.stat)
	if found, err = readDir(f); err != nil {
		return nil, false, err
	}
	s.reads++
	// Another directory of the same name was changed before it could be watched.
	d.again = d.id != id && d.id != fileID{}
	if d.again {
		s.unwatchDir(d)
	}
	// A change within the same tick as this look would not show.
	d.id, d.mtime, d.listed = id, mtime, s.now.UnixNano()-mtime > int64(fresh)
	d.compressed = nil
	s.clearSkipped(d)
	s.before, d.tails = d.tails, nil
	return found, true, nil
}

// settle ends a look at a directory that was read anew: files that had a name there before it
// and have none now are gone.
func (s *scanner) settle() {
	for _, t := range s.before {
		s.unname(t)
	}
	s.before = nil
}

func readDir(f *os.File) ([]entry, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	found, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(found))
	for i, e := range found {
		entries[i] = entry{name: e.Name(), mode: e.Type()}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// parsePodDir takes apart the name of a pod's directory, <namespace>_<pod>_<uid>. None of the
// three can have an underscore in it.
func parsePodDir(name string) (p pod, uid string, ok bool) {
	namespace, rest, _ := strings.Cut(name, "_")
	pName, uid, _ := strings.Cut(rest, "_")
	if namespace == "" || pName == "" || uid == "" || strings.Contains(uid, "_") {
		return pod{}, "", false
	}
	return pod{namespace: namespace, name: pName}, uid, true
}

// kind is what the name of a file in a container's directory stands for.
type kind int

const (
	kindUnknown    kind = iota
	kindLog             // 0.log, or 0.log.20260101-000000 after rotation
	kindCompressed      // 0.log.20260101-000000.gz
	kindTemporary       // being written by the kubelet
)

func kindOf(name string) kind {
	stem, suffix, ok := strings.Cut(name, ".log")
	switch {
	case strings.HasSuffix(name, ".tmp"):
		return kindTemporary
	case !ok || stem == "":
		return kindUnknown
	case strings.HasSuffix(suffix, ".gz"):
		return kindCompressed
	case suffix == "" || len(suffix) > 1 && suffix[0] == '.' && suffix[1]-'0' < 10:
		return kindLog
	}
	return kindUnknown
}

// sortTails puts files that were found together in the order in which they were written: by
// restart, rotated ones by their time before the present one.
func sortTails(tails []*tail) {
	slices.SortStableFunc(tails, func(a, b *tail) int { return byAge(a.path, b.path) })
}

// byAge compares two paths of a container's files by when the files were written.
func byAge(a, b string) int {
	aRestart, aTime := age(filepath.Base(a))
	bRestart, bTime := age(filepath.Base(b))
	return cmp.Or(cmp.Compare(aRestart, bRestart), strings.Compare(aTime, bTime))
}

func age(name string) (restart int, rotated string) {
	stem, suffix, _ := strings.Cut(strings.TrimSuffix(name, ".gz"), ".log")
	restart, err := strconv.Atoi(stem)
	if err != nil {
		restart = -1
	}
	if suffix == "" {
		suffix = "\xff" // after all rotated ones
	}
	return restart, suffix
}

// splitPattern splits a pattern into the directory before its first wildcard, or before the
// file when there is none, and the elements that follow.
func splitPattern(pattern string) (base string, rest []string) {
	parts := strings.Split(strings.TrimPrefix(filepath.Clean(pattern), "/"), "/")
	n := 0
	for n < len(parts)-1 && !strings.ContainsAny(parts[n], `*?[\`) {
		n++
	}
	return "/" + strings.Join(parts[:n], "/"), parts[n:]
}
