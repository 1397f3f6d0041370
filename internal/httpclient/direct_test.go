package httpclient

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAnswersAreThoseOfNetHTTP compares what a caller sees of two requests after each other, and
// how many connections they took, with net/http's transport.
func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	long := strings.Repeat("m 1\n", 50_000)
	for _, c := range []struct {
		name, method, answer string
		end                  bool // The server closes the connection behind the answer.
		connections          int32
		failing              string // Part of the error.
	}{
		{name: "length", answer: okAnswer, connections: 1},
		{name: "long", answer: "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(long)) + "\r\n\r\n" + long, connections: 1},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", connections: 1},
		{name: "trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3\r\nabc\r\n0\r\nSum: 7\r\n\r\n", connections: 1},
		{name: "no content", answer: "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n", connections: 1},
		{name: "not modified", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", connections: 1},
		{name: "empty", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", connections: 1},
		{name: "HEAD", method: http.MethodHead, answer: "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", connections: 1},
		{name: "continue", answer: "HTTP/1.1 100 Continue\r\n\r\n" + okAnswer, connections: 1},
		{name: "early hints", answer: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + okAnswer, connections: 1},
		{name: "repeated header", answer: "HTTP/1.1 200 OK\r\nx-a: 1\r\nX-A: 2\r\nContent-Length: 1\r\n\r\nx", connections: 1},
		{name: "bare newlines", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", connections: 1},
		{name: "error status", answer: "HTTP/1.1 500 Broken Today\r\nContent-Length: 3\r\n\r\nsad", connections: 1},
		{name: "gzip", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw", connections: 1},
		{name: "1.0 keep-alive", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", connections: 1},
		{name: "1.0", answer: "HTTP/1.0 200 OK\r\n\r\nuntil the end", end: true, connections: 2},
		{name: "until the end", answer: "HTTP/1.1 200 OK\r\n\r\nuntil the end", end: true, connections: 2},
		{name: "close", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", connections: 2},
		{name: "more than the answer", answer: okAnswer + okAnswer, connections: 2},
		{name: "more than nothing", answer: "HTTP/1.1 204 No Content\r\n\r\n" + okAnswer, connections: 2},
		{name: "switching", answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n", connections: 2},
		{name: "truncated", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", end: true, connections: 2, failing: "unexpected EOF"},
		{name: "truncated chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", end: true, connections: 2, failing: "unexpected EOF"},
		{name: "no last chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", end: true, connections: 2, failing: "unexpected EOF"},
		{name: "bad chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", connections: 2, failing: "invalid byte in chunk length"},
		{name: "bad chunk at the end", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", connections: 2, failing: "invalid byte in chunk length"},
		{name: "long trailer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + strings.Repeat("x", 8<<10) + "\r\n\r\n", connections: 2, failing: "suspiciously long trailer"},
		{name: "nothing", end: true, connections: 2, failing: "EOF"},
		{name: "truncated header", answer: "HTTP/1.1 200 OK\r\nA: b", end: true, connections: 2, failing: "HTTP/1.x transport connection broken: unexpected EOF"},
		{name: "no HTTP", answer: "SSH-2.0-OpenSSH_9.9\r\n", connections: 2, failing: "malformed HTTP response"},
		{name: "bad status", answer: "HTTP/1.1 abc\r\n\r\n", connections: 2, failing: "malformed HTTP status code"},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", connections: 2, failing: "Content-Length"},
		{name: "long header", answer: "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", connections: 2, failing: "server response headers exceeded 65536 bytes"},
		{name: "many 1xx", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 5000), connections: 2, failing: "server response headers exceeded 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := newTestDirect(t)
			seen := func(rt http.RoundTripper) ([]got, int32) {
				s := serveRaw(t, func(_ int, conn *rawConn) {
					for conn.request() != nil {
						if conn.say(c.answer); c.end {
							conn.Close()
							return
						}
					}
				})
				var all []got
				for range 2 {
					g, err := fetch(t.Context(), rt, c.method, s.url)
					if (err != nil) != (c.failing != "") || err != nil && !strings.Contains(err.Error(), c.failing) {
						t.Errorf("%T: %v, want %q", rt, err, c.failing)
					}
					all = append(all, g)
				}
				return all, s.accepted.Load()
			}
			want, _ := seen(theirs)
			have, connections := seen(ours)
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("net/http's answers -, ours +:\n%s", diff)
			}
			if connections != c.connections {
				t.Errorf("%d connections for two requests, want %d", connections, c.connections)
			}
		})
	}
}

func TestTheRequestIsThatOfNetHTTP(t *testing.T) {
	ours, theirs := newTestDirect(t)
	sent := func(rt http.RoundTripper) string {
		var text string
		s := serveRaw(t, func(_ int, c *rawConn) {
			for text == "" || !strings.HasSuffix(text, "\r\n\r\n") {
				line, err := c.in.ReadString('\n')
				if err != nil {
					break
				}
				text += line
			}
			c.say(okAnswer)
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/metrics?a=b%20c", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/plain;version=0.0.4")
		req.Header.Set("Authorization", "Bearer x")
		req.Header["X-Many"] = []string{"1", "2"}
		req.Host = "elsewhere.example:81"
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
		return text
	}
	if diff := cmp.Diff(sent(theirs), sent(ours)); diff != "" {
		t.Errorf("net/http's request -, ours +:\n%s", diff)
	}
}
