package podlogs

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-telemetry/ingot/internal/kube"
)

// chain is the files of one container, or one file of file_logs, in the order in which they
// are read. The scanner appends to tails and the reader removes from it, both under
// Collector.mu; the rest belongs to the reader.
type chain struct {
	key    string // the path of the container's directory, or of the file
	config int    // 0 for pods, otherwise 1 + the index in file_logs
	format Format
	pod    pod    // without name for a file of file_logs
	uid    string // in the name of the pod's log directory
	found  time.Time
	// met is the pod as the scanner met it. An outage of the destination may keep the reader
	// from asking until the cluster has forgotten the pod.
	met atomic.Pointer[kube.Pod]

	tails []*tail   // guarded by Collector.mu
	view  []*tail   // the reader's copy of tails
	due   time.Time // when the reader looks at it

	// poked tells that it is in Collector.poked, whose mutex guards it, active that it is among
	// those that the reader looks at.
	poked, active bool
	labelled      bool // labels may be used
	bare          bool // they are of the path alone although there is Kubernetes
	excluded      bool // the pod is not selected any more
	piped         bool // pipes has been made, for what joins was then

	labels  streamLabels
	joins   string    // how lines are joined to blocks, see multilineOf
	looked  time.Time // when the pod was last asked for
	version uint64    // of the pod that labels are made of
	limit   *limit    // nil for none
	// read is the time of the last line read, 0 if it is not known; moved and movedRound are
	// when that was. They are kept up to date where group has others.
	group      *group
	read       int64
	moved      time.Time
	movedRound int

	// pipes is the state of the stages, nil where lines pass as they are.
	pipes *pipes
	// notBefore is when a limit lets the chain be read on.
	notBefore time.Time
}

// tail is one open file. It is known by its inode: a rename needs no special care, and
// deletion leaves it readable.
type tail struct {
	chain *chain
	id    fileID
	// packed is nil unless the file is compressed. Offsets and sizes are then those of its
	// original.
	packed *packed
	added  time.Time
	// number is the place of the file in its chain for the stages, 0 before there are any.
	number int64
	file   descriptor
	names  int32 // that lead to the file; the scanner's

	// The fields up to mu belong to the reader, those that are atomic are read by others.
	pos   atomic.Pointer[position]
	off   atomic.Int64 // of the next byte that has not been taken into account
	left  int          // bytes after off that do not make up a line yet
	size  atomic.Int64
	print fingerprint
	parts [2]part // open lines of stdout and stderr
	// marked is the offset that the last push will acknowledge.
	marked int64
	// skipping tells that the rest of an overlong line, which starts at skipFrom, is ignored.
	skipFrom int64
	lastT    int64   // of the last raw line
	again    *stamps // of raw lines that were read before the start
	skipping bool
	nulled   bool // NUL bytes before the next line were removed
	hot      bool // the last look found something
	// begun tells that lines were read since it was opened, sealed that the next file has
	// taken over.
	begun    bool
	sealed   bool
	lastData time.Time
	nextPoll time.Time
	backoff  time.Duration
	checked  time.Time // when its beginning was last looked at
	failing  time.Time // since when it cannot be read; zero while it can
	state    atomic.Int32
	wd       int32 // of the watch for its next write, which may be over

	mu      sync.Mutex // guards the fields below
	path    string
	gone    time.Time // since when no name leads to the file; zero while one does
	problem *string   // the last thing that was wrong
	err     error     // why the file cannot be read at present
}

// The states of a tail.
const (
	stateWaiting int32 = iota // for metadata, or for an older file
	stateReading
	stateIdle
	stateFailed
	stateFinished
)

func stateName(s int32) string {
	return [...]string{"waiting", "reading", "idle", "failed", "finished"}[s]
}

// part is a line of which not all parts have been seen.
type part struct {
	n      int // parts held
	t      int64
	buf    []byte
	stderr bool
	cut    bool // the text has grown beyond the limit
	// swallow tells that the line has been pushed already and its other parts are ignored.
	swallow bool
	age     int64 // bytes of the file that were read since the first part
	// holds are where the parts begin in each file that has some.
	holds []hold
}

type hold struct {
	t   *tail
	off int64
}

// mark is an offset that becomes acknowledged with a push.
type mark struct {
	pos *position
	off int64
}

// insert puts a file behind those that were found before, except that a file of a container
// comes before those of which the names say that they are younger: it may have been renamed
// between the listing of its directory and the look at it, or been unreadable.
func (ch *chain) insert(t *tail) {
	at := len(ch.tails)
	if ch.config == 0 {
		if i := slices.IndexFunc(ch.tails, func(x *tail) bool {
			_, gone := x.goneSince() // Its name has become that of another.
			return !gone && byAge(x.name(), t.name()) > 0
		}); i >= 0 {
			at = i
		}
	}
	ch.tails = slices.Insert(ch.tails, at, t)
}

// target returns the offset up to which every line of t has been pushed or dropped, given
// the files of its chain.
func (t *tail) target(chain []*tail) int64 {
	off := t.off.Load()
	if t.skipping {
		off = min(off, t.skipFrom)
	}
	for _, other := range chain {
		for i := range other.parts {
			for _, h := range other.parts[i].holds {
				if h.t == t {
					off = min(off, h.off)
				}
			}
		}
	}
	if p := t.chain.pipes; p != nil {
		off = p.target(t, chain, off)
	}
	return off
}

// goesOn tells whether an open line of another file of its chain has its first parts in t. Only
// with its end is all of t settled.
func (t *tail) goesOn(chain []*tail) bool {
	for _, other := range chain {
		for i := range other.parts {
			if other != t && slices.ContainsFunc(other.parts[i].holds, func(h hold) bool { return h.t == t }) {
				return true
			}
		}
	}
	return false
}

// fail notes why the file cannot be read; nil when it can again.
func (t *tail) fail(err error) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = (err == nil) != (t.err == nil)
	t.err = err
	if err != nil {
		t.state.Store(stateFailed)
	}
	return changed
}

// grown looks up the present size and tells whether it is not what the reader saw last.
func (t *tail) grown() bool {
	var st unix.Stat_t
	if t.packed != nil || t.file.stat(&st) != nil || st.Size == t.size.Load() {
		return false
	}
	t.sized(st.Size)
	return true
}

// resize looks up the present size; a failure leaves the last one.
func (t *tail) resize() { t.grown() }

// sized notes the present size, also in the position: should the file go away while nobody
// looks, that tells how much of it was not read.
func (t *tail) sized(size int64) {
	if t.size.Swap(size) != size {
		t.pos.Load().resize(size)
	}
}

func (t *tail) name() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.path
}

func (t *tail) goneSince() (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone, !t.gone.IsZero()
}

// problemNow tells why the file cannot be read at present.
func (t *tail) problemNow() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		return ""
	}
	return t.err.Error()
}

func (t *tail) note(problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problem = &problem
}

// holds tells whether open lines wait for their end.
func (t *tail) holds() bool { return t.parts[0].n+t.parts[1].n > 0 }

// stem is the name up to .log. Parts of a line go on in the next file only of the same stem,
// another one being another life of the container.
func (t *tail) stem() string {
	stem, _, _ := strings.Cut(filepath.Base(t.name()), ".log")
	return stem
}
