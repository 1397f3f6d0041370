package podlogs

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fresh is how old the time of a directory must be before an unchanged time is believed to
// mean an unchanged directory: kernels stamp with the time of their last tick.
const fresh = 100 * time.Millisecond

// dirKey names a directory as one source sees it: 0 is the tree of pods, then come the
// patterns of file_logs.
type dirKey struct {
	source int
	path   string
}

// dir is what was last found in a directory.
type dir struct {
	pass    int  // the last pass that came by
	listed  bool // entries are those of the time in info
	info    fs.FileInfo
	entries []entry
	// files are the open files that have a name here.
	files   map[fileID]bool
	skipped map[string]Skipped // by name
	// compressed are the files whose compressed copies are here.
	compressed []fileID
	// again asks for another look although the directory has not changed.
	again bool
}

func (d *dir) skip(h *handle, name, reason string) {
	d.skipped[name] = Skipped{Path: filepath.Join(h.path, name), Reason: reason}
}

type entry struct {
	name string
	mode fs.FileMode // type bits only
}

func (e entry) isDir() bool { return e.mode.IsDir() }

// reason says why an entry is not what was looked for.
func (e entry) reason(otherwise string) string {
	if e.mode&fs.ModeSymlink != 0 {
		return skipSymlink
	}
	return otherwise
}

// handle is a directory that is opened when it is needed, below directories that have been
// verified not to be links.
type handle struct {
	path string
	open func() (*os.Root, error)
	root *os.Root
}

// topHandle is of a directory that the configuration names, which may be a link.
func topHandle(path string) *handle {
	return &handle{path: filepath.Clean(path), open: func() (*os.Root, error) { return os.OpenRoot(path) }}
}

func (h *handle) sub(name string) *handle {
	return &handle{path: filepath.Join(h.path, name), open: func() (*os.Root, error) {
		parent, err := h.get()
		if err != nil {
			return nil, err
		}
		return openDir(parent, name)
	}}
}

func (h *handle) get() (*os.Root, error) {
	if h.root != nil {
		return h.root, nil
	}
	var err error
	h.root, err = h.open()
	return h.root, err
}

func (h *handle) close() {
	if h.root != nil {
		_ = h.root.Close() // It was only read.
	}
}

// list returns what is known of a directory, and whether it was read anew: it is not if its
// time is what it was. d is never nil.
func (s *scanner) list(source int, h *handle) (d *dir, changed bool, err error) {
	key := dirKey{source, h.path}
	d = s.dirs[key]
	if d == nil {
		d = &dir{files: map[fileID]bool{}, skipped: map[string]Skipped{}}
		s.dirs[key] = d
	}
	d.pass = s.pass
	// Only a hint, taken by path. What is opened afterwards is verified.
	fi, err := os.Stat(h.path)
	if err == nil && d.listed && !d.again && os.SameFile(fi, d.info) && fi.ModTime().Equal(d.info.ModTime()) {
		return d, false, nil
	}
	d.listed = false
	root, err := h.get()
	if err != nil {
		return d, false, err
	}
	entries, info, err := readDir(root)
	if err != nil {
		return d, false, err
	}
	d.entries, d.info, d.again = entries, info, false
	// A change within the same tick as this look would not show.
	d.listed = s.now.Sub(info.ModTime()) > fresh
	d.compressed = nil
	clear(d.files)
	clear(d.skipped)
	return d, true, nil
}

func readDir(root *os.Root) ([]entry, fs.FileInfo, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	// Before the names are read, so that a change meanwhile shows at the next look.
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	found, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, err
	}
	entries := make([]entry, len(found))
	for i, e := range found {
		entries[i] = entry{e.Name(), e.Type()}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, info, nil
}

// parsePodDir takes apart the name of a pod's directory, <namespace>_<pod>_<uid>. None of the
// three can have an underscore in it.
func parsePodDir(name string) (p pod, uid string, ok bool) {
	parts := strings.Split(name, "_")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return pod{}, "", false
	}
	return pod{namespace: parts[0], name: parts[1]}, parts[2], true
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
