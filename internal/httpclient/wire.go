package httpclient

import (
	"bufio"
	"bytes"
	"errors"
)

// wire is what it takes to write a request and to read an answer. It is lent to a request
// while there is something to write or read, and not while an answer is waited for.
type wire struct {
	out  bytes.Buffer
	in   bufio.Reader // Reads from the wire.
	conn *aheadConn
	left int64 // How many bytes may be read.
}

// wireBuffer is what is read at once, and the longest trailer and line of a chunk, in bytes.
// net/http has it by default.
const wireBuffer = 4 << 10

// maxKeptRequest bounds how large the buffer of a wire may be that waits for its next use.
const maxKeptRequest = 16 << 10

var errHeaderTooLong = errors.New("header too long")

// Read implements io.Reader for in.
func (w *wire) Read(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := w.conn.Read(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	return n, err
}

// lendWire returns a wire over conn.
func (d *direct) lendWire(conn *aheadConn) *wire {
	var w *wire
	select {
	case w = <-d.wires:
	default:
		w = &wire{in: *bufio.NewReaderSize(nil, wireBuffer)}
	}
	w.conn, w.left = conn, d.headerBytes
	w.in.Reset(w)
	return w
}

// giveBack ends the use of a wire.
func (d *direct) giveBack(w *wire) {
	w.conn = nil
	w.in.Reset(nil)
	if w.out.Cap() > maxKeptRequest {
		return
	}
	select {
	case d.wires <- w:
	default:
	}
}
