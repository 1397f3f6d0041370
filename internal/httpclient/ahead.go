package httpclient

import (
	"errors"
	"io"
	"net"
	"os"
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
	raw  syscall.RawConn       // Nil where the system does not let us look at the connection.
	look func(fd uintptr) bool // lookNow, made once.
	buf  *[aheadSize]byte      // Lent, nil while there is no rest.
	rest []byte                // Read, but not asked for yet.
	err  error                 // Why lookNow has read nothing; errNothing when nothing has come.
	wait bool                  // lookNow is to be called again when something comes.
	more bool                  // The last read has got as much as it asked for.
}

// errNothing says that nothing has arrived, and that the other side is there.
var errNothing = errors.New("nothing has arrived")

func newAheadConn(conn net.Conn, from *readAhead) *aheadConn {
	c := &aheadConn{Conn: conn, from: from}
	if socket, ok := conn.(syscall.Conn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			c.raw, c.look = raw, c.lookNow
		}
	}
	return c
}

// Read implements net.Conn.
func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		return c.take(p), nil
	}
	if c.more && len(p) < aheadSize {
		// If nothing is there yet, the reader may have to wait for long, as between two
		// requests, so it does that without our buffer.
		if err := c.readAhead(false); err == nil {
			return c.take(p), nil
		} else if c.err != nil && !errors.Is(err, errNothing) {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	c.more = n == len(p) && n > 0
	return n, err
}

// await waits for something to come, without a buffer, and reads it ahead.
func (c *aheadConn) await() error {
	if c.raw == nil || len(c.rest) > 0 {
		return nil // The next Read waits.
	}
	return c.readAhead(true)
}

// silent reports whether the connection stands and all that has come was read. It spoils the
// connection when it does not.
func (c *aheadConn) silent() bool {
	return c.raw != nil && len(c.rest) == 0 && errors.Is(c.readAhead(false), errNothing)
}

// readAhead reads what has come into the rest, which is empty. Without wait, errNothing says
// that nothing has come. Errors are those of reading, or that there is no reading now.
func (c *aheadConn) readAhead(wait bool) error {
	c.wait, c.err = wait, errNothing
	if c.raw == nil {
		return errNothing
	}
	c.err = nil
	if err := c.raw.Read(c.look); err != nil {
		return err // It was closed, or interrupted.
	}
	return c.err
}

// lookNow reads what has arrived into a buffer that it takes for it. It returns false to be
// called again when something has come.
func (c *aheadConn) lookNow(fd uintptr) bool {
	c.buf, _ = c.from.free.Get().(*[aheadSize]byte)
	n, err := syscall.Read(int(fd), c.buf[:])
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(int(fd), c.buf[:])
	}
	if n > 0 {
		c.rest, c.more, c.err = c.buf[:n], n == len(c.buf), nil
		return true
	}
	c.release()
	switch {
	case err == nil:
		c.err = io.EOF
	case errors.Is(err, syscall.EAGAIN):
		c.err = errNothing
		return !c.wait
	default: // As package net has it.
		c.err = &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	}
	return true
}

// take hands out of the rest and gives the buffer back when it is used up.
func (c *aheadConn) take(p []byte) int {
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.release()
	}
	return n
}

// release gives the buffer back. What was read and not taken is lost.
func (c *aheadConn) release() {
	if c.buf != nil {
		c.from.free.Put(c.buf)
		c.buf, c.rest = nil, nil
	}
}
