package podlogs

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxTouched bounds the changes that wait for the scanner; with more of them everything is
	// looked through.
	maxTouched = 4096
	// watchRetry is how long no further watch is tried for a file after the kernel had none.
	watchRetry = 10 * time.Second
)

var errNoWatch = errors.New("no inotify watch is left: raise the system's fs.inotify.max_user_watches")

// notice is one event of the kernel. name is valid until the next read.
type notice struct {
	wd          int32
	name        []byte
	lost, ended bool // some were lost; this watch is over
}

// touch tells that name came, went or became another in a directory.
type touch struct {
	d    *dir
	name string
}

// watch turns notices of the kernel into what is to be looked at: directories by the scanner,
// files that had been silent by the reader. What cannot be watched is looked at now and then
// instead, so that a lack of watches costs time only.
type watch struct {
	n *notifier
	// limit is the most watches, 0 if only the kernel limits them. Tests set it.
	limit int
	// poke makes the reader look at chains, or at all.
	poke func(chains []*chain, all bool)
	// changed has something when take has.
	changed chan struct{}

	mu      sync.Mutex // guards all below and dir.wd, dir.twin
	dirs    map[int32]*dir
	files   map[int32]*chain
	touched []touch
	all     bool      // notices were lost
	full    time.Time // when there was last no watch for a file
}

// newWatch returns a watch; its run is to be called, and close when nobody uses it any more.
func newWatch(poke func([]*chain, bool)) (*watch, error) {
	n, err := newNotifier()
	if err != nil {
		return nil, err
	}
	return &watch{n: n, poke: poke, changed: make(chan struct{}, 1), dirs: map[int32]*dir{}, files: map[int32]*chain{}}, nil
}

func (w *watch) close() { w.n.close() }

// run takes notices until close is called.
func (w *watch) run() {
	buf := make([]byte, noticeBuffer)
	var batch []notice
	for {
		batch = batch[:0]
		if err := w.n.read(buf, func(n notice) { batch = append(batch, n) }); err != nil {
			return
		}
		w.note(batch)
	}
}

// note sorts notices by who is to act on them.
func (w *watch) note(batch []notice) {
	var silent []*chain
	w.mu.Lock()
	lost := false
	for _, n := range batch {
		switch ch, d := w.files[n.wd], w.dirs[n.wd]; {
		case n.lost:
			lost, w.all = true, true
		case ch != nil:
			delete(w.files, n.wd)
			silent = append(silent, ch)
		case d != nil && n.ended:
			delete(w.dirs, n.wd)
			for ; d != nil; d = d.twin {
				d.wd = 0
			}
		case d != nil:
			w.touch(d, string(n.name))
		}
	}
	scan := w.all || len(w.touched) > 0
	w.mu.Unlock()
	if lost || len(silent) > 0 {
		w.poke(silent, lost)
	}
	if scan {
		select {
		case w.changed <- struct{}{}:
		default: // The scanner has not taken the last ones yet.
		}
	}
}

func (w *watch) touch(d *dir, name string) {
	if w.all {
		return
	}
	for ; d != nil; d = d.twin {
		w.touched = append(w.touched, touch{d, name})
	}
	if len(w.touched) > maxTouched {
		w.touched, w.all = nil, true
	}
}

// take returns what has changed since the last call; all tells that it is not known what.
func (w *watch) take() (touched []touch, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	touched, all = w.touched, w.all
	w.touched, w.all = nil, false
	return touched, all
}

// dir asks for notices of what changes in a directory, unless that was done, which before tells;
// with scarce it does not try. It is to be called before the directory is listed.
func (w *watch) dir(d *dir, scarce bool) (before bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.wd != 0 {
		return true, nil
	}
	if scarce || w.spent() {
		return false, errNoWatch
	}
	wd, err := w.n.dir(d.path)
	if errors.Is(err, unix.ENOSPC) {
		return false, errNoWatch
	}
	if err != nil {
		return false, err
	}
	if w.dirs[wd] != d {
		d.wd, d.twin = wd, w.dirs[wd]
		w.dirs[wd] = d
	}
	return false, nil
}

// dropDir ends the notices about a directory.
func (w *watch) dropDir(d *dir) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.wd == 0 {
		return
	}
	first := w.dirs[d.wd]
	switch {
	case first == d && d.twin == nil:
		delete(w.dirs, d.wd)
		w.n.drop(d.wd)
	case first == d:
		w.dirs[d.wd] = d.twin
	default:
		for ; first != nil; first = first.twin {
			if first.twin == d {
				first.twin = d.twin
			}
		}
	}
	d.wd, d.twin = 0, nil
}

// file asks to have ch looked at when something is written to one of its files that is silent
// at now. It returns 0 if there is no watch for it.
func (w *watch) file(file descriptor, ch *chain, now time.Time) (wd int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spent() || !w.full.IsZero() && now.Sub(w.full) < watchRetry {
		return 0
	}
	wd, err := w.n.once(file)
	if err != nil {
		w.full = now
		return 0
	}
	w.full = time.Time{}
	w.files[wd] = ch
	return wd
}

// dropFile ends a watch that file has returned and that may be over.
func (w *watch) dropFile(wd int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files[wd] != nil {
		delete(w.files, wd)
		w.n.drop(wd)
	}
}

// spent tells whether limit is reached. The caller holds mu.
func (w *watch) spent() bool { return w.limit > 0 && len(w.dirs)+len(w.files) >= w.limit }
