package remotewrite

import "sync"

// pool is a free list of buffers. Unlike a sync.Pool it is bounded and survives garbage
// collections, which else would allocate these large buffers anew all the time.
type pool struct {
	size, limit int // bytes of a new buffer, and of the largest one to keep
	keep        int // buffers

	mu   sync.Mutex
	free [][]byte
}

// get returns an empty buffer of at least the pool's size.
func (p *pool) get() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return make([]byte, 0, p.size)
}

// put takes a buffer back, unless it is none of the pool's or something extraordinary has made
// it far too large.
func (p *pool) put(b []byte) {
	if cap(b) < p.size || cap(b) > p.limit {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < p.keep {
		p.free = append(p.free, b[:0])
	}
}

// room returns raw with room for n more bytes. It doubles up to what a piece can have, since
// append would go beyond that by a quarter.
func room(raw []byte, n int) []byte {
	if cap(raw)-len(raw) >= n {
		return raw
	}
	size := max(min(2*cap(raw), pieceBytes+pieceSlack), len(raw)+n)
	return append(make([]byte, 0, size), raw...)
}

// chunkSize is the unit in which compressed data is held.
const chunkSize = 32 << 10

// buffers are what all streams of a writer share.
type buffers struct {
	raw     pool // pieces before compression
	scratch pool // one piece after compression
	chunks  pool // of chains
}

func newBuffers() *buffers {
	return &buffers{
		raw:     pool{size: firstPiece, limit: pieceBytes + pieceSlack, keep: 8},
		scratch: pool{size: maxPieceEncoded, limit: maxPieceEncoded, keep: 2},
		chunks:  pool{size: chunkSize, limit: chunkSize, keep: 32},
	}
}

// chain is a run of bytes in chunks, so that it can grow without copies.
type chain struct {
	chunks [][]byte
	size   int
}

func (c *chain) write(p *pool, b []byte) {
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

// appendTo appends all bytes to dst.
func (c *chain) appendTo(dst []byte) []byte {
	for _, chunk := range c.chunks {
		dst = append(dst, chunk...)
	}
	return dst
}

// release empties the chain.
func (c *chain) release(p *pool) {
	for i, chunk := range c.chunks {
		p.put(chunk)
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
func (r *cursor) copyTo(dst *chain, p *pool, n int) {
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
