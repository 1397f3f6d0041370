package httpclient

import (
	"net"
	"sync"
)

// aheadSize is how much is read from a connection at once, in bytes.
const aheadSize = 32 << 10

// readAhead lends buffers to the connections of a client that are in the middle of a long
// answer. Targets answer in chunks of 2 or 4 KiB, and net/http asks for the head and the rest
// of each, a system call or two a chunk; a larger buffer in each connection would be idle for
// nearly all of the time.
type readAhead struct{ free sync.Pool } // of *[aheadSize]byte

func newReadAhead() *readAhead {
	return &readAhead{sync.Pool{New: func() any { return new([aheadSize]byte) }}}
}

// aheadConn is a connection that reads large pieces when a lot comes, and holds no memory
// when nothing does: it waits for the first bytes in the buffer of the reader, and takes one
// of its own when that was filled. A connection has one reader at a time.
type aheadConn struct {
	net.Conn
	from *readAhead
	buf  *[aheadSize]byte // Lent, nil while there is no rest.
	rest []byte           // Read, but not asked for yet.
	more bool             // The last read has got as much as it asked for.
}

// Read implements net.Conn.
func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		return c.take(p), nil
	}
	if !c.more || len(p) >= aheadSize {
		n, err := c.Conn.Read(p)
		c.more = n == len(p) && n > 0
		return n, err
	}
	c.buf, _ = c.from.free.Get().(*[aheadSize]byte)
	n, err := c.Conn.Read(c.buf[:])
	c.more = n == len(c.buf)
	c.rest = c.buf[:n]
	if n = c.take(p); n > 0 {
		err = nil // It comes again with the next read.
	}
	return n, err
}

// take hands out of the rest and gives the buffer back when it is used up.
func (c *aheadConn) take(p []byte) int {
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.from.free.Put(c.buf)
		c.buf, c.rest = nil, nil
	}
	return n
}
