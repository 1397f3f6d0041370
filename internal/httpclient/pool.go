package httpclient

import (
	"sync"
	"time"
)

// pool holds connections that wait for the next request to their host. One timer, which runs
// while there are any, closes those that have waited for too long.
type pool struct {
	idle    time.Duration // How long a connection waits at least; at most half as long again.
	perHost int           // Connections of a host beyond that are not kept.

	mu      sync.Mutex         // guards what follows
	hosts   map[string]*waiter // By host as a URL has it. The one that was used last comes first.
	sweeper *time.Timer        // Runs when there are hosts; nil before the first.
	closing bool               // What comes back is closed, until there is a new request.
}

// waiter is a connection in a pool.
type waiter struct {
	conn  *aheadConn
	since time.Time
	next  *waiter // Came back before this one, nil at the end.
	count int     // This one and those behind it.
}

func newPool(idle time.Duration, perHost int) *pool {
	return &pool{idle: idle, perHost: perHost, hosts: make(map[string]*waiter)}
}

// take returns a connection to host that the server has not closed, nil for none. One over
// which something was sent that nobody has asked for is not to be trusted and is closed.
func (p *pool) take(host string) *aheadConn {
	for {
		p.mu.Lock()
		p.closing = false
		w := p.hosts[host]
		if w == nil {
			p.mu.Unlock()
			return nil
		}
		if w.next != nil {
			p.hosts[host] = w.next
		} else {
			delete(p.hosts, host)
		}
		p.mu.Unlock()
		if w.conn.silent() {
			return w.conn
		}
		w.conn.release()
		w.conn.Close()
	}
}

// put keeps a connection for the next request. It returns false when it does not want it.
func (p *pool) put(host string, conn *aheadConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &waiter{conn: conn, since: time.Now(), next: p.hosts[host], count: 1}
	if w.next != nil {
		w.count += w.next.count
	}
	if p.closing || w.count > p.perHost || conn.raw == nil {
		return false
	}
	switch {
	case p.sweeper == nil:
		p.sweeper = time.AfterFunc(p.idle, p.sweep)
	case len(p.hosts) == 0:
		p.sweeper.Reset(p.idle)
	}
	p.hosts[host] = w
	return true
}

// sweep closes the connections that have waited for too long.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := time.Now().Add(-p.idle)
	for host, first := range p.hosts {
		// The list is short, and was used from its front: what is old is at its end.
		end := &first
		for *end != nil && (*end).since.After(before) {
			end = &(*end).next
		}
		closeAll(*end)
		*end = nil
		count := 0
		for w := first; w != nil; w = w.next {
			count++
		}
		for w := first; w != nil; w = w.next {
			w.count = count
			count--
		}
		if first == nil {
			delete(p.hosts, host)
		} else {
			p.hosts[host] = first
		}
	}
	if len(p.hosts) > 0 {
		p.sweeper.Reset(p.idle / 2)
	}
}

// close closes all connections, and those that come back before the next request.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	for _, first := range p.hosts {
		closeAll(first)
	}
	clear(p.hosts)
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
}

func closeAll(first *waiter) {
	for w := first; w != nil; w = w.next {
		w.conn.Close()
	}
}
