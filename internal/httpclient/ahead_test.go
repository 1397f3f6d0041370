package httpclient

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"
)

// pair returns both ends of a connection over loopback, the first one reading ahead.
func pair(t *testing.T) (*aheadConn, net.Conn) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newAheadConn(conn, newReadAhead())
	if c.raw == nil {
		t.Fatal("a TCP connection does not read ahead")
	}
	t.Cleanup(func() { c.Close(); far.Close() })
	return c, far
}

func TestReadingAheadChangesNothing(t *testing.T) {
	for round := range 50 {
		random := rand.New(rand.NewPCG(1, uint64(round)))
		want := make([]byte, random.IntN(500_000))
		for i := range want {
			want[i] = byte(random.Uint32())
		}
		c, far := pair(t)
		pieces := rand.New(rand.NewPCG(2, uint64(round)))
		go func() {
			for rest := want; len(rest) > 0; {
				n, err := far.Write(rest[:min(len(rest), 1+pieces.IntN(70_000))])
				if err != nil {
					break
				}
				rest = rest[n:]
			}
			far.Close()
		}()
		var got []byte
		p := make([]byte, 100_000)
		for {
			n, err := c.Read(p[:1+random.IntN(1<<random.IntN(17))])
			got = append(got, p[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read %d bytes, want the %d that were sent", len(got), len(want))
		}
		if c.buf != nil {
			t.Fatal("a buffer is still lent at the end")
		}
	}
}

func TestSmallReadsOfALotTakeTheWholeOfIt(t *testing.T) {
	c, far := pair(t)
	if _, err := far.Write(make([]byte, 10<<10)); err != nil {
		t.Fatal(err)
	}
	small := make([]byte, 1<<10)
	for range 2 {
		if _, err := io.ReadFull(c, small); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.rest) != 8<<10 {
		t.Errorf("%d bytes are read ahead after two reads, want the other 8192", len(c.rest))
	}
}

// TestWaitingTakesNoBuffer reads just what an answer has, so that the last read is full, as
// one of a known length is.
func TestWaitingTakesNoBuffer(t *testing.T) {
	c, far := pair(t)
	if _, err := far.Write(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4096)); err != nil || !c.more {
		t.Fatalf("%v, more is %v, want a full read", err, c.more)
	}
	done := make(chan byte)
	var lent bool
	waits := make(chan struct{})
	c.Conn = before{c.Conn, func() { lent = c.buf != nil; close(waits) }}
	go func() {
		p := make([]byte, 1)
		if _, err := c.Read(p); err != nil {
			t.Error(err)
		}
		done <- p[0]
	}()
	<-waits
	if _, err := far.Write([]byte{7}); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != 7 || lent {
		t.Errorf("read %d, want 7; a buffer was held while waiting: %v", got, lent)
	}
}

// before calls a function before each read that may wait.
type before struct {
	net.Conn
	call func()
}

func (b before) Read(p []byte) (int, error) {
	b.call()
	return b.Conn.Read(p)
}

func newScraper(t testing.TB, cfg promconfig.HTTPClientConfig) *http.Client {
	t.Helper()
	c, err := NewScraper(cfg, TLS{}, "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestScrapersReadLongAnswersOverOneConnection(t *testing.T) {
	body := strings.Repeat("metric{label=\"value\"} 1\n", 50_000)
	for name, start := range map[string]func(*httptest.Server){"http": (*httptest.Server).Start, "https": (*httptest.Server).StartTLS} {
		var connections atomic.Int32
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for rest := body; rest != ""; {
				n := min(len(rest), 2048)
				if _, err := io.WriteString(w, rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}))
		s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				connections.Add(1)
			}
		}
		start(s)
		cfg := promconfig.DefaultHTTPClientConfig
		cfg.TLSConfig.InsecureSkipVerify = true
		cfg.EnableHTTP2 = false
		c := newScraper(t, cfg)
		for range 3 {
			resp, err := c.Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body {
				t.Errorf("%s: read %d bytes, %v, want %d", name, len(got), err, len(body))
			}
			resp.Body.Close()
		}
		if n := connections.Load(); n != 1 {
			t.Errorf("%s: %d connections for three requests, want 1", name, n)
		}
		s.Close()
	}
}

