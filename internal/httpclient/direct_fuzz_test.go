package httpclient

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzDirect gives the same bytes as an answer to our client and to net/http's transport, and
// holds that callers see the same.
func FuzzDirect(f *testing.F) {
	for _, answer := range []string{
		okAnswer,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3\r\nabc\r\n0\r\nSum: 7\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + okAnswer,
		"HTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\ntruncated",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nwhatever",
		"HTTP/1.1 200 OK\r\n folded: x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nConnection: close\r\nContent-Length: -1\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n", "\r\n\r\n", "HTTP/1.1 099 x\n\n", "",
	} {
		f.Add(false, []byte(answer))
		f.Add(true, []byte(answer))
	}
	ours, theirs := newTestDirect(f)
	var answer atomic.Pointer[[]byte]
	s := serveRaw(f, func(_ int, c *rawConn) {
		if c.request() != nil {
			c.say(string(*answer.Load()))
		}
		c.Close()
	})
	f.Fuzz(func(t *testing.T, head bool, text []byte) {
		answer.Store(&text)
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		want, _ := fetch(t.Context(), theirs, method, s.url)
		have, _ := fetch(t.Context(), ours, method, s.url)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("net/http's answer -, ours +:\n%s", diff)
		}
	})
}
