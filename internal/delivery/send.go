package delivery

import (
	"context"
	"time"
)

// slowFlight is from when on a request does not count towards the parallelism, so that a
// shard whose request hangs does not hold up the others.
const slowFlight = 2 * time.Second

// landing is a request that has ended.
type landing struct {
	e *entry
	r result
}

// deliver sends blocks until ctx ends and the rest has had its chance.
func (q *Queue) deliver(ctx context.Context) {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer q.scanner.close()
	defer q.loader.close()
	drain := context.AfterFunc(ctx, func() { q.limitDrain(requests, cancel) })
	defer drain()
	landed := make(chan landing, q.maxParallel)
	ended, cut := ctx.Done(), requests.Done()
	for {
		q.callAcks()
		q.reportDrops(false)
		q.closeGone(&q.scanner)
		q.closeGone(&q.loader)
		wait, more := q.launch(requests, landed)
		if ctx.Err() != nil && (!more || wait > 0 || requests.Err() != nil) && !q.flying() {
			return
		}
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		select {
		case l := <-landed:
			q.settle(l.e, l.r, requests.Err() != nil)
		case <-q.wakeSend:
		case <-again:
		case <-ended:
			ended = nil // Go round once to see what is left, then wait for the disk or the end.
		case <-cut:
			cut = nil // What is on its way comes back now.
		}
	}
}

// limitDrain ends the requests of a queue that stops: at once if the endpoint is failing, so
// that nothing waits in vain, else after the time for draining.
func (q *Queue) limitDrain(requests context.Context, cancel context.CancelFunc) {
	q.mu.Lock()
	failing := q.state != StateOK
	q.mu.Unlock()
	if !failing {
		t := time.NewTimer(drainTime)
		defer t.Stop()
		select {
		case <-t.C:
		case <-requests.Done():
		}
	}
	cancel()
}

func (q *Queue) flying() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.window.flights) > 0
}

// launch sends what may be sent now. wait is after how long to try again, if it is not 0;
// more says that there will be something once the disk goroutine has done its part.
func (q *Queue) launch(requests context.Context, landed chan<- landing) (wait time.Duration, more bool) {
	for requests.Err() == nil {
		e, wait, more := q.next()
		if e == nil {
			return wait, more
		}
		p, attempt, ok := q.load(e)
		if ok {
			go func() { // deliver waits for it.
				r := q.fly(requests, p, attempt)
				p.body.Release()
				landed <- landing{e, r}
			}()
		}
	}
	return 0, false
}

// next chooses the block to be sent now and notes that it is on its way: the oldest one whose
// shard is free. Without one it returns as launch does.
func (q *Queue) next() (e *entry, wait time.Duration, more bool) {
	for {
		q.mu.Lock()
		e, s, wait, more := q.choose(time.Now())
		if s == nil {
			q.mu.Unlock()
			return e, wait, more
		}
		off, end := s.read, s.end
		q.mu.Unlock()
		q.scan(s, off, end)
	}
}

// choose is next without the reading of the disk: s is where to read a record first.
func (q *Queue) choose(now time.Time) (e *entry, s *segment, wait time.Duration, more bool) {
	w := &q.window
	for {
		q.crowded = false
		switch {
		case !q.diskReady:
			return nil, nil, 0, false
		case now.Before(q.nextAttempt):
			return nil, nil, q.nextAttempt.Sub(now), true
		}
		free, wait := q.slot(now)
		if !free {
			q.crowded = len(w.ready) > 0 || !w.full() && (q.index.unread() != nil || q.untaken() != nil)
			if !q.crowded {
				wait = 0 // Nothing would be sent then.
			}
			return nil, nil, wait, false
		}
		e, wait := q.pick(now)
		if e == nil || e.vain > 0 && q.state != StateOK { // Perhaps one of another shard goes through.
			taken, s, again, more := q.ahead(now)
			switch {
			case s != nil:
				return nil, s, 0, true
			case taken != nil:
				w.add(taken)
				continue
			case e == nil && wait > 0 && (again == 0 || wait < again):
				return nil, nil, wait, true
			case e == nil:
				return nil, nil, again, more
			}
		}
		switch {
		case q.tooOld(e.Time.UnixMilli()):
			q.dropTaken(e, dropTooOld, "")
		case e.Body == nil && len(e.parts) == 0 && now.Before(q.readAgain):
			return nil, nil, q.readAgain.Sub(now), true
		default:
			w.start(e)
			return e, nil, 0, false
		}
	}
}

