package httpclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"
)

func TestABodyClosedEarlyClosesTheConnection(t *testing.T) {
	ours, _ := newTestDirect(t)
	closed := make(chan struct{}, 2)
	s := serveRaw(t, func(_ int, c *rawConn) {
		c.request()
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
		c.gone()
		closed <- struct{}{}
	})
	for _, whileReading := range []bool{false, true} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := ours.RoundTrip(req) //nolint:bodyclose // Closed while it is read.
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		if n, err := resp.Body.Read(p); err != nil || string(p[:n]) != "abc" {
			t.Errorf("%q, %v", p[:n], err)
		}
		read := make(chan error, 1)
		if whileReading {
			go func() {
				_, err := resp.Body.Read(p)
				read <- err
			}()
		}
		if a, ok := resp.Body.(*answer); ok && whileReading {
			for a.reading.TryLock() {
				a.reading.Unlock()
				runtime.Gosched()
			}
		}
		resp.Body.Close()
		<-closed
		if whileReading {
			if err := <-read; !errors.Is(err, http.ErrBodyReadAfterClose) {
				t.Errorf("the Read beside Close returned %v", err)
			}
		}
		if _, err := resp.Body.Read(p); !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("the Read after Close returned %v", err)
		}
	}
}

// TestReadingAndClosingDoNotMixConnections closes bodies while they are read, with other
// requests that get the connections and buffers.
func TestReadingAndClosingDoNotMixConnections(t *testing.T) {
	ours, _ := newTestDirect(t)
	body := strings.Repeat("0123456789", 2000)
	s := serveRaw(t, answering("HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
				if err != nil {
					t.Error(err)
				}
				resp, err := ours.RoundTrip(req) //nolint:bodyclose // Closed while it is read.
				if err != nil {
					t.Error(err)
					cancel()
					continue
				}
				end := cancel
				if i%2 == 0 {
					end = func() { resp.Body.Close() }
				}
				if i > 3 {
					wg.Go(end)
				}
				got, err := io.ReadAll(resp.Body)
				if !strings.HasPrefix(body, string(got)) || err == nil && len(got) != len(body) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				resp.Body.Close()
				cancel()
			}
		})
	}
	wg.Wait()
}

func TestIdleConnectionsExpire(t *testing.T) {
	ours, _ := newTestDirect(t)
	ours.pool.idle = 20 * time.Millisecond
	closed := make(chan struct{})
	script := func(_ int, c *rawConn) {
		c.request()
		c.say(okAnswer)
		c.gone()
		closed <- struct{}{}
	}
	one, other := serveRaw(t, script), serveRaw(t, script)
	for range 2 { // The sweeper ends with the last connection and begins again.
		mustFetch(t, ours, one.url)
		mustFetch(t, ours, other.url)
		<-closed
		<-closed
	}
	ours.pool.mu.Lock()
	defer ours.pool.mu.Unlock()
	if len(ours.pool.hosts) != 0 {
		t.Errorf("%d hosts left", len(ours.pool.hosts))
	}
}

// TestTheSweeperTakesTheOldest has a host with a connection that is used and one that is not.
func TestTheSweeperTakesTheOldest(t *testing.T) {
	p := newPool(time.Hour, 10)
	var all []*aheadConn
	for range 3 {
		c, _ := pair(t)
		all = append(all, c)
		if !p.put("a", c) {
			t.Fatal("not kept")
		}
	}
	defer p.close()
	p.hosts["a"].next.since = time.Now().Add(-2 * time.Hour)
	p.hosts["a"].next.next.since = time.Now().Add(-3 * time.Hour)
	p.sweeper.Stop()
	p.sweep()
	if !p.sweeper.Stop() {
		t.Error("the sweeper does not come again")
	}
	if w := p.hosts["a"]; w == nil || w.conn != all[2] || w.next != nil || w.count != 1 {
		t.Errorf("%+v is left, want the last one", w)
	}
	for _, c := range all[:2] {
		if c.silent() {
			t.Error("an old one is open")
		}
	}
}

func TestCloseIdleConnectionsClosesThoseUnderWayToo(t *testing.T) {
	ours, _ := newTestDirect(t)
	gone := make(chan int, 3)
	s := serveRaw(t, func(n int, c *rawConn) {
		for c.request() != nil {
			c.say(okAnswer)
		}
		gone <- n
	})
	mustFetch(t, ours, s.url)
	ours.CloseIdleConnections()
	<-gone
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := ours.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	ours.CloseIdleConnections()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" {
		t.Errorf("%q, %v", body, err)
	}
	resp.Body.Close()
	<-gone
	mustFetch(t, ours, s.url)
	mustFetch(t, ours, s.url)
	if n := s.accepted.Load(); n != 3 {
		t.Errorf("%d connections, want 3: the last one is used again", n)
	}
}

