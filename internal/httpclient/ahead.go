package httpclient

import (
	"net"
	"sync"
	"syscall"
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
// when nothing does: it takes a buffer of its own when that of the reader was filled, and only
// for what has arrived already. A connection has one reader at a time.
type aheadConn struct {
	net.Conn
	from *readAhead
	raw  syscall.RawConn
	now  func(fd uintptr) bool // readNow, made once.
	buf  *[aheadSize]byte      // Lent, nil while there is no rest.
	rest []byte                // Read, but not asked for yet.
	n    int                   // What readNow has read.
	more bool                  // The last read has got as much as it asked for.
}

// newAheadConn returns conn itself where the system does not let us look at it.
func newAheadConn(conn net.Conn, from *readAhead) net.Conn {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return conn
	}
	c := &aheadConn{Conn: conn, from: from, raw: raw}
	c.now = c.readNow
	return c
}

// Read implements net.Conn.
func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		return c.take(p), nil
	}
	if c.more && len(p) < aheadSize {
		c.buf, _ = c.from.free.Get().(*[aheadSize]byte)
		c.n = 0
		if err := c.raw.Read(c.now); err == nil && c.n > 0 {
			c.more = c.n == len(c.buf)
			c.rest = c.buf[:c.n]
			return c.take(p), nil
		}
		// Nothing is there yet. The reader may have to wait for long, as between two
		// requests, so it does that without our buffer; the same goes for errors.
		c.from.free.Put(c.buf)
		c.buf = nil
	}
	n, err := c.Conn.Read(p)
	c.more = n == len(p) && n > 0
	return n, err
}

// readNow reads what has arrived into buf.
func (c *aheadConn) readNow(fd uintptr) bool {
	if n, err := syscall.Read(int(fd), c.buf[:]); err == nil {
		c.n = n
	}
	return true // Do not wait.
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
