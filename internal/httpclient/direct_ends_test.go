package httpclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestAConnectionThatIsNoGoodIsReplaced has servers that end a connection, or say something
// on it, between two requests.
func TestAConnectionThatIsNoGoodIsReplaced(t *testing.T) {
	for name, after := range map[string]func(*rawConn){
		"closed":  func(c *rawConn) { c.Close() },
		"reset":   (*rawConn).reset,
		"unasked": func(c *rawConn) { c.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad") },
	} {
		ours, _ := newTestDirect(t)
		idle := make(chan struct{})
		s := serveRaw(t, func(n int, c *rawConn) {
			c.request()
			c.say(okAnswer)
			if <-idle; n == 1 {
				after(c)
			}
		})
		if got := mustFetch(t, ours, s.url); got != "ok" {
			t.Fatalf("%s: first answer is %q", name, got)
		}
		conns := ours.waiting(s)
		if len(conns) != 1 {
			t.Fatalf("%s: %d connections wait, want 1", name, len(conns))
		}
		close(idle)
		arrival(t, conns[0])
		if got := mustFetch(t, ours, s.url); got != "ok" || s.accepted.Load() != 2 {
			t.Errorf("%s: second answer is %q over %d connections, want ok over 2", name, got, s.accepted.Load())
		}
	}
}

// TestAReusedConnectionIsRetriedOnce has servers that close a connection when they get a
// request on it, as one that was just timing it out does.
func TestAReusedConnectionIsRetriedOnce(t *testing.T) {
	for name, end := range map[string]func(*rawConn){"close": func(c *rawConn) { c.Close() }, "reset": (*rawConn).reset} {
		ours, _ := newTestDirect(t)
		s := serveRaw(t, func(n int, c *rawConn) {
			if c.request() == nil {
				return
			}
			if n <= 2 {
				c.say(okAnswer)
				c.request()
			}
			end(c)
		})
		for range 2 {
			if got := mustFetch(t, ours, s.url); got != "ok" {
				t.Errorf("%s: the answer is %q", name, got)
			}
		}
		_, err := fetch(t.Context(), ours, http.MethodGet, s.url)
		if _, wrapped := errors.AsType[unansweredError](err); err == nil || wrapped {
			t.Errorf("%s: %v (%T), want why the new connection has ended", name, err, err)
		}
		if n := s.accepted.Load(); n != 3 {
			t.Errorf("%s: %d connections, want one, one instead, and one that fails", name, n)
		}
	}
}

func TestAnAnswerThatHasBegunIsNotAskedForAgain(t *testing.T) {
	ours, _ := newTestDirect(t)
	s := serveRaw(t, func(_ int, c *rawConn) {
		c.request()
		c.say(okAnswer)
		c.request()
		c.say("HTTP")
		c.Close()
	})
	mustFetch(t, ours, s.url)
	if _, err := fetch(t.Context(), ours, http.MethodGet, s.url); err == nil || s.accepted.Load() != 1 {
		t.Errorf("%v over %d connections, want an error over the first", err, s.accepted.Load())
	}
}

func TestAResetIsNotTheEndOfABody(t *testing.T) {
	ours, _ := newTestDirect(t)
	const header, size = "HTTP/1.1 200 OK\r\n\r\n", aheadSize - len("HTTP/1.1 200 OK\r\n\r\n") // One full read.
	taken := make(chan struct{})
	s := serveRaw(t, func(_ int, c *rawConn) {
		c.request()
		c.say(header + strings.Repeat("x", size))
		<-taken
		c.reset()
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := ours.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	a, ok := resp.Body.(*answer)
	if !ok {
		t.Fatalf("the body is %T", resp.Body)
	}
	begun := false
	if err := a.conn.raw.Read(func(uintptr) bool { // Waits for the reset and leaves it there.
		if !begun {
			close(taken)
			begun = true
			return false
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || !strings.Contains(err.Error(), "read: connection reset by peer") {
		t.Errorf("%d bytes, %v, want a reset", n, err)
	}
}

// TestTheContextEndsARequest cancels, or has a deadline pass, wherever a server can be slow: at
// the first request over a connection and at the second.
func TestTheContextEndsARequest(t *testing.T) {
	for name, begin := range map[string]string{
		"before the answer": "",
		"in the header":     "HTTP/1.1 200 OK\r\nA: ",
		"in the body":       "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
		"in a chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc",
	} {
		for _, want := range []error{context.Canceled, context.DeadlineExceeded} {
			for _, before := range []int{0, 1} {
				ours, theirs := newTestDirect(t)
				for _, rt := range []http.RoundTripper{ours, theirs} {
					if got := endInTime(t, rt, begin, want, before); !errors.Is(got, want) {
						t.Errorf("%T, %s, %d requests before: %v, want %v", rt, name, before, got, want)
					}
				}
			}
		}
	}
}

// endInTime has a server answer some requests and begin to answer the next one, whose context
// ends then, and returns that one's error.
func endInTime(t *testing.T, rt http.RoundTripper, begin string, want error, before int) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan struct{})
	s := serveRaw(t, func(_ int, c *rawConn) {
		for range before {
			c.request()
			c.say(okAnswer)
		}
		c.request()
		if c.say(begin); errors.Is(want, context.Canceled) {
			cancel()
		}
		c.gone()
		close(closed)
	})
	for range before {
		mustFetch(t, rt, s.url)
	}
	if errors.Is(want, context.DeadlineExceeded) {
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	}
	defer cancel()
	_, err := fetch(ctx, rt, http.MethodGet, s.url)
	<-closed
	if n := s.accepted.Load(); n != 1 {
		t.Errorf("%T: %d connections, want 1", rt, n)
	}
	return err
}

func TestAContextThatHasEndedCostsNoConnection(t *testing.T) {
	ours, _ := newTestDirect(t)
	s := serveRaw(t, answering(okAnswer))
	mustFetch(t, ours, s.url)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fetch(ctx, ours, http.MethodGet, s.url); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if mustFetch(t, ours, s.url); s.accepted.Load() != 1 {
		t.Errorf("%d connections, want 1", s.accepted.Load())
	}
}

func TestAHeaderThatTricklesEndsWithTheDeadline(t *testing.T) {
	ours, _ := newTestDirect(t)
	s := serveRaw(t, func(_ int, c *rawConn) {
		c.request()
		c.say("HTTP/1.1 200 OK\r\n")
		for {
			if _, err := io.WriteString(c, "A: b\r\n"); err != nil {
				return
			}
			runtime.Gosched()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := fetch(ctx, ours, http.MethodGet, s.url)
	if err == nil || !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "headers exceeded") {
		t.Errorf("%v, want the deadline or the limit", err)
	}
}
