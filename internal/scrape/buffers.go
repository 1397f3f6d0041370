package scrape

import (
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
)

const (
	smallestBuffer = 4 << 10
	// windowSize is how much of a body is read before it is parsed.
	windowSize = 256 << 10
	// unzipperSize is about what a gzip reader holds with its window and tables.
	unzipperSize = 48 << 10
	// scrapeSize is about what a scrape takes beside that, above all for its goroutines and
	// the buffers of its connection. It bounds how many there are at once.
	scrapeSize = 32 << 10
)

// buffers lends out what bodies are read into, and bounds what is lent at a time. Buffers of
// four sizes, 4, 16, 64 and 256 KiB, are kept for the next scrape, a few of each; larger ones
// are left to the collector.
type buffers struct {
	mu   sync.Mutex // guards what follows
	held int        // Bytes of all that is lent, and of scrapes.
	max  int        // 0 is no limit.
	// memory is how many bytes the process may use, of which a quarter is lent at most. Nil and
	// 0 are no limit.
	memory func() int64
	free   [4][][]byte

	scrapes int // Under way.
	zips    []*unzipper
}

func newBuffers(limit int, memory func() int64) *buffers {
	b := &buffers{max: limit, memory: memory}
	n := runtime.GOMAXPROCS(0)
	for i, keep := range [...]int{32, 16, 8, n + 2} {
		b.free[i] = make([][]byte, 0, keep)
	}
	b.zips = make([]*unzipper, 0, 2*n)
	return b
}

// class returns the place in free of buffers of at least size bytes, and their size.
func class(size int) (i, classSize int) {
	classSize = smallestBuffer
	for classSize < size {
		i++
		classSize *= 4
	}
	return i, classSize
}

// lend returns a buffer of at least size bytes, with any content.
func (b *buffers) lend(size int) ([]byte, error) {
	i, n := class(size)
	if i >= len(b.free) {
		n = size
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.take(n); err != nil {
		return nil, err
	}
	if i < len(b.free) {
		if k := len(b.free[i]); k > 0 {
			buf := b.free[i][k-1]
			b.free[i] = b.free[i][:k-1]
			return buf, nil
		}
	}
	return make([]byte, n), nil
}

// giveBack ends the use of a buffer; nil is none.
func (b *buffers) giveBack(buf []byte) {
	if buf == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= len(buf)
	i, n := class(len(buf))
	if n == len(buf) && i < len(b.free) && len(b.free[i]) < cap(b.free[i]) {
		b.free[i] = append(b.free[i], buf)
	}
}

// begin counts a scrape, which end must follow unless it is refused.
func (b *buffers) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.take(scrapeSize); err != nil {
		return err
	}
	b.scrapes++
	return nil
}

// end ends the count of a scrape.
func (b *buffers) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= scrapeSize
	b.scrapes--
}

// lent returns how many bytes of buffers are in use.
func (b *buffers) lent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held - b.scrapes*scrapeSize
}

// take counts n bytes as lent. The caller holds mu.
func (b *buffers) take(n int) error {
	if b.max > 0 && b.held+n > b.max {
		return fail(reasonBudget, "max_bodies_in_flight exceeded: the scrapes under way take more than %d bytes", b.max)
	}
	if b.memory != nil {
		if limit := b.memory() / 4; limit > 0 && int64(b.held+n) > limit {
			return fail(reasonBudget, "the scrapes under way take more than %d bytes, a quarter of the memory limit; raise that", limit)
		}
	}
	b.held += n
	return nil
}

// unzipper is a gzip reader that can be used again.
type unzipper struct {
	gzip.Reader
	in countingReader
}

// lendUnzipper returns an unzipper of r.
func (b *buffers) lendUnzipper(r io.Reader) (*unzipper, error) {
	b.mu.Lock()
	if err := b.take(unzipperSize); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	var z *unzipper
	if k := len(b.zips); k > 0 {
		z = b.zips[k-1]
		b.zips = b.zips[:k-1]
	} else {
		z = new(unzipper)
	}
	b.mu.Unlock()
	z.in = countingReader{r: r}
	return z, nil
}

// giveBackUnzipper ends the use of an unzipper; nil is none.
func (b *buffers) giveBackUnzipper(z *unzipper) {
	if z == nil {
		return
	}
	z.in.r = nil
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= unzipperSize
	if len(b.zips) < cap(b.zips) {
		b.zips = append(b.zips, z)
	}
}
