package podlogs

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	// turnSize is the most that one turn reads of one file.
	turnSize = 256 << 10
	// headRoom is added to it so that a line of the maximum length and its time fit.
	headRoom = 4 << 10
	// maxTurnLines bounds the entries of one turn where lines are short.
	maxTurnLines = 8192
	// maxHold is how much of a file is read past an open line before that line is given up:
	// it bounds what is read again after a crash.
	maxHold = 1 << 20
	// maxSpare bounds the buffers that are kept for open lines, each of up to maxLine.
	maxSpare = 4
	// maxJoined is how much memory for joined lines is kept for the next turn.
	maxJoined = 1 << 20

	metadataRefresh = time.Second
	pushRetry       = time.Second
)

// timing is how often files are looked at. Tests shorten it.
type timing struct {
	tick     time.Duration // the times at which files are looked at are multiples of it
	pollMin  time.Duration // between two looks at a file that much is written to
	pollMax  time.Duration // between two looks at one with little
	pollIdle time.Duration // between two looks at an idle one that cannot be watched
	idleAge  time.Duration // a file is idle when it has been silent this long
	settle   time.Duration // the runtime may still write to the old file after a rotation
	closeAge time.Duration // a deleted file is closed when it has been silent this long
	goneAge  time.Duration // what is not found for this long is gone
	openAge  time.Duration // an open line is pushed when its file has been silent this long
	hot      time.Duration // between two looks at a new directory that cannot be watched
	gather   time.Duration // for which further changes of directories wait
	check    time.Duration // between two looks at the beginning of a file that is read
}

func defaultTiming() timing {
	return timing{
		tick:     250 * time.Millisecond,
		pollMin:  500 * time.Millisecond,
		pollMax:  time.Second,
		pollIdle: 2 * time.Second,
		idleAge:  10 * time.Second,
		settle:   500 * time.Millisecond,
		closeAge: 10 * time.Second,
		goneAge:  10 * time.Second,
		openAge:  30 * time.Second,
		hot:      100 * time.Millisecond,
		gather:   10 * time.Millisecond,
		check:    5 * time.Second,
	}
}

// reader takes turns over the files. One goroutine owns it.
type reader struct {
	c       *Collector
	parser  parser
	mem     []byte // one byte, then buf
	buf     []byte
	head    [fingerprintSize]byte
	stat    unix.Stat_t
	batch   model.LogBatch
	entries [2][]model.Entry // of lines without stages: of stdout, and of stderr where its labels differ
	// active are the chains that are looked at; the others wait for a notice. next is when the
	// first of them is due.
	active []*chain
	next   time.Time

	// begun is the origin of the times at which files are looked at, far one that does not come.
	begun, far time.Time

	now    time.Time
	rounds int
	valid  bool // every whole line in buf is valid UTF-8
	count  counts
	// pending is the number of parts held in all files, shown what the metric says.
	pending, shown int
	// joined is the text of the turn's joined lines, spare are buffers for open ones.
	joined []byte
	spare  [][]byte
	open   int // bytes of open lines in all files
	stager
	// unzip is there while compressed files are read.
	unzip *unzip
	// carry is what the next push acknowledges besides its own lines.
	carry []mark
}

// counts are what one turn did. They reach the metrics when its lines have been pushed.
type counts struct {
	bytes, read, joined, malformed, nulLines int
	cut, utf8, nul, unfinished               int
}

func newReader(c *Collector) *reader {
	mem, now := make([]byte, 1+turnSize+headRoom), time.Now()
	return &reader{c: c, mem: mem, buf: mem[1:], begun: now, far: now.Add(forever), stager: newStager(c)}
}

// advance reads on in one chain: in its current file, and in the files before it, to which
// the runtime may have written late.
func (r *reader) advance(ctx context.Context, ch *chain) (busy bool) {
	for i, t := range ch.view {
		var next *tail
		if i+1 < len(ch.view) {
			next = ch.view[i+1]
		}
		if r.now.Before(t.nextPoll) {
			if !t.sealed && !r.stuck(t) {
				return busy
			}
			continue
		}
		if t.packed != nil {
			busy = r.unpack(ctx, t, next) || busy
			if ctx.Err() != nil || !t.sealed {
				return busy
			}
			continue
		}
		atEnd, progress := r.turn(ctx, t)
		busy = busy || progress
		if ctx.Err() != nil {
			return false
		}
		if !atEnd {
			if _, gone := t.goneSince(); gone && r.stuck(t) {
				r.abandon(ctx, t)
			} else if !t.sealed && !r.stuck(t) {
				return busy
			}
			continue
		}
		if next != nil && !t.sealed {
			if !r.settled(t, next) {
				t.nextPoll = r.now.Add(min(r.c.timing.pollMin, r.c.timing.settle))
				return busy
			}
			r.seal(ctx, t, next)
			busy = true
		}
		r.expire(ctx, t)
		if gone, ok := t.goneSince(); ok && r.now.Sub(gone) >= r.c.timing.closeAge && r.now.Sub(t.lastData) >= r.c.timing.closeAge && !t.goesOn(ch.view) {
			r.close(ctx, t)
		} else if !t.sealed {
			return busy
		}
	}
	return busy
}

