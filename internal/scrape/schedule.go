package scrape

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	// grid is what the phases of targets are rounded to, so that scrapes that are due about
	// the same time wake the process once; targets with a short interval have a twentieth of
	// that. Waking an idle process for a few milliseconds costs a millisecond more, above all
	// in the runtime's own monitor.
	grid = 500 * time.Millisecond
	// idleWorkers is how long a worker waits for its next scrape before it ends.
	idleWorkers = 2 * time.Second
	// dormant is how long the scheduler sleeps when nothing is due.
	dormant = time.Hour
)

// stage is where in its life a loop is.
type stage uint8

const (
	stageNew      stage = iota // Not added yet, or waiting for the table of another loop.
	stageWaiting               // Its next scrape is due at a time to come.
	stageScraping              // A worker has it.
	stageRetiring              // Its target is gone; its series end at a time to come.
	stageEnding                // A worker ends its series.
	stageEnded                 // Nothing is to be done any more.
)

// turn is what the scheduler knows of a loop. It belongs to the scheduler.
type turn struct {
	stage stage
	gone  bool      // The target is not wanted any more.
	heir  *loop     // The loop that continues the table, once this one is done with it.
	due   time.Time // When the loop is to be run next.
	place int       // In the heap.
	// aligned is the last regular time of a scrape, without a monotonic clock.
	aligned time.Time
	at      time.Time // The timestamp of the present scrape, or of the first one missed.
}

// scheduler runs the loops of all targets: each is a state, not a goroutine. One heap holds
// when each of them is due; those that are due are run by workers, goroutines of which there
// are as many as there are scrapes under way, and which end when they are idle.
//
// A loop is with one worker at a time, and its table passes from one loop to another only
// between scrapes, so the scheduler is what guards tables.
type scheduler struct {
	wake chan struct{} // Holds one token when something is due earlier than was awaited.

	mu      sync.Mutex // guards what follows, and the turns of loops
	due     dueHeap
	gone    map[identity][]*loop // Loops of targets that are gone whose table is not handed on.
	idle    []*worker            // The one that worked last comes last.
	stopped bool

	working sync.WaitGroup
}

// identity is what two targets must share so that one continues the series of the other.
type identity struct {
	pool   *pool
	labels model.Labels
}

func (l *loop) identity() identity { return identity{l.pool, l.target.publicKey} }

// worker is a goroutine that runs loops, one after the other.
type worker struct {
	next  chan *loop // Holds one; closed when the worker is to end.
	since time.Time  // When it became idle.
}

func newScheduler() *scheduler {
	return &scheduler{wake: make(chan struct{}, 1), gone: make(map[identity][]*loop)}
}

// run runs loops when they are due, until ctx ends and what was under way has ended.
func (s *scheduler) run(ctx context.Context) {
	defer s.working.Wait()
	defer s.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		timer.Reset(s.dispatch(ctx))
	}
}

// stop ends idle workers, and those that work when they are done.
func (s *scheduler) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, w := range s.idle {
		close(w.next)
	}
	s.idle = nil
}

// dispatch gives every loop that is due to a worker and returns how long there is nothing
// else to do.
func (s *scheduler) dispatch(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.due) > 0 && !s.due[0].turn.due.After(now) {
		l := heap.Pop(&s.due).(*loop)
		if l.turn.stage == stageRetiring {
			l.turn.stage = stageEnding
		} else {
			l.turn.stage = stageScraping
			l.turn.at = l.alignedTime(now)
			// Of scrapes that were missed while the process stood still, one is made up for.
			l.turn.due = l.turn.due.Add(now.Sub(l.turn.due).Truncate(l.target.interval))
		}
		s.assign(ctx, l)
	}
	wait := dormant
	if len(s.idle) > 0 {
		wait = s.endIdle(now)
	}
	if len(s.due) > 0 {
		wait = min(wait, time.Until(s.due[0].turn.due))
	}
	return max(wait, 0)
}

// endIdle ends the workers that have had nothing to do for a while and returns when to look
// again. The caller holds mu.
func (s *scheduler) endIdle(now time.Time) time.Duration {
	n := 0
	for n < len(s.idle) && now.Sub(s.idle[n].since) >= idleWorkers {
		close(s.idle[n].next)
		n++
	}
	kept := copy(s.idle, s.idle[n:])
	clear(s.idle[kept:])
	s.idle = s.idle[:kept]
	if kept == 0 {
		return dormant
	}
	return idleWorkers - now.Sub(s.idle[0].since)
}

// assign gives a loop to the worker that was idle for the shortest time, whose memory is
// warm, or to a new one. The caller holds mu.
func (s *scheduler) assign(ctx context.Context, l *loop) {
	if n := len(s.idle); n > 0 {
		w := s.idle[n-1]
		s.idle[n-1] = nil
		s.idle = s.idle[:n-1]
		w.next <- l
		return
	}
	w := &worker{next: make(chan *loop, 1)}
	w.next <- l
	s.working.Go(func() { s.work(ctx, w) })
}