func TestNoMoreThanSomeConnectionsOfAHostWait(t *testing.T) {
	ours, _ := newTestDirect(t)
	const requests = 30
	var open sync.WaitGroup
	open.Add(requests)
	s := serveRaw(t, func(_ int, c *rawConn) {
		c.request()
		open.Done()
		open.Wait() // So that each needs a connection.
		c.say(okAnswer)
	})
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if g, err := fetch(t.Context(), ours, http.MethodGet, s.url); err != nil || g.Body != "ok" {
				t.Error(g, err)
			}
		})
	}
	wg.Wait()
	if n := len(ours.waiting(s)); n != 10 {
		t.Errorf("%d connections wait, want the limit of 10", n)
	}
}

// TestManyRequestsLeaveNothing holds that neither goroutines nor files grow.
func TestManyRequestsLeaveNothing(t *testing.T) {
	ours, _ := newTestDirect(t)
	s := serveRaw(t, func(n int, c *rawConn) {
		answers := [...]string{
			okAnswer,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		}
		for i := n; c.request() != nil; i++ {
			c.say(answers[i%50%len(answers)])
			if i%50%len(answers) == 2 {
				break
			}
		}
		c.Close()
	})
	mustFetch(t, ours, s.url)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	for range 10_000 {
		if got := mustFetch(t, ours, s.url); got != "ok" {
			t.Fatalf("the answer is %q", got)
		}
	}
	if n := len(ours.wires); n != 1 {
		t.Errorf("%d wires were made for requests after each other, want 1", n)
	}
	// The server has one of each for the connection it has, and one that is about to end.
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if n := descriptors(t); n > files+2 {
		t.Errorf("%d open files, %d before", n, files)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

func TestWhatIsNotSimpleGoesToNetHTTP(t *testing.T) {
	request := func(change func(*http.Request)) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a:1/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "*/*")
		change(req)
		return req
	}
	if !isSimple(request(func(*http.Request) {})) {
		t.Error("a simple request is not")
	}
	for name, change := range map[string]func(*http.Request){
		"https":        func(r *http.Request) { r.URL.Scheme = "https" },
		"POST":         func(r *http.Request) { r.Method = http.MethodPost },
		"body":         func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("x")) },
		"close":        func(r *http.Request) { r.Close = true },
		"trailer":      func(r *http.Request) { r.Trailer = http.Header{} },
		"no host":      func(r *http.Request) { r.URL.Host = "" },
		"foreign host": func(r *http.Request) { r.URL.Host = "bücher.example" },
		"no header":    func(r *http.Request) { r.Header = nil },
		"Upgrade":      func(r *http.Request) { r.Header.Set("Upgrade", "websocket") },
		"Connection":   func(r *http.Request) { r.Header.Set("Connection", "close") },
		"Expect":       func(r *http.Request) { r.Header.Set("Expect", "100-continue") },
		"small name":   func(r *http.Request) { r.Header["connection"] = []string{"close"} },
		"bad name":     func(r *http.Request) { r.Header["A b"] = []string{"c"} },
		"no name":      func(r *http.Request) { r.Header[""] = []string{"c"} },
		"no token":     func(r *http.Request) { r.Header["A:b"] = []string{"c"} },
		"bad value":    func(r *http.Request) { r.Header["A"] = []string{"b\r\nC: d"} },
		"traced request": func(r *http.Request) {
			*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{}))
		},
	} {
		if isSimple(request(change)) {
			t.Errorf("%s: direct would send it", name)
		}
	}
	cfg := promconfig.DefaultHTTPClientConfig
	if rt, err := newRoundTripper(cfg, tuning{ahead: newReadAhead(), direct: true}); err != nil {
		t.Error(err)
	} else if _, ok := rt.(*direct); !ok {
		t.Errorf("without a proxy requests go through %T", rt)
	}
	cfg.ProxyFromEnvironment = true
	if rt, err := newRoundTripper(cfg, tuning{ahead: newReadAhead(), direct: true}); err != nil {
		t.Error(err)
	} else if _, ok := rt.(*http.Transport); !ok {
		t.Errorf("with a proxy requests go through %T", rt)
	}
}