// turn reads once from a file. atEnd tells that there was nothing new, progress that
// something was taken.
func (r *reader) turn(ctx context.Context, t *tail) (atEnd, progress bool) {
	var data []byte
	var err error
	if t.hot { // There is most likely more, so that a look at the size can be spared.
		data, err = r.read(t)
	}
	if err == nil && len(data) <= t.left {
		if err = t.file.stat(&r.stat); err != nil {
			r.failed(t, fmt.Errorf("look at the file: %w", err))
			return false, false
		}
		t.sized(r.stat.Size)
		if r.stat.Size < t.off.Load() {
			r.truncated(ctx, t)
		}
		if r.stat.Size == t.off.Load()+int64(t.left) {
			r.idle(t)
			return true, false
		}
		data, err = r.read(t)
	}
	if err == nil && r.rewritten(t) {
		r.truncated(ctx, t)
		data, err = r.read(t)
	}
	off := t.off.Load()
	if err != nil {
		r.failed(t, fmt.Errorf("read at byte %d: %w", off, err))
		return false, false
	}
	if len(data) == len(r.buf) {
		t.resize()
	} else if size := off + int64(len(data)); size > t.size.Load() {
		t.sized(size)
	}
	if t.fail(nil) {
		r.c.log.Info("log file can be read again", "path", t.name())
	}
	t.state.Store(stateReading)
	t.failing = time.Time{}
	t.lastData, t.backoff, t.nextPoll = r.now, 0, time.Time{}
	r.fingerprint(t, off, data)
	consumed := r.lines(t, data)
	t.begun = t.begun || consumed > 0
	t.hot = consumed > 0
	r.finish(ctx, t, consumed)
	if t.chain.format == FormatRaw {
		r.c.positions.stamped(t.pos.Load(), t.off.Load())
	}
	if consumed == 0 {
		r.idle(t)
	} else if len(data) < len(r.buf) && consumed+t.left == len(data) {
		r.rest(t)
	}
	return false, consumed > 0
}

// read reads on in a file into buf. The byte before, which is a line end as a rule, stands
// before that.
func (r *reader) read(t *tail) ([]byte, error) {
	off, into := t.off.Load(), r.buf
	if off > 0 {
		off, into = off-1, r.mem
	}
	n, err := t.file.pread(into, off)
	return r.buf[:max(0, n-len(into)+len(r.buf))], err
}

// rest puts off the next look at a file that was read to its end, to which more is being
// written.
func (r *reader) rest(t *tail) {
	t.backoff = r.c.timing.pollMin
	if view := t.chain.view; view[len(view)-1] == t { // Others are in the way of the next file.
		t.nextPoll = r.poll(t.backoff)
	}
}

// rewritten tells whether a file does not begin any more as it did: it became shorter and
// grew again between two looks, which its size does not tell. That what was read follows a line
// end tells it nearly as well as the beginning does, which is read less often.
func (r *reader) rewritten(t *tail) bool {
	if t.off.Load() == 0 || r.mem[0] == '\n' && r.now.Sub(t.checked) < r.c.timing.check {
		return false
	}
	t.checked = r.now
	head, err := readHead(t.file, r.head[:])
	return err == nil && !t.print.fits(head) // Reading will say what is wrong.
}

// fingerprint extends the fingerprint while the file is short, before anything of it is
// acknowledged.
func (r *reader) fingerprint(t *tail, off int64, data []byte) {
	if t.print.n >= fingerprintSize {
		return
	}
	head := data
	if off > 0 {
		var err error
		if head, err = readHead(t.file, r.head[:]); err != nil {
			return // Reading will say why. The shorter fingerprint stays good.
		}
	}
	t.print = fingerprintOf(head)
	r.c.positions.fingerprint(t.pos.Load(), t.print)
}

