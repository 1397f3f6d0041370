package delivery

import "time"

// parallelism is how many requests are sent at a time. It doubles from one while blocks wait
// although requests succeed; the first failure halves it and ends the doubling.
type parallelism struct {
	maxParallel int
	limit       int
	careful     bool // a request has failed since the start: grow slowly
	successes   int  // in a row, while blocks waited for a request to end
	crowded     bool // when a request was last chosen, blocks waited for others to end
}

// succeeded notes a request that succeeded.
func (p *parallelism) succeeded() {
	if !p.crowded || p.limit >= p.maxParallel {
		return
	}
	p.successes++
	need := 1
	if p.careful {
		need = 8 * p.limit
	}
	if p.successes >= need {
		p.limit, p.successes = p.limit+1, 0
	}
}

// failed notes that the endpoint could not take data.
func (p *parallelism) failed() {
	p.limit, p.careful, p.successes = max(p.limit/2, 1), true, 0
}

// settle does what the verdict on a block asks for. cut says that the requests were ended by
// the stop, which is no fault of the endpoint.
func (q *Queue) settle(e *entry, r result, cut bool) {
	now := time.Now()
	q.mu.Lock()
	if cut && r.verdict == retryLater {
		q.sendAgain(e)
		q.mu.Unlock()
		return
	}
	current := e.epoch == q.epoch // If not, what it says of the endpoint is known.
	if r.verdict.state() == StateOK {
		q.answered++
	}
	switch r.verdict {
	case accepted:
		q.lastSuccess, q.refusing = now, r.written == 0 && r.sent.items > 0
		q.settlePart(e, r, dropRejected)
		if current {
			q.succeeded()
		}
	case rejected:
		q.refusing = true
		q.settlePart(e, r, dropRejected)
	case tooLarge:
		if len(r.halves) > 0 {
			e.parts = append(r.halves, e.parts[min(len(e.parts), 1):]...)
			if e.seg != nil {
				e.forgetBody() // Only a block in memory needs it, for the disk.
			}
			e.fresh()
			q.window.stop(e)
			break
		}
		q.refusing = true
		q.settlePart(e, r, dropTooLarge)
	case retryLater, paused, misconfigured:
		q.failedAgain(e, r, now)
		q.backOff(r, current, now)
		q.sendAgain(e)
	}
	if r.text != "" {
		q.lastError, q.lastErrorAt = r.text, now
	}
	if !current {
		q.mu.Unlock()
		return
	}
	before, since, state := q.state, q.since, r.verdict.state()
	if state == StateOK {
		q.attempts, q.nextAttempt = 0, time.Time{}
	}
	if state != before {
		q.state = state
		if before == StateOK {
			q.since = now
		}
		wake(q.wakeDisk)
	}
	q.mu.Unlock()
	q.logChange(before, state, r.text, now.Sub(since))
}

// failedAgain notes that a request was in vain. If the endpoint has taken others since the
// one before, this block or its shard is at fault: it gets pauses of its own, so that it does
// not stop the others each time.
func (q *Queue) failedAgain(e *entry, r result, now time.Time) {
	if e.vain++; e.alone > 0 || e.vain > 1 && e.answered != q.answered {
		e.alone++
		e.again = now.Add(pause(r.verdict, e.alone, r.asked, q.jitter))
	}
	e.answered = q.answered
}

// backOff sets when the endpoint is tried again. Of requests that were on their way together
// only the first to fail counts, but a longer wait that another was asked for is kept.
func (q *Queue) backOff(r result, first bool, now time.Time) {
	if !first {
		if at := now.Add(r.asked); r.asked > 0 && at.After(q.nextAttempt) {
			q.nextAttempt = at
		}
		return
	}
	q.epoch++
	q.attempts++
	q.failed()
	q.nextAttempt = now.Add(pause(r.verdict, q.attempts, r.asked, q.jitter))
}

// sendAgain puts a block that was on its way back to its place.
func (q *Queue) sendAgain(e *entry) {
	if e.seg != nil && len(e.parts) == 0 {
		e.forgetBody() // The disk has it, and the wait may be long.
	}
	q.window.stop(e)
	if e.seg == nil && q.index.unread() != nil {
		q.giveBack(e)
	}
}

// giveBack returns a block from the window to the memory, since older ones have been found on
// disk. What was sent of it will be sent again, since its place in the window is where that
// was known.
func (q *Queue) giveBack(e *entry) {
	q.window.giveBack(e)
	again := e.done()
	q.restored.add(again)
	q.memory.add(again)
	e.left, e.parts = e.total, nil
}

// settlePart accounts for the part of a block that has been sent and returned. What was not
// written of it is dropped for the given reason.
func (q *Queue) settlePart(e *entry, r result, reason string) {
	p := r.sent
	ms := e.Time.UnixMilli()
	rest := p.amount
	if len(r.refused) > 0 {
		done := q.dropRefused(r, ms)
		q.sent.add(done)
		rest = Amount{}
	} else if r.written > 0 || r.verdict == accepted && p.amount.Items == 0 {
		done := Amount{Blocks: rest.Blocks, Items: min(int64(r.written), rest.Items), Bytes: rest.Bytes}
		q.sent.add(done)
		rest.sub(done)
	}
	if unsaid := p.amount.Items - int64(p.items); unsaid > 0 {
		a := Amount{Items: unsaid}
		if a.Items == rest.Items {
			a = rest
		}
		q.drop(dropUnsupported, a, ms, ms, "the endpoint takes only a format without room for them")
		rest.sub(a)
	}
	q.drop(reason, rest, ms, ms, r.text)
	q.gone(e, p.amount)
	e.fresh()
	if len(e.parts) > 1 {
		e.parts = e.parts[1:]
		q.window.stop(e)
		wake(q.wakeDisk) // For the cursor.
		return
	}
	q.finished(e)
}

// gone takes a of a block off what is queued.
func (q *Queue) gone(e *entry, a Amount) {
	e.left.sub(a)
	if e.seg != nil {
		q.index.settled(e.seg, a)
	} else {
		q.memory.sub(a)
	}
}

// dropTaken drops a block of the window that is not being sent, or could not be.
func (q *Queue) dropTaken(e *entry, reason, text string) {
	ms := e.Time.UnixMilli()
	q.drop(reason, e.left, ms, ms, text)
	q.gone(e, e.left)
	q.finished(e)
}

// finished takes a block that is accounted for out of the window, and out of memory or off the
// disk.
func (q *Queue) finished(e *entry) {
	q.window.settle(e)
	if e.seg != nil {
		e.forgetBody()
		q.index.trim(q.active)
		wake(q.wakeDisk)
	} else {
		q.leaveMemory(e)
	}
	q.acknowledge(e.seq, e.seq)
}
