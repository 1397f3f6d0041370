package remotewrite

import (
	"context"
	"sync"
	"time"
)

// idleBuffers is how long a buffer that nobody needs is kept, and up to twice that.
const idleBuffers = 3 * time.Second

// pool is a free list. Unlike a sync.Pool it survives garbage collections, which else would
// make these large things be allocated anew all the time. It is bounded by what is in use at
// the same time: what was not needed for a while is given up by trim.
type pool[T any] struct {
	create func() T

	mu     sync.Mutex
	free   []T
	unused int // the fewest that were free since the last trim
	most   int // free at a time, 0 for any number
}

// get returns something from the list, or something new.
func (p *pool[T]) get() T {
	p.mu.Lock()
	n := len(p.free) - 1
	if n < 0 {
		p.mu.Unlock()
		return p.create()
	}
	defer p.mu.Unlock()
	x := p.free[n]
	clear(p.free[n:])
	p.free = p.free[:n]
	p.unused = min(p.unused, n)
	return x
}

// put takes something back.
func (p *pool[T]) put(x T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most == 0 || len(p.free) < p.most {
		p.free = append(p.free, x)
	}
}

// trim gives up what was not used since the last trim, which is at the front of the list.
func (p *pool[T]) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := copy(p.free, p.free[p.unused:])
	clear(p.free[n:])
	p.free = p.free[:n]
	if p.unused = n; n == 0 {
		p.free = nil
	}
}

func newBytePool(size int) *pool[[]byte] {
	return &pool[[]byte]{create: func() []byte { return make([]byte, 0, size) }}
}

const (
	// chunkSize is the unit in which compressed data is held.
	chunkSize = 16 << 10
	// freeChunks bounds the list of chunks, into which a backlog comes back as it is delivered
	// and what one large scrape needs for a moment, to 1.5 MiB.
	freeChunks = 96
	// smallestRaw is the smallest size of buffers for what is not compressed yet.
	smallestRaw = 16 << 10
)

// buffers are what all streams of a writer share.
type buffers struct {
	raw     []*pool[[]byte] // pieces before compression, by size
	sizes   []int           // of raw, ascending, the last one for a whole piece
	scratch *pool[[]byte]   // one piece after compression
	chunks  *pool[[]byte]   // of chains, and of the bodies that are made of them
}

func newBuffers() *buffers {
	b := &buffers{scratch: newBytePool(maxPieceEncoded), chunks: newBytePool(chunkSize)}
	b.chunks.most = freeChunks
	for size := smallestRaw; size < pieceBytes/2; size *= 4 {
		b.sizes = append(b.sizes, size)
	}
	b.sizes = append(b.sizes, pieceBytes+pieceSlack)
	for _, size := range b.sizes {
		b.raw = append(b.raw, newBytePool(size))
	}
	return b
}

// room returns raw with room for n more bytes, in another buffer if it has to.
func (b *buffers) room(raw []byte, n int) []byte {
	n += len(raw)
	if cap(raw) >= n {
		return raw
	}
	var larger []byte
	for i, size := range b.sizes {
		if size >= n {
			larger = b.raw[i].get()
			break
		}
	}
	if larger == nil {
		larger = make([]byte, 0, n) // Something extraordinary, which put does not keep.
	}
	larger = append(larger, raw...)
	b.putRaw(raw)
	return larger
}

// putRaw takes back a buffer that came from room.
func (b *buffers) putRaw(raw []byte) {
	for i, size := range b.sizes {
		if cap(raw) == size {
			b.raw[i].put(raw[:0])
		}
	}
}

// freeChunk takes back a chunk of a body. What has another size is not from the list.
func (b *buffers) freeChunk(chunk []byte) {
	if cap(chunk) == chunkSize {
		b.chunks.put(chunk[:0])
	}
}

// trim gives up what is not needed any more.
func (b *buffers) trim() {
	b.scratch.trim()
	b.chunks.trim()
	for _, p := range b.raw {
		p.trim()
	}
}

// run gives up what is not needed any more until ctx ends, and calls more each time.
func (b *buffers) run(ctx context.Context, more func()) {
	t := time.NewTicker(idleBuffers)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			b.trim()
			more()
		}
	}
}

// chain is a run of bytes in chunks, so that it can grow without copies.
type chain struct {
	chunks [][]byte
	size   int
}

func (c *chain) write(p *pool[[]byte], b []byte) {
	c.size += len(b)
	for len(b) > 0 {
		last := len(c.chunks) - 1
		if last < 0 || len(c.chunks[last]) == cap(c.chunks[last]) {
			c.chunks = append(c.chunks, p.get())
			last++
		}
		chunk := c.chunks[last]
		n := copy(chunk[len(chunk):cap(chunk)], b)
		c.chunks[last] = chunk[:len(chunk)+n]
		b = b[n:]
	}
}

// release empties the chain.
func (c *chain) release(p *pool[[]byte]) {
	for i, chunk := range c.chunks {
		p.put(chunk[:0])
		c.chunks[i] = nil
	}
	c.chunks, c.size = c.chunks[:0], 0
}

// cursor reads a chain from its front.
type cursor struct {
	chain     *chain
	chunk, at int
}

// copyTo moves the next n bytes to another chain.
func (r *cursor) copyTo(dst *chain, p *pool[[]byte], n int) {
	for n > 0 {
		part := r.chain.chunks[r.chunk][r.at:]
		if len(part) > n {
			part = part[:n]
			r.at += n
		} else {
			r.chunk, r.at = r.chunk+1, 0
		}
		dst.write(p, part)
		n -= len(part)
	}
}
