package httpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"
)

// direct is an http.RoundTripper that sends simple requests over HTTP/1.1 itself and leaves all
// others to next. It exists for the memory of connections that wait for the next scrape: here
// they are a socket and a few words, while net/http keeps two goroutines and two buffers for
// each. Answers are parsed by net/http (http.ReadResponse), so their meaning is the same, and
// errors have the words of net/http's transport.
//
// One goroutine, the caller's, writes a request and reads its answer. The context interrupts
// it by way of the deadline of the connection, which has none otherwise.
type direct struct {
	next        *http.Transport
	dialer      net.Dialer
	ahead       *readAhead
	headerBytes int64 // How long the header of an answer may be, with those of 1xx answers before it.
	pool        *pool
	wires       chan *wire // That are not in use.
}

// keptWires is how many wires wait for the next use: about as many as are used at once when
// many targets are due.
const keptWires = 32

func newDirect(next *http.Transport, t tuning) *direct {
	return &direct{
		next: next, ahead: t.ahead, headerBytes: t.headerBytes,
		pool: newPool(t.idle, t.idlePerHost), wires: make(chan *wire, keptWires),
	}
}

// RoundTrip implements http.RoundTripper.
func (d *direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if !isSimple(req) {
		return d.next.RoundTrip(req)
	}
	ctx, host := req.Context(), req.URL.Host
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if conn := d.pool.take(host); conn != nil {
		resp, err := d.exchange(req, conn)
		if _, unanswered := errors.AsType[unansweredError](err); !unanswered {
			return resp, err
		}
		// The server may have closed the connection when the request was on its way, which
		// says nothing about the request. A new connection has no such excuse.
	}
	conn, err := d.dial(ctx, req.URL)
	if err != nil {
		return nil, inContext(ctx, err)
	}
	resp, err := d.exchange(req, conn)
	if e, unanswered := errors.AsType[unansweredError](err); unanswered {
		err = e.error
	}
	return resp, err
}

// CloseIdleConnections closes what waits here and in next.
func (d *direct) CloseIdleConnections() {
	d.pool.close()
	d.next.CloseIdleConnections()
}

// unansweredError is that of a request of whose answer not one byte has come.
type unansweredError struct{ error }

// Unwrap gives errors.Is the reason.
func (e unansweredError) Unwrap() error { return e.error }

// isSimple reports whether a request is one that direct sends itself: what reads over plain
// HTTP, with a header in which nothing concerns the connection.
func isSimple(req *http.Request) bool {
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead && req.Method != "",
		req.URL == nil, req.URL.Scheme != "http", req.URL.Host == "", !isASCII(req.URL.Host),
		req.Body != nil && req.Body != http.NoBody, req.ContentLength != 0,
		req.Header == nil, len(req.TransferEncoding) > 0, req.Trailer != nil, req.Close,
		req.Cancel != nil, //nolint:staticcheck // Nobody should use it; who does keeps what it does.
		httptrace.ContextClientTrace(req.Context()) != nil:
		return false
	}
	for name, values := range req.Header {
		switch name {
		case "Connection", "Expect", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
			return false
		}
		// What is invalid gets net/http's error.
		if textproto.CanonicalMIMEHeaderKey(name) != name || !isToken(name) {
			return false
		}
		for _, v := range values {
			for i := range len(v) {
				if v[i] < ' ' || v[i] == 0x7f {
					return false
				}
			}
		}
	}
	return true
}

