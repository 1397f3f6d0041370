package httpclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// rawServer is a TCP server that plays a script with each connection.
type rawServer struct {
	url      string
	accepted atomic.Int32

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

// serveRaw calls script with each connection and its number, from 1. A connection stays open
// when script returns, until the test ends.
func serveRaw(t testing.TB, script func(n int, c *rawConn)) *rawServer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n := int(s.accepted.Add(1))
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			wg.Go(func() { script(n, &rawConn{Conn: conn, in: bufio.NewReader(conn)}) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

// rawConn is the server's side of a connection.
type rawConn struct {
	net.Conn
	in *bufio.Reader
}

// request reads a request, and returns nil when there is none any more.
func (c *rawConn) request() *http.Request {
	req, err := http.ReadRequest(c.in)
	if err != nil {
		return nil
	}
	return req
}

// say sends text. A client that has gone away does not matter.
func (c *rawConn) say(text string) { _, _ = io.WriteString(c, text) }

// gone waits until the client has closed the connection.
func (c *rawConn) gone() { _, _ = io.Copy(io.Discard, c.in) }

// reset closes the connection so that the client gets an error.
func (c *rawConn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// answering is a script that gives the same answer to each request.
func answering(answer string) func(int, *rawConn) {
	return func(_ int, c *rawConn) {
		for c.request() != nil {
			c.say(answer)
		}
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// newTestDirect returns a client that sends itself, and one of net/http to compare it with.
func newTestDirect(t testing.TB) (ours *direct, theirs *http.Transport) {
	t.Helper()
	transport := func() *http.Transport {
		return &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 10}
	}
	ours = newDirect(transport(), tuning{ahead: newReadAhead(), idle: time.Minute, idlePerHost: 10, headerBytes: 64 << 10})
	theirs = transport()
	t.Cleanup(ours.CloseIdleConnections)
	t.Cleanup(theirs.CloseIdleConnections)
	return ours, theirs
}

// got is all that a caller sees of an answer.
type got struct {
	Status, Proto, Body string
	Header, Trailer     http.Header
	Length              int64
	Close               bool
	Encoding            []string
	Err                 string // Of the request or of the body.
}

var port = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// fetch sends a request and reads the body to its end.
func fetch(ctx context.Context, rt http.RoundTripper, method, url string) (got, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return got{}, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return got{Err: port.ReplaceAllString(err.Error(), "ADDRESS")}, err
	}
	defer resp.Body.Close()
	g := got{Status: resp.Status, Proto: resp.Proto, Header: resp.Header, Length: resp.ContentLength, Close: resp.Close, Encoding: resp.TransferEncoding}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return g, nil // What follows is no body.
	}
	body, err := io.ReadAll(resp.Body)
	g.Body, g.Trailer = string(body), resp.Trailer
	if err != nil {
		g.Err = port.ReplaceAllString(err.Error(), "ADDRESS")
	}
	return g, err
}

func mustFetch(t testing.TB, rt http.RoundTripper, url string) string {
	t.Helper()
	g, err := fetch(t.Context(), rt, http.MethodGet, url)
	if err != nil {
		t.Fatal(err)
	}
	return g.Body
}

// waiting returns the connections to a server that wait in the pool.
func (d *direct) waiting(s *rawServer) (all []*aheadConn) {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	for w := d.pool.hosts[strings.TrimPrefix(s.url, "http://")]; w != nil; w = w.next {
		all = append(all, w.conn)
	}
	return all
}

// arrival waits until something has come over a connection, or its end, and leaves it there.
func arrival(t testing.TB, c *aheadConn) {
	t.Helper()
	if err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return !errors.Is(err, syscall.EAGAIN)
	}); err != nil {
		t.Fatal(err)
	}
}