func TestALongHeaderIsAnErrorOfScrapers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 300<<10))
	}))
	defer s.Close()
	resp, err := newScraper(t, promconfig.DefaultHTTPClientConfig).Get(s.URL)
	if err == nil {
		resp.Body.Close()
		t.Error("a header of 300 KiB was read")
	}
}

// TestAnIdleConnectionOfAScraperHoldsLittle holds the budget of performance: an agent has
// thousands of connections that wait. 19 KB and two goroutines is what a client of
// prometheus/common takes; 2.3 KB were measured here on 2026-11-22, with the server's side.
func TestAnIdleConnectionOfAScraperHoldsLittle(t *testing.T) {
	const connections, budget = 200, 3 << 10
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// A server without memory of its own to speak of: it reads once and answers in chunks.
	var wg sync.WaitGroup
	answer := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" + strings.Repeat("x", 0x800) + "\r\n0\r\n\r\n"
	var mu sync.Mutex // guards conns
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				var request [512]byte
				if _, err := conn.Read(request[:]); err == nil {
					_, _ = io.WriteString(conn, answer)
				}
			})
		}
	})
	c := newScraper(t, promconfig.DefaultHTTPClientConfig)
	if tr, ok := c.Transport.(*transport); ok {
		tr.plain.tuning.idlePerHost = connections
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	var open sync.WaitGroup // Requests that wait for the others, so that each needs a connection.
	open.Add(connections)
	var done sync.WaitGroup
	for range connections {
		done.Go(func() {
			resp, err := c.Get("http://" + l.Addr().String())
			open.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			open.Wait()
			if n, err := io.Copy(io.Discard, resp.Body); n != 0x800 || err != nil {
				t.Error(n, err)
			}
		})
	}
	done.Wait()
	if got := (heap() - before) / connections; got > budget {
		t.Errorf("an idle connection holds %d bytes of heap, want at most %d", got, budget)
	}
	if n := runtime.NumGoroutine(); n > goroutines+connections/10 {
		t.Errorf("%d goroutines with %d idle connections, %d without", n, connections, goroutines)
	}
	c.CloseIdleConnections()
	l.Close()
	mu.Lock()
	for _, conn := range conns {
		conn.Close()
	}
	mu.Unlock()
	wg.Wait()
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// BenchmarkScraper fetches answers as targets give them: short ones and long ones in chunks.
// The server takes its part of the time.
func BenchmarkScraper(b *testing.B) {
	buf := make([]byte, 256<<10)
	for _, size := range []int{10_000, 200_000} {
		body := strings.Repeat("m{label=\"value\"} 1\n", size/19)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(body); i += 4096 {
				_, _ = io.WriteString(w, body[i:min(i+4096, len(body))])
			}
		}))
		for _, kind := range []string{"scraper", "ordinary"} {
			b.Run(kind+"/"+map[int]string{10_000: "10KB", 200_000: "200KB"}[size], func(b *testing.B) {
				c := newScraper(b, promconfig.DefaultHTTPClientConfig)
				if kind == "ordinary" {
					var err error
					if c, err = New(promconfig.DefaultHTTPClientConfig, TLS{}, "test"); err != nil {
						b.Fatal(err)
					}
					defer c.CloseIdleConnections()
				}
				b.ReportAllocs()
				for b.Loop() {
					resp, err := c.Get(s.URL)
					if err != nil {
						b.Fatal(err)
					}
					for err == nil {
						_, err = resp.Body.Read(buf)
					}
					resp.Body.Close()
				}
			})
		}
		s.Close()
	}
}
