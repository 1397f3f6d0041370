package kit

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy on loopback that can break what passes through it.
type Proxy struct {
	target string
	ln     net.Listener
	busy   sync.WaitGroup
	ctx    context.Context //nolint:containedctx // the life of the proxy, ended by Close
	cancel context.CancelFunc

	mu     sync.Mutex    // guards the rest
	hole   chan struct{} // not nil: swallow everything until it is closed
	refuse bool
	delay  time.Duration
	conns  map[net.Conn]struct{}
	passed int64
}

// StartProxy starts a proxy to target (host:port) that ends with the test.
func StartProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := NewProxy(target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// NewProxy starts a proxy to target (host:port); [Proxy.Close] ends it.
func NewProxy(target string) (*Proxy, error) {
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{target: target, ln: ln, ctx: ctx, cancel: cancel, conns: make(map[net.Conn]struct{})}
	p.busy.Go(p.accept)
	return p, nil
}

// Addr returns the host:port to connect to instead of the target.
func (p *Proxy) Addr() string {
	return p.ln.Addr().String()
}

// Cut resets every open connection; new ones are served.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Refuse makes the proxy reset every connection as soon as it is made, or stop doing so.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// BlackHole makes bytes wait in both directions while every connection stays open, as a lost
// route does; off lets them pass.
func (p *Proxy) BlackHole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case on && p.hole == nil:
		p.hole = make(chan struct{})
	case !on && p.hole != nil:
		close(p.hole)
		p.hole = nil
	}
}

// Delay holds every chunk of bytes back for d, in both directions.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Passed returns how many bytes went through, both directions together.
func (p *Proxy) Passed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed
}

// Close cuts everything and returns when nothing of the proxy runs any more.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.ln.Close()
	p.Cut()
	p.busy.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.busy.Go(func() { p.serve(client) })
	}
}

// serve joins one client to the target until either side ends.
func (p *Proxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.untrack(client)
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(p.ctx, "tcp", p.target)
	if err != nil || !p.track(server) {
		return
	}
	defer p.untrack(server)
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client) })
	wg.Go(func() { p.copy(client, server) })
	wg.Wait()
}

// track takes a connection into the books, or resets it when none is wanted.
func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.ctx.Err() != nil {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) untrack(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// copy carries bytes one way and passes the end of the stream on.
func (p *Proxy) copy(dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.wait() {
				return
			}
			if _, writeErr := dst.Write(buf[:n]); writeErr != nil {
				_ = src.Close()
				return
			}
			p.mu.Lock()
			p.passed += int64(n)
			p.mu.Unlock()
		}
		if err != nil {
			if tcp, ok := dst.(*net.TCPConn); ok && err == io.EOF { //nolint:errorlint // Read returns io.EOF itself
				_ = tcp.CloseWrite()
			} else {
				_ = dst.Close()
			}
			return
		}
	}
}

// wait holds bytes back as the faults say and returns false when the proxy ends.
func (p *Proxy) wait() bool {
	p.mu.Lock()
	hole, d := p.hole, p.delay
	p.mu.Unlock()
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			return false
		}
	}
	if hole != nil {
		select {
		case <-hole:
		case <-p.ctx.Done():
			return false
		}
	}
	return true
}
