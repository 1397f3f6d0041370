package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// response is one answer of a target, read through a window that moves over the body:
//
//	var r response // One a worker, used again and again.
//	format, err := fetcher.open(ctx, client, ask, &r)
//	for final := false; err == nil && !final; {
//		var window []byte
//		window, final, err = r.fill()
//		... parse the whole entries at the front of window ...
//		r.consumed(n) // Bytes that are done with; the rest comes again, in front.
//	}
//	r.close()
//
// Errors of open and fill are final and ready to be shown: a limit, the budget and the scrape
// timeout are a *failure, anything else is what the network said, for reasonOf. Once the
// caller's context has ended they say nothing, so it looks there first. close is due after
// open whatever open returned, and may be called twice. The zero value is ready for open; a
// response has one user at a time.
type response struct {
	from *fetcher
	ask  *request

	timed  context.Context
	cancel context.CancelFunc
	body   io.ReadCloser
	src    io.Reader // What is read: body, or zip over it.
	zip    *unzipper // Lent; nil when the body is not compressed.
	whole  bool      // The format is read as a whole, so the window has no bound.
	limit  int       // The most bytes of the body, after decompression; 0 is no limit.

	buf        []byte // Lent; nil until there is something to read.
	start, end int    // Where the unread bytes stand in buf.
	total      int    // Bytes read so far, after decompression.
	eof        bool
}

// longestEntry bounds one line of an exposition, which is read as a whole: thousands of
// labels, or the longest values that label_value_length_limit allows by default, 64 of them.
const longestEntry = 4 << 20

// fill reads until the window is full or the body has ended and returns all unread bytes.
// A window has at most [windowSize] bytes; it grows beyond that only when fill is called with
// that many unread bytes left, that is for a longer entry, and for a format that is read as a
// whole (protobuf, or a conversion to NHCB), which comes in one final window. final says that nothing follows; such a
// window may be empty. The window is valid until the next fill or close.
func (r *response) fill() (window []byte, final bool, err error) {
	room := r.compact()
	if !r.whole && r.end >= longestEntry {
		return nil, false, fail(reasonLabelLimit, "a line has more than %s, no limit on labels allows that much", config.Size(longestEntry))
	}
	for !r.eof && r.end < room {
		if r.end == len(r.buf) {
			if err := r.grow(room); err != nil {
				return nil, false, err
			}
		}
		n, err := r.src.Read(r.buf[r.end:min(len(r.buf), room)])
		r.end += n
		r.total += n
		if refused := r.check(); refused != nil {
			return nil, false, refused
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			r.eof = true
		default:
			return nil, false, r.readError(err)
		}
	}
	return r.buf[r.start:r.end], r.eof, nil
}

// consumed says that the first n bytes of the window are done with.
func (r *response) consumed(n int) { r.start += n }

// size returns how many bytes were read so far, after decompression.
func (r *response) size() int { return r.total }

// close gives back the buffers and the connection, which is lost unless the body was read to
// its end: that is cheaper than reading on what may never end.
func (r *response) close() {
	if r.cancel == nil {
		return
	}
	if r.body != nil {
		r.body.Close()
	}
	r.cancel()
	r.from.buffers.giveBack(r.buf)
	r.from.buffers.giveBackUnzipper(r.zip)
	r.from.buffers.end()
	if r.eof {
		r.ask.last = r.total
	}
	*r = response{total: r.total}
}

// decode prepares reading a body of the given Content-Encoding.
func (r *response) decode(encoding string) (err error) {
	switch encoding {
	case "", "identity":
		r.src = r.body
		return nil
	case "gzip", "x-gzip":
		if r.zip, err = r.from.buffers.lendUnzipper(r.body); err != nil {
			return err
		}
		r.src = r.zip
		if err := r.zip.Reset(&r.zip.in); err != nil {
			return r.readError(err)
		}
		return nil
	default:
		return fail(reasonEncoding, "content encoding is %q, which was not asked for", encoding)
	}
}

// compact moves the unread bytes to the front of the buffer and returns up to where it may
// be filled.
func (r *response) compact() (room int) {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	switch {
	case r.whole:
		return int(^uint(0) >> 1)
	case r.end >= windowSize:
		return 2 * r.end
	default:
		return windowSize
	}
}

// grow replaces the buffer by a larger one. The first is small, since a target may send a
// byte and then nothing; the second is as large as the last answer would need.
func (r *response) grow(room int) error {
	size := smallestBuffer
	if n := len(r.buf); n > 0 {
		size = max(n*4, min(r.ask.last+1, windowSize))
		if n >= windowSize {
			size = n * 2
		}
		size = min(size, room)
		if r.whole && r.limit > 0 {
			size = min(size, r.limit+1) // One more, to see that it is too long.
		}
	}
	larger, err := r.from.buffers.lend(size)
	if err != nil {
		return err
	}
	copy(larger, r.buf[:r.end])
	r.from.buffers.giveBack(r.buf)
	r.buf = larger
	return nil
}

// check holds what has come against the limits.
func (r *response) check() error {
	if r.limit > 0 && r.total > r.limit {
		return r.tooLarge()
	}
	if r.zip != nil && r.total > ratioFrom && r.total/maxRatio > r.zip.in.n {
		return fail(reasonBodyLimit, "response decompresses to more than %d times its size", maxRatio)
	}
	return nil
}

// tooLarge puts into words that there is more than the limit.
func (r *response) tooLarge() error {
	if r.limit != int(r.ask.cfg.BodySizeLimit) {
		return fail(reasonBodyLimit, "a response in protobuf, which scrape_protocols does not ask for, has more than %s", config.Size(r.limit))
	}
	return fail(reasonBodyLimit, "body_size_limit exceeded: the response has more than %s", r.ask.cfg.BodySizeLimit)
}

// readError puts into words why the body could not be read on.
func (r *response) readError(err error) error {
	switch {
	case r.timed.Err() != nil:
		return r.timeout(err)
	case r.zip != nil && !r.zip.in.failed:
		return fail(reasonEncoding, "decompress the response: %w", err)
	default:
		return fmt.Errorf("read the response: %w", err)
	}
}

// timeout returns the words for a scrape that took too long, and err when it did not.
func (r *response) timeout(err error) error {
	if !errors.Is(r.timed.Err(), context.DeadlineExceeded) {
		return err
	}
	if _, known := errors.AsType[*failure](err); known {
		return err
	}
	return timeoutError(r.ask.timeout, r.total)
}

// timeoutError puts a timeout into words.
func timeoutError(timeout time.Duration, read int) error {
	return fail(reasonTimeout, "no whole answer within the scrape timeout of %s (%d bytes read)", timeout, read)
}
