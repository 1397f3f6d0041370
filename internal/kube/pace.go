package kube

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	pauseBase = 800 * time.Millisecond
	// pauseMax and as much again of jitter spread the agents of a large cluster, and keep a
	// store less than 30 seconds behind an API server that has come back or a right that
	// was granted.
	pauseMax = 14 * time.Second
	// retryAfterMax bounds how long an API server may send a store away.
	retryAfterMax = 5 * time.Minute
)

// pace spaces the requests of one watch: none waits while things go well, and each request
// that brought nothing doubles the pause before the next.
type pace struct {
	base, max time.Duration
	jitter    func() float64 // in [0, 1)

	mu      *sync.Mutex // guards all below
	misses  int         // requests since the last progress, of which the next pause follows
	faults  int         // faults among the answers since the last progress
	blocked time.Time   // not before this, as the API server asked
}

func newPace() pace {
	return pace{base: pauseBase, max: pauseMax, jitter: rand.Float64, mu: new(sync.Mutex)}
}

// wait blocks until the next request may be made, or ctx ends, whose error it then returns.
// The request counts as fruitless until progress, lasted or answered says otherwise.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	d := p.pause(p.misses)
	if until := time.Until(p.blocked); until > 0 {
		d += until
	}
	p.misses++
	p.mu.Unlock()
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause is the length of the pause after a number of fruitless requests, jitter included.
func (p *pace) pause(misses int) time.Duration {
	if misses == 0 {
		return 0
	}
	d := p.max
	if misses < 16 && p.base<<(misses-1) < p.max {
		d = p.base << (misses - 1)
	}
	return d + time.Duration(p.jitter()*float64(d))
}

// progress says that an event arrived.
func (p *pace) progress() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.misses, p.faults = 0, 0
}

// lasted says how long a watch was open. One that lived for a moment was worth its request
// even when nothing happened meanwhile.
func (p *pace) lasted(d time.Duration) {
	if d >= p.base {
		p.progress()
	}
}

// answered says that the API server gave an answer that leads on: a list, or that another
// request is wanted. The pauses of an outage before are over then. A fault is an answer that
// must not repeat itself without a pause, such as that a place in the history is gone.
func (p *pace) answered(fault bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fault {
		p.faults++
	}
	p.misses = min(p.misses, p.faults)
}

// notBefore says that the API server wants no request for some time (Retry-After).
func (p *pace) notBefore(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = time.Now().Add(min(d, retryAfterMax))
}
