package podlogs

import (
	"context"
	"fmt"
	"syscall"
	"time"

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
	tick     time.Duration // the pause of the reader when no file has anything
	pollMin  time.Duration // between two looks at a busy file
	pollMax  time.Duration // between two looks at an idle file
	settle   time.Duration // the runtime may still write to the old file after a rotation
	closeAge time.Duration // a deleted file is closed when it has been silent this long
	goneAge  time.Duration // what is not found for this long is gone
	openAge  time.Duration // an open line is pushed when its file has been silent this long
	hot      time.Duration // between two scans while something new appears
	check    time.Duration // between two looks at the beginning of a file that is read
}

func defaultTiming() timing {
	return timing{
		tick:     250 * time.Millisecond,
		pollMin:  500 * time.Millisecond,
		pollMax:  time.Second,
		settle:   500 * time.Millisecond,
		closeAge: 10 * time.Second,
		goneAge:  10 * time.Second,
		openAge:  30 * time.Second,
		hot:      100 * time.Millisecond,
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
	stat    syscall.Stat_t
	batch   model.LogBatch
	entries [2][]model.Entry // of lines without stages: of stdout, and of stderr where its labels differ
	chains  []*chain

	begun time.Time
	now   time.Time
	valid bool // every whole line in buf is valid UTF-8
	count counts
	// pending is the number of parts held in all files.
	pending int
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
	mem := make([]byte, 1+turnSize+headRoom)
	return &reader{c: c, mem: mem, buf: mem[1:], begun: time.Now(), stager: newStager(c)}
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		if r.round(ctx) {
			continue
		}
		pause.Reset(r.c.timing.tick - time.Since(r.begun)%r.c.timing.tick)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// round gives each chain one turn, and tells whether any had something.
func (r *reader) round(ctx context.Context) (busy bool) {
	r.chains = r.c.snapshot(r.chains)
	for _, ch := range r.chains {
		r.now = time.Now()
		if r.ready(ctx, ch) && r.mayRead(ctx, ch) && r.within(ctx, ch) && r.advance(ctx, ch) {
			busy = true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	if !busy && r.unzip != nil && r.unzip.t == nil {
		r.unzip = nil
	}
	if len(r.carry) > 0 && r.c.inFlight.Load() == 0 {
		acknowledge(r.carry)
		r.carry = nil
	}
	return busy
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
		if gone, ok := t.goneSince(); ok && r.now.Sub(gone) >= r.c.timing.closeAge && r.now.Sub(t.lastData) >= r.c.timing.closeAge {
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
		if err = syscall.Fstat(t.fd, &r.stat); err != nil {
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
	n, err := syscall.Pread(t.fd, into, off)
	for err == syscall.EINTR {
		n, err = syscall.Pread(t.fd, into, off)
	}
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

// poll returns the time after a pause, at which all files have their turn that are due about
// then: a program that wakes up rarely costs less.
func (r *reader) poll(pause time.Duration) time.Time {
	return r.begun.Add((r.now.Sub(r.begun) + pause + r.c.timing.tick/2).Truncate(pause))
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

// idle puts off the next look at a file that has nothing new.
func (r *reader) idle(t *tail) {
	t.hot = false
	t.backoff = min(max(2*t.backoff, r.c.timing.pollMin), r.c.timing.pollMax)
	t.nextPoll = r.poll(t.backoff)
	if t.sealed {
		t.state.Store(stateFinished)
	} else {
		t.state.Store(stateIdle)
	}
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
	if silent < r.c.timing.openAge || t.parts[0].n+t.parts[1].n == 0 {
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
	if r.now.Sub(t.lastData) >= settle && r.now.Sub(next.added) >= settle {
		return true
	}
	// Both are recent when a backlog is read. Then the file's own time tells.
	fi, err := t.file.Stat()
	return err == nil && r.now.Sub(fi.ModTime()) >= settle+time.Second
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
		if next != nil && next.stem == t.stem && !next.begun {
			next.parts[i], *p = *p, part{}
		} else {
			r.giveUp(p)
		}
	}
	if next == nil || next.stem != t.stem {
		r.drain(t.chain)
	}
	r.finish(ctx, t, consumed)
}

// close ends a file that no name leads to any more.
func (r *reader) close(ctx context.Context, t *tail) {
	if !t.sealed {
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
	t.pos.Load().size.Store(t.off.Load())
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
	t.off.Store(0)
	t.marked, t.print = 0, fingerprint{}
	t.note("was truncated and is read again from its start")
	r.c.m.truncations.Inc()
	r.c.log.Info("log file was truncated, it is read again from its start", "path", t.name())
}