// ahead returns what is to be taken into the window next: a block in memory, or one that is
// yet to be read from a segment. Without any it returns as launch does.
func (q *Queue) ahead(now time.Time) (e *entry, s *segment, wait time.Duration, more bool) {
	if q.window.full() {
		return nil, nil, 0, false
	}
	if s := q.index.unread(); s != nil {
		if now.Before(q.readAgain) {
			return nil, nil, q.readAgain.Sub(now), true
		}
		return nil, s, 0, true
	}
	if q.index.left.Blocks == 0 { // The cursor is behind them.
		clear(q.settled)
		clear(q.started)
	}
	if e = q.untaken(); e != nil && q.always() && q.writeError == "" {
		return nil, nil, 0, true // It will be on disk then.
	}
	return e, nil, 0, false
}

// pick returns the block of the window to be sent next, nil if there is none, and then after
// how long there will be one, if it is not 0. It is the oldest one; while the endpoint fails it
// is one of those that were tried least, since the data may be at fault or that part of the
// endpoint which takes it.
func (q *Queue) pick(now time.Time) (e *entry, wait time.Duration) {
	for _, r := range q.window.ready {
		switch {
		case now.Before(r.again):
			if wait == 0 || r.again.Sub(now) < wait {
				wait = r.again.Sub(now)
			}
		case q.state == StateOK:
			return r, 0
		case e == nil || r.vain < e.vain:
			e = r
		}
	}
	return e, wait
}

// slot tells whether one more request may be sent now, and if not, after how long one may be
// because another has become slow.
func (q *Queue) slot(now time.Time) (free bool, wait time.Duration) {
	flights := q.window.flights
	if len(flights) >= q.maxParallel {
		return false, 0
	}
	if q.state != StateOK {
		return len(flights) == 0, 0 // One is enough to find out.
	}
	fast := 0
	for _, e := range flights {
		if left := slowFlight - now.Sub(e.started); left > 0 {
			fast++
			if wait == 0 || left < wait {
				wait = left
			}
		}
	}
	return fast < q.limit, wait
}

// begin returns what to send of a block, with a hold of its body, and how many requests for it
// were in vain. It needs the lock.
func (q *Queue) begin(e *entry) (p part, attempt int) {
	p = part{body: e.Body, format: e.Format, items: e.Items, amount: e.left}
	if len(e.parts) > 0 {
		p = e.parts[0]
	}
	p.body.hold()
	e.started, e.epoch = time.Now(), q.epoch
	if e.vain > 0 {
		q.retried.add(p.amount)
		q.retries++
	}
	return p, e.vain
}

// tooOld tells whether a block finished at that time is over max_age. A wall clock that was
// set while the program runs must not cost data, so both the wall clock and the time since
// the start have to say so.
func (q *Queue) tooOld(ms int64) bool {
	return q.dir != "" && q.age(ms) > time.Duration(q.cfg.MaxAge)
}

// age returns the age of what was finished at that time, the lower of what the wall clock
// says and what the monotonic clock says, never negative.
func (q *Queue) age(ms int64) time.Duration {
	wall := time.Now().UnixMilli()
	steady := q.begunWall + time.Since(q.begun).Milliseconds()
	return time.Duration(max(min(wall, steady)-ms, 0)) * time.Millisecond
}

// logChange logs that the endpoint's state has changed. What only an operator can put right
// is an error.
func (q *Queue) logChange(before, state State, text string, failing time.Duration) {
	if state == before {
		return
	}
	switch state {
	case StateOK:
		q.log.Info("delivery recovered", "duration", failing)
	case StateRetrying:
		q.log.Warn("delivery failing, data is kept", "state", state, "err", text)
	default:
		q.log.Error("delivery refused until the configuration is right, data is kept", "state", state, "err", text)
	}
}
