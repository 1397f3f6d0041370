package loki

import "sync"

// ack is the acknowledgement of a batch.
type ack struct {
	left int // bodies that are not settled
	call func()
}

// acks calls the acknowledgements of batches in the order in which they were pushed, also where
// a tenant settles its bodies later than another: a position of a file that passed over lines of
// the slower one would lose them at a crash.
type acks struct {
	mu   sync.Mutex // held during the calls, which come one at a time
	list []*ack
}

// add notes a batch that is in so many bodies.
func (a *acks) add(call func(), bodies int) *ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := &ack{left: bodies, call: call}
	a.list = append(a.list, k)
	return k
}

// done notes that a body is settled in which batches ended, and calls what is due.
func (a *acks) done(of []*ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range of {
		k.left--
	}
	for len(a.list) > 0 && a.list[0].left == 0 {
		call := a.list[0].call
		a.list[0] = nil
		a.list = a.list[1:]
		call()
	}
}
