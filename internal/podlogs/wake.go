package podlogs

import (
	"context"
	"time"
)

// forever is longer than the program runs.
const forever = 100 * 365 * 24 * time.Hour

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		if r.round(ctx) {
			continue
		}
		pause.Reset(time.Until(r.next))
		select {
		case <-pause.C:
		case <-r.c.woken:
		case <-ctx.Done():
		}
	}
}

// round gives each chain that is due one turn, and tells whether any had something. next is
// then when there will be something to do if no notice comes.
func (r *reader) round(ctx context.Context) (busy bool) {
	r.wake()
	start := time.Now()
	r.rounds++
	r.next = r.far
	kept := 0
	for _, ch := range r.active {
		if !start.Before(ch.due) {
			r.now = time.Now()
			if r.ready(ctx, ch) && r.mayRead(ctx, ch) && r.within(ctx, ch) && r.advance(ctx, ch) {
				busy = true
			}
			if ctx.Err() != nil {
				return false
			}
			if ch.due = r.due(ch); ch.due.Equal(r.far) {
				ch.active = false
				continue
			}
		}
		if ch.due.Before(r.next) {
			r.next = ch.due
		}
		r.active[kept] = ch
		kept++
	}
	clear(r.active[kept:])
	r.active = r.active[:kept]
	if !busy && r.unzip != nil && r.unzip.t == nil {
		r.unzip = nil
	}
	if len(r.carry) > 0 {
		if r.c.inFlight.Load() == 0 {
			r.c.positions.acknowledge(r.carry)
			r.carry = nil
		} else if soon := start.Add(r.c.timing.pollMin); soon.Before(r.next) {
			r.next = soon
		}
	}
	return busy
}

// wake takes over what the scanner has changed, and has chains looked at that were silent.
func (r *reader) wake() {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	for i, ch := range r.c.poked {
		ch.poked = false
		r.c.poked[i] = nil
		ch.view = ch.tails
		for _, t := range ch.view {
			if t.nextPoll.Equal(r.far) {
				t.nextPoll, t.backoff = time.Time{}, 0
			}
		}
		ch.due = time.Time{}
		if !ch.active && len(ch.view) > 0 {
			ch.active = true
			r.active = append(r.active, ch)
		}
	}
	r.c.poked = r.c.poked[:0]
}

// due returns when a chain is to be looked at next, far if not before a notice.
func (r *reader) due(ch *chain) time.Time {
	if len(ch.view) == 0 {
		return r.far
	}
	if !ch.labelled {
		return r.poll(r.c.timing.pollMin)
	}
	due := r.far
	for _, t := range ch.view {
		if t.nextPoll.Before(due) {
			due = t.nextPoll
		}
		if !t.sealed && !r.stuck(t) {
			break // The others wait for it.
		}
	}
	if due.Before(ch.notBefore) {
		due = ch.notBefore
	}
	if p := ch.pipes; p != nil && !p.due.IsZero() && p.due.Before(due) {
		due = p.due
	}
	return due
}

// poll returns the time after a pause, at which all files have their turn that are due about
// then: a program that wakes up rarely costs less.
func (r *reader) poll(pause time.Duration) time.Time {
	return r.begun.Add((r.now.Sub(r.begun) + pause + r.c.timing.tick/2).Truncate(pause))
}

// idle puts off the next look at a file that has nothing new.
func (r *reader) idle(t *tail) {
	t.hot = false
	if t.sealed {
		t.state.Store(stateFinished)
	} else {
		t.state.Store(stateIdle)
	}
	most := r.c.timing.pollMax
	if r.now.Sub(t.lastData) >= r.c.timing.idleAge {
		if r.park(t) {
			t.nextPoll = r.far
			return
		}
		most = r.c.timing.pollIdle
	}
	t.backoff = min(max(2*t.backoff, r.c.timing.pollMin), most)
	t.nextPoll = r.poll(t.backoff)
}

// park leaves a silent file to the kernel's notice of its next write. It tells whether that is
// possible: nothing may be due for the file without a write.
func (r *reader) park(t *tail) bool {
	if _, gone := t.goneSince(); gone || r.c.watch == nil || t.holds() {
		return false
	}
	if t.wd = r.c.watch.file(t.file, t.chain, r.now); t.wd == 0 {
		return false
	}
	// What was written before the watch is not noticed.
	return t.file.stat(&r.stat) == nil && r.stat.Size == t.off.Load()+int64(t.left)
}