func (r *reader) failed(t *tail, err error) {
	t.nextPoll = r.now.Add(r.c.timing.pollMax)
	if t.failing.IsZero() {
		t.failing = r.now
	}
	if t.fail(err) {
		r.c.log.Warn("log file cannot be read", "path", t.name(), "err", err)
	}
}

// stuck tells whether t has not been readable for so long, as on a bad disk, that the files
// after it do not wait any more.
func (r *reader) stuck(t *tail) bool {
	return !t.failing.IsZero() && r.now.Sub(t.failing) >= r.c.timing.closeAge
}

// expire pushes the open lines of a file that has been silent for long: their container was
// killed, most likely, and its file may stay for days.
func (r *reader) expire(ctx context.Context, t *tail) {
	silent := min(r.now.Sub(t.lastData), r.now.Sub(t.added)) // A line may go on from the file before.
	if silent < r.c.timing.openAge || !t.holds() {
		return
	}
	for i := range t.parts {
		r.giveUpEarly(&t.parts[i])
	}
	r.finish(ctx, t, 0)
}

// settled tells whether the end of t is its end for good, now that next exists.
func (r *reader) settled(t, next *tail) bool {
	settle := r.c.timing.settle
	isNew := r.now.Sub(next.added) < settle
	if isNew && next.added.After(t.added) {
		return false // One between them may have been renamed while their directory was looked at.
	}
	if !isNew && r.now.Sub(t.lastData) >= settle {
		return true
	}
	// Both are recent when a backlog is read. Then the file's own time tells.
	var st unix.Stat_t
	return t.file.stat(&st) == nil && r.now.UnixNano()-mtimeOf(&st) >= int64(settle+time.Second)
}

// seal ends a file: what is left without a line end becomes a line, and open lines go on in
// the next file if that belongs to the same life of the container, else they end here.
func (r *reader) seal(ctx context.Context, t, next *tail) {
	consumed := 0
	if t.left > 0 && !t.skipping {
		n := min(t.left, len(r.buf))
		if t.packed == nil {
			n, _ = t.file.ReadAt(r.buf[:n], t.off.Load())
		}
		if n > 0 {
			r.valid = false
			r.prepare(t)
			r.line(t, r.buf[:n], t.off.Load())
			r.count.unfinished++
			consumed = n
		}
	}
	t.left, t.skipping, t.sealed = 0, false, true
	for i := range t.parts {
		p := &t.parts[i]
		if next != nil && next.stem() == t.stem() && !next.begun {
			next.parts[i], *p = *p, part{}
		} else {
			r.giveUp(p)
		}
	}
	if next == nil || next.stem() != t.stem() {
		r.drain(t.chain)
	}
	r.finish(ctx, t, consumed)
}

// close ends a file that no name leads to any more.
func (r *reader) close(ctx context.Context, t *tail) {
	if !t.sealed || t.left > 0 || t.holds() { // It may have been written to after the next file had begun.
		r.seal(ctx, t, nil)
		if ctx.Err() != nil {
			return
		}
	}
	if p := t.chain.pipes; p != nil && p.holds(t) {
		r.drain(t.chain)
		r.finish(ctx, t, 0)
		if ctx.Err() != nil {
			return
		}
	}
	r.c.remove(t)
}

// abandon ends a file that no name leads to any more and that cannot be read to its end.
func (r *reader) abandon(ctx context.Context, t *tail) {
	lost := max(t.size.Load()-t.off.Load(), 0)
	r.c.lose(Loss{
		Time: r.now, Path: t.name(), Namespace: t.chain.pod.namespace, Pod: t.chain.pod.name,
		Bytes: lost, Reason: lostUnreadable, Err: t.problemNow(),
	})
	t.sized(t.off.Load())
	r.close(ctx, t)
}

// truncated starts again at the beginning of a file that became shorter.
func (r *reader) truncated(ctx context.Context, t *tail) {
	for i := range t.parts {
		r.giveUp(&t.parts[i])
		t.parts[i] = part{}
	}
	r.drain(t.chain)
	t.left, t.skipping, t.nulled = 0, false, false
	r.finish(ctx, t, 0)
	t.pos.Store(r.c.positions.restart(t.pos.Load()))
	t.pos.Load().resize(t.size.Load())
	t.off.Store(0)
	t.marked, t.print, t.again = 0, fingerprint{}, nil
	t.note("was truncated and is read again from its start")
	r.c.m.truncations.Inc()
	r.c.log.Info("log file was truncated, it is read again from its start", "path", t.name())
}
