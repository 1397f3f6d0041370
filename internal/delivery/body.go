package delivery

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// Body is the content of a request, in chunks of memory that are used again. Its bytes never
// change while somebody holds it.
//
// A body is made with one hold, which belongs to who made it, and to the queue from Put on: the
// queue gives it back when the block is accepted, dropped, or only on disk. A request holds it
// besides from when it is chosen until its outcome is known, and each reader that is given to
// the transport until the transport closes that reader, which may be long after the answer. The
// last to give back its hold returns the chunks; who never does leaves them to the garbage
// collector, which is always safe.
type Body struct {
	chunks [][]byte
	size   int
	free   func(chunk []byte) // nil for memory that is not used again
	holds  atomic.Int32
}

// NewBody returns a body of the given chunks, which are now its own. free gets each of them when
// nobody reads it any more, from any goroutine; nil leaves them to the garbage collector.
func NewBody(free func(chunk []byte), chunks ...[]byte) *Body {
	b := &Body{chunks: chunks, free: free}
	for _, c := range chunks {
		b.size += len(c)
	}
	b.holds.Store(1)
	return b
}

// Len returns the size in bytes, 0 for nil.
func (b *Body) Len() int {
	if b == nil {
		return 0
	}
	return b.size
}

// AppendTo appends the content to dst. The caller has a hold.
func (b *Body) AppendTo(dst []byte) []byte {
	for _, c := range b.chunks {
		dst = append(dst, c...)
	}
	return dst
}

// bytes returns a copy of the content, which outlives the body.
func (b *Body) bytes() []byte { return b.AppendTo(make([]byte, 0, b.size)) }

// hold adds a hold and tells whether there was still one, without which the memory may already
// be in use elsewhere.
func (b *Body) hold() bool {
	for {
		n := b.holds.Load()
		if n == 0 {
			return false
		}
		if b.holds.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives back a hold. It is for who has made a body and hands it to no queue.
func (b *Body) Release() {
	switch n := b.holds.Add(-1); {
	case n < 0:
		panic("delivery: a request body is given back twice") // Its memory may be in use elsewhere.
	case n == 0 && b.free != nil:
		for _, c := range b.chunks {
			b.free(c)
		}
		b.chunks = nil
	}
}

// errOver is what a transport gets that sends a request again after its outcome is known.
var errOver = errors.New("the request is over")

// open returns a reader for a transport.
func (b *Body) open() (io.ReadCloser, error) {
	if !b.hold() {
		return nil, errOver
	}
	return &bodyReader{body: b}, nil
}

// attach makes a body what a request sends, also where the transport has to begin anew. The
// caller has a hold until the outcome is known.
func (b *Body) attach(req *http.Request) (err error) {
	if b.size == 0 {
		req.Body = http.NoBody
		return nil
	}
	req.ContentLength, req.GetBody = int64(b.size), b.open
	req.Body, err = b.open()
	return err
}

// bodyReader reads a body for a transport, which by the contract of [http.RoundTripper] closes
// it, perhaps from another goroutine and after the answer. It copies under its lock, so that a
// close during a read cannot take the memory away from under it.
type bodyReader struct {
	mu        sync.Mutex
	body      *Body // nil after Close
	chunk, at int   // what is next
}

// Read implements [io.Reader].
func (r *bodyReader) Read(p []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	for n < len(p) && r.chunk < len(r.body.chunks) {
		c := copy(p[n:], r.body.chunks[r.chunk][r.at:])
		n += c
		if r.at += c; r.at == len(r.body.chunks[r.chunk]) {
			r.chunk, r.at = r.chunk+1, 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements [io.Closer].
func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body != nil {
		r.body.Release()
		r.body = nil
	}
	return nil
}
