package podlogs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"
)

const (
	// maxSkip is the most of a compressed file that one turn decompresses only to get to
	// where reading goes on.
	maxSkip = 4 << 20
	// maxUnzipped bounds what is taken out of one compressed file. The kubelet rotates at
	// 10 MiB by default and looks each 10 s, so that nothing honest comes near.
	maxUnzipped = 16 << 30
	// maxRatio is what deflate can make of one byte at most.
	maxRatio = 1032
)

var errTooLarge = errors.New("the uncompressed file is too large")

// packed is what is known of a compressed file, in bytes.
type packed struct {
	// size is what the file says of the size of its original, 0 if that cannot be; of a file
	// of more than 4 GiB it is the rest.
	size int64
	// seen is how large the original was when it was last seen, 0 if it never was.
	seen int64
}

// unzip decompresses one file at a time. A reader has at most one, with one buffer, however
// many compressed files wait.
type unzip struct {
	t   *tail // whose file is being decompressed, nil if none is
	src *io.SectionReader
	in  *bufio.Reader
	z   gzip.Reader
	// buf[:have] are the uncompressed bytes from base on.
	buf  []byte
	have int
	base int64
	end  error // why there is nothing after them; io.EOF if all is well
}

func newUnzip() *unzip {
	return &unzip{in: bufio.NewReaderSize(nil, 32<<10), buf: make([]byte, turnSize+headRoom)}
}

// begin starts at the beginning of the file of t.
func (u *unzip) begin(t *tail) {
	u.t, u.have, u.base = t, 0, 0
	u.src = io.NewSectionReader(t.file, 0, 1<<62)
	u.in.Reset(u.src)
	u.end = u.z.Reset(u.in)
}

// unread returns how many compressed bytes have not been looked at.
func (u *unzip) unread() int64 {
	at, err := u.src.Seek(0, io.SeekCurrent)
	var st unix.Stat_t
	if err != nil || u.t.file.stat(&st) != nil {
		return 0
	}
	return max(st.Size-at+int64(u.in.Buffered()), 0)
}

// read returns the uncompressed bytes from off on, as many as fit in a turn; end tells why no
// others follow. Without both it is still on the way to off.
func (u *unzip) read(off int64) (data []byte, end error) {
	drop := min(max(off-u.base, 0), int64(u.have))
	u.have = copy(u.buf, u.buf[drop:u.have])
	u.base += drop
	for skipped := 0; u.base < off && u.end == nil; {
		if skipped >= maxSkip {
			return nil, nil
		}
		var n int
		n, u.end = u.z.Read(u.buf[:min(int64(len(u.buf)), off-u.base)])
		u.base += int64(n)
		skipped += n
	}
	for u.have < len(u.buf) && u.end == nil {
		var n int
		n, u.end = u.z.Read(u.buf[u.have:])
		u.have += n
	}
	return u.buf[:u.have], u.end
}

// unpack is turn and all that follows for a compressed file. Such a file never grows, so that
// its end is its end for good.
func (r *reader) unpack(ctx context.Context, t, next *tail) (busy bool) {
	if t.sealed {
		if t.pos.Load().acked.Load() >= t.off.Load() {
			r.c.retire(t)
		} else {
			t.nextPoll = r.now.Add(r.c.timing.pollMin)
		}
		return false
	}
	if r.unzip == nil {
		r.unzip = newUnzip()
	}
	u := r.unzip
	switch {
	case u.t == t:
	case u.t == nil, u.t.chain == t.chain: // A younger one of the chain waits for this one.
		u.begin(t)
	default: // The other is on its way; to take turns would mean to begin anew each time.
		t.nextPoll = r.poll(r.c.timing.pollMin)
		return false
	}
	data, end := u.read(t.off.Load())
	if t.off.Load() >= r.c.maxUnzipped {
		data, end = nil, errTooLarge
	}
	if end == nil && len(data) == 0 {
		t.state.Store(stateReading)
		return true
	}
	t.lastData = r.now
	if consumed := r.lines(t, data); consumed > 0 {
		if t.fail(nil) {
			r.c.log.Info("log file can be read again", "path", t.name())
		}
		t.state.Store(stateReading)
		t.begun, t.failing = true, time.Time{}
		r.finish(ctx, t, consumed)
		return true
	}
	if _, ok := errors.AsType[*fs.PathError](end); ok && !r.stuck(t) {
		u.t = nil
		r.failed(t, fmt.Errorf("decompress at byte %d: %w", t.off.Load(), end))
		return false
	}
	r.unpacked(ctx, t, next, data, end)
	return true
}

// unpacked ends a compressed file, of which rest, that is not a whole line, is left.
func (r *reader) unpacked(ctx context.Context, t, next *tail, rest []byte, end error) {
	unread := r.unzip.unread()
	copy(r.buf, rest) // Where seal looks for it.
	r.seal(ctx, t, next)
	r.unzip.t = nil
	if ctx.Err() != nil {
		return // All that is not acknowledged is read again.
	}
	t.nextPoll = time.Time{}
	off := t.off.Load()
	t.sized(off)
	t.state.Store(stateFinished)
	if errors.Is(end, io.EOF) {
		return
	}
	reason := lostDamaged
	if errors.Is(end, errTooLarge) {
		reason = lostTooLarge
	}
	lost := max(t.packed.seen-off, 0)
	if !errors.Is(end, io.ErrUnexpectedEOF) { // Else it does not have its size at its end.
		lost = max(lost, t.packed.size-off)
	}
	if lost == 0 {
		lost = unread
	}
	t.note("could not be decompressed to its end: " + end.Error())
	r.c.lose(Loss{
		Time: r.now, Path: t.name(), Namespace: t.chain.pod.namespace, Pod: t.chain.pod.name,
		Bytes: lost, Reason: reason, Err: end.Error(),
	})
}

// gzipHead returns the first bytes and the size of what was compressed into f, which has
// fileSize bytes. The size is modulo 4 GiB, as gzip keeps it. Of a damaged file the first
// bytes may be fewer; err is then set.
func gzipHead(f io.ReaderAt, fileSize int64) (head []byte, size uint32, err error) {
	var tail [4]byte
	if _, err = f.ReadAt(tail[:], max(fileSize-4, 0)); err != nil {
		return nil, 0, fmt.Errorf("read the size of what was compressed: %w", err)
	}
	z, err := gzip.NewReader(io.NewSectionReader(f, 0, fileSize))
	if err != nil {
		return nil, 0, fmt.Errorf("decompress: %w", err)
	}
	head = make([]byte, fingerprintSize)
	n := 0
	for n < len(head) && err == nil {
		var m int
		m, err = z.Read(head[n:])
		n += m
	}
	size = uint32(tail[0]) | uint32(tail[1])<<8 | uint32(tail[2])<<16 | uint32(tail[3])<<24
	if err != nil && !errors.Is(err, io.EOF) {
		return head[:n], size, fmt.Errorf("decompress: %w", err)
	}
	return head[:n], size, nil
}
