package kube

import "sync"

// changes is a coalesced signal to any number of readers.
type changes struct {
	mu *sync.Mutex // guards ch
	ch *chan struct{}
}

func newChanges() changes {
	ch := make(chan struct{})
	return changes{new(sync.Mutex), &ch}
}

// next returns the channel that the next fire closes.
func (c changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.ch
}

func (c changes) fire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(*c.ch)
	*c.ch = make(chan struct{})
}