// work runs the loops that a worker gets.
func (s *scheduler) work(ctx context.Context, w *worker) {
	for l := range w.next {
		s.step(ctx, l)
		if !s.park(w) {
			return
		}
	}
}

// step does what is due with one loop.
func (s *scheduler) step(ctx context.Context, l *loop) {
	s.mu.Lock()
	ending, at := l.turn.stage == stageEnding, l.turn.at
	s.mu.Unlock()
	if ending {
		l.endSeries(ctx, at)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end(l)
		return
	}
	l.scrape(ctx, at)
	s.scraped(l)
}

// park makes a worker idle. It returns false when the worker is to end.
func (s *scheduler) park(w *worker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	w.since = time.Now()
	if len(s.idle) == 0 && len(s.due) == 0 {
		s.rouse() // It sleeps for long, and is to end this worker before.
	}
	s.idle = append(s.idle, w)
	return true
}

// add begins to scrape a new target. It continues the series of a target that is gone and
// had the same labels on its samples, the same one or one that has moved: as soon as the
// last scrape of that one is over, and unless its series have ended.
func (s *scheduler) add(l *loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, former := range s.gone[l.identity()] {
		switch {
		case former.turn.heir != nil:
			continue
		case former.turn.stage == stageScraping || former.turn.stage == stageNew:
			former.turn.heir = l
			return
		case former.turn.stage == stageRetiring:
			heap.Remove(&s.due, former.turn.place)
			s.hand(former, l)
			return
		}
	}
	s.begin(l)
}

// remove ends the loop of a target that is gone: its series become stale when two scrapes
// and a bit have not happened, unless another loop continues them.
func (s *scheduler) remove(l *loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.turn.gone = true
	id := l.identity()
	s.gone[id] = append(s.gone[id], l)
	if l.turn.stage == stageWaiting {
		heap.Remove(&s.due, l.turn.place)
		s.release(l)
	}
}

// scraped takes back a loop whose scrape is over.
func (s *scheduler) scraped(l *loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &l.turn
	t.due = t.due.Add(l.target.interval)
	if t.gone {
		s.release(l)
		return
	}
	t.stage = stageWaiting
	s.push(l)
}

// release decides what becomes of a loop whose target is gone and whose next scrape would
// be at turn.due. The caller holds mu.
func (s *scheduler) release(l *loop) {
	t := &l.turn
	switch {
	case t.heir != nil:
		s.hand(l, t.heir)
	case l.table.Time() == 0: // It was never scraped.
		s.end(l)
	default:
		// As in Prometheus, the markers are those of the first scrape that did not happen. The
		// wall clock may have been set since due was made, while aligned follows it.
		if t.at = t.aligned; !t.at.After(time.Now()) {
			t.at = t.at.Add(l.target.interval)
		}
		t.due = t.due.Add(l.target.interval + l.target.interval/10)
		t.stage = stageRetiring
		s.push(l)
	}
}

// hand passes the table of a loop on to its heir. The caller holds mu.
func (s *scheduler) hand(from, heir *loop) {
	from.turn.heir = nil
	s.end(from)
	heir.continues(from)
	s.begin(heir)
}

// begin schedules the first scrape of a loop. The caller holds mu.
func (s *scheduler) begin(l *loop) {
	now := time.Now()
	l.turn.due = now.Add(l.target.wait(now))
	l.turn.aligned = l.turn.due.Round(0)
	if l.turn.gone {
		s.release(l)
		return
	}
	l.turn.stage = stageWaiting
	s.push(l)
}

// end forgets a loop. The caller holds mu.
func (s *scheduler) end(l *loop) {
	l.turn.stage = stageEnded
	id := l.identity()
	rest := slices.DeleteFunc(s.gone[id], func(o *loop) bool { return o == l })
	if s.gone[id] = rest; len(rest) == 0 {
		delete(s.gone, id)
	}
}

// push puts a loop into the heap. The caller holds mu.
func (s *scheduler) push(l *loop) {
	heap.Push(&s.due, l)
	if l.turn.place == 0 {
		s.rouse()
	}
}

func (s *scheduler) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// dueHeap orders loops by when they are due.
type dueHeap []*loop

// Len implements sort.Interface.
func (h dueHeap) Len() int { return len(h) }

// Less implements sort.Interface.
func (h dueHeap) Less(i, j int) bool { return h[i].turn.due.Before(h[j].turn.due) }

// Swap implements sort.Interface.
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].turn.place, h[j].turn.place = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	l := x.(*loop)
	l.turn.place = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}