// isToken reports whether a header may have that name. CanonicalMIMEHeaderKey leaves those that
// none may have as they are, and http.Request.Write leaves them out without a word.
func isToken(s string) bool {
	return s != "" && isASCII(s) && !strings.ContainsAny(s, "\"(),/:;<=>?@[\\]{}")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// dial opens a connection to the host of u.
func (d *direct) dial(ctx context.Context, u *url.URL) (*aheadConn, error) {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	conn, err := d.dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	return newAheadConn(conn, d.ahead), nil
}

// exchange sends a request over a connection, which it owns from here on, and reads the header
// of the answer.
func (d *direct) exchange(req *http.Request, conn *aheadConn) (*http.Response, error) {
	ctx := req.Context()
	a := &answer{from: d, host: req.URL.Host, ctx: ctx, conn: conn}
	a.stop = context.AfterFunc(ctx, a.interrupt)
	if err := d.send(req, conn); err != nil {
		a.finish(false)
		return nil, inContext(ctx, unansweredError{err})
	}
	if err := conn.await(); err != nil {
		a.finish(false)
		return nil, inContext(ctx, unansweredError{err})
	}
	a.wire = d.lendWire(conn)
	resp, err := d.readHeader(req, a.wire)
	if err != nil {
		a.finish(false)
		return nil, inContext(ctx, err)
	}
	a.reusable = !resp.Close && resp.StatusCode > 199
	if req.Method == http.MethodHead || resp.ContentLength == 0 {
		a.finish(a.reusable) // The body is empty.
		return resp, nil
	}
	a.body, resp.Body = resp.Body, a
	return resp, nil
}

// send writes a request.
func (d *direct) send(req *http.Request, conn *aheadConn) error {
	w := d.lendWire(conn)
	defer d.giveBack(w)
	w.out.Reset()
	if err := req.Write(&w.out); err != nil {
		return err
	}
	_, err := conn.Write(w.out.Bytes())
	return err
}

// readHeader reads the header of the answer, past those that say that there is one to come.
func (d *direct) readHeader(req *http.Request, w *wire) (*http.Response, error) {
	if _, err := w.in.Peek(1); err != nil { // Where await cannot wait.
		return nil, unansweredError{err}
	}
	for {
		resp, err := http.ReadResponse(&w.in, req)
		if err != nil && w.left <= 0 {
			err = fmt.Errorf("net/http: server response headers exceeded %d bytes; aborted", d.headerBytes)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", err)
		case resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == http.StatusSwitchingProtocols:
			w.left = math.MaxInt64
			return resp, nil
		}
	}
}

// inContext returns the reason why ctx has ended when it has, which then is that of err too,
// and err otherwise.
func inContext(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// answer is the body of an answer. It has the connection until the body was read to its end,
// closed, or failed.
type answer struct {
	from *direct
	host string
	ctx  context.Context //nolint:containedctx // A body is read within the context of its request.
	stop func() bool     // Ends the watch over ctx.

	reading  sync.Mutex // guards what follows
	wire     *wire
	body     io.ReadCloser // That of net/http. Its Close reads to the end, so it is not used.
	reusable bool
	err      error // What Read has returned last, and does again.

	holding sync.Mutex // guards what follows
	conn    *aheadConn // Nil when it was given away.
	closed  bool       // Close has interrupted Read.
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (int, error) {
	a.reading.Lock()
	defer a.reading.Unlock()
	if a.err != nil {
		return 0, a.err
	}
	n, err := a.body.Read(p)
	if err == nil {
		return n, nil
	}
	ended := errors.Is(err, io.EOF)
	a.err = err
	switch {
	case ended:
	case a.isClosed():
		a.err = http.ErrBodyReadAfterClose
	default:
		a.err = inContext(a.ctx, err)
	}
	a.finish(ended && a.reusable)
	return n, a.err
}

// Close implements io.Closer. A connection whose answer was not read to its end is closed:
// that is cheaper than reading on what may never end. A Read that is under way fails.
func (a *answer) Close() error {
	if !a.reading.TryLock() {
		a.holding.Lock()
		a.closed = true
		a.holding.Unlock()
		a.interrupt()
		a.reading.Lock()
	}
	defer a.reading.Unlock()
	a.finish(false)
	if a.err == nil {
		a.err = http.ErrBodyReadAfterClose
	}
	return nil
}

func (a *answer) isClosed() bool {
	a.holding.Lock()
	defer a.holding.Unlock()
	return a.closed
}

// interrupt makes what waits for the connection fail.
func (a *answer) interrupt() {
	a.holding.Lock()
	defer a.holding.Unlock()
	if a.conn != nil {
		_ = a.conn.SetDeadline(time.Unix(1, 0)) // Where it fails, so will reading.
	}
}

// finish gives away what the answer holds; the connection waits for the next request when it
// is reusable and nothing has come beyond the answer.
func (a *answer) finish(reuse bool) {
	a.holding.Lock()
	conn := a.conn
	a.conn = nil
	a.holding.Unlock()
	if conn == nil {
		return
	}
	// Once the watch has begun to act, the connection has a deadline.
	if !a.stop() {
		reuse = false
	}
	if a.wire != nil {
		reuse = reuse && a.wire.in.Buffered() == 0
		a.from.giveBack(a.wire)
		a.wire, a.body = nil, nil
	}
	if !reuse || len(conn.rest) > 0 || !a.from.pool.put(a.host, conn) {
		conn.release()
		conn.Close()
	}
}
