package delivery

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer is how much is read of any answer: enough for the words of an error.
const maxAnswer = 1 << 10

// job is the block that is being delivered.
type job struct {
	body   []byte
	amount Amount
	time   int64 // ms since the Unix epoch
	seq    uint64
	entry  *entry   // where it is, while it is in memory
	seg    *segment // where it is, once it is on disk
	rec    record
}

// deliver sends blocks, the oldest first, until ctx ends and the rest has had its chance.
func (q *Queue) deliver(ctx context.Context) {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer q.reader.close()
	drain := context.AfterFunc(ctx, func() { q.limitDrain(requests, cancel) })
	defer drain()
	for {
		j := q.next(ctx, requests)
		if j == nil {
			return
		}
		r := q.post(requests, j)
		if r.verdict == retryLater && requests.Err() != nil {
			q.unsettled()
			return
		}
		wait := q.settle(j, r)
		q.callAcks()
		q.reportDrops(false)
		if wait > 0 && !q.rest(ctx, wait) {
			return
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

// next waits for a block and returns it as the one in flight. It returns nil when ctx has
// ended and nothing is left, or when requests has.
func (q *Queue) next(ctx, requests context.Context) *job {
	ended := ctx.Done()
	for {
		q.callAcks()
		j, retry, more := q.oldest()
		if j != nil {
			return j
		}
		if ctx.Err() != nil && (!more || retry > 0) {
			return nil
		}
		var again <-chan time.Time
		if retry > 0 {
			again = time.After(retry)
		}
		select {
		case <-q.wakeSend:
		case <-again:
		case <-ended:
			ended = nil // Go round once to see what is left, then wait for the disk or the end.
		case <-requests.Done():
			return nil
		}
	}
}

// oldest takes the oldest block, those on disk before those in memory. Without one, more says
// that there will be one once the disk goroutine has done its part, and retry is when to try
// again because the disk cannot be read.
func (q *Queue) oldest() (j *job, retry time.Duration, more bool) {
	for {
		q.mu.Lock()
		switch {
		case !q.diskReady:
			q.mu.Unlock()
			return nil, 0, false
		case q.index.left.Blocks > 0:
			q.mu.Unlock()
			onDisk, again, err := q.readOldest()
			if err != nil {
				return nil, diskPause, true
			}
			if again {
				continue
			}
			return onDisk, 0, false
		case len(q.mem) == 0:
			q.mu.Unlock()
			return nil, 0, false
		case q.always() && q.writeError == "":
			q.mu.Unlock()
			return nil, 0, true
		}
		e := q.mem[0]
		if ms := e.Time.UnixMilli(); q.tooOld(ms) {
			if q.writing == e {
				e.settled = true
			}
			q.popMemory()
			q.drop(dropTooOld, e.amount(), ms, ms, "")
			q.acknowledge(e.seq, e.seq)
			q.mu.Unlock()
			continue
		}
		j = &job{body: e.Body, amount: e.amount(), time: e.Time.UnixMilli(), seq: e.seq, entry: e}
		q.inflight = j
		q.mu.Unlock()
		return j, 0, false
	}
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

// result is the outcome of one request.
type result struct {
	verdict verdict
	text    string        // why the block was not accepted
	asked   time.Duration // what the endpoint wants us to wait
}

// post sends one block.
func (q *Queue) post(ctx context.Context, j *job) result {
	ctx, cancel := context.WithTimeout(ctx, q.ep.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.ep.URL, bytes.NewReader(j.body))
	if err != nil {
		return result{verdict: misconfigured, text: "build the request: the url is not valid; correct it"}
	}
	if q.ep.Header != nil {
		req.Header = q.ep.Header.Clone()
	}
	if n := q.repeated(j); n > 0 {
		req.Header.Set("Retry-Attempt", strconv.Itoa(n)) // Mimir spreads its Retry-After by it.
	}
	start := time.Now()
	resp, err := q.client.Do(req)
	if err != nil {
		q.m.request(q.ep.Name, "error", time.Since(start))
		return result{verdict: retryLater, text: describe(err, q.ep.Timeout)}
	}
	defer resp.Body.Close()
	words := withoutSecrets(readAnswer(resp.Body), resp.Request, q.ep.Header)
	q.m.request(q.ep.Name, strconv.Itoa(resp.StatusCode), time.Since(start))
	r := result{verdict: judge(resp.StatusCode, words)}
	if r.verdict == accepted {
		return r
	}
	r.text = "status " + strconv.Itoa(resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		r.text += " " + name
	}
	if words != "" {
		r.text += ": " + words
	}
	if r.verdict == misconfigured && wantsTLS(words) {
		r.text += "; write https:// in url"
	}
	if r.verdict == retryLater {
		r.asked = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return r
}

// repeated returns how many requests for this block have failed, and counts one more.
func (q *Queue) repeated(j *job) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.vainSeq != j.seq || q.vain == 0 {
		return 0
	}
	q.retried.add(j.amount)
	return q.vain
}

// readAnswer reads the beginning of an answer as text on one line. A body that is cut off or
// too slow is as good as what has come of it; the status line has said what matters.
func readAnswer(body io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(body, maxAnswer)) // See above.
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(string(b), "\ufffd"), func(r rune) bool {
		return r < ' ' || r == 0x7f
	}), " ")
}

// settle does what the verdict on a block asks for and returns how long to wait before the
// next request.
func (q *Queue) settle(j *job, r result) (wait time.Duration) {
	now := time.Now()
	q.mu.Lock()
	switch r.verdict {
	case accepted:
		q.sent.add(j.amount)
		q.lastSuccess, q.refusing = now, false
		q.remove(j)
	case rejected:
		q.refusing = true
		q.drop(dropRejected, j.amount, j.time, j.time, r.text)
		q.remove(j)
	case tooLarge: // Here a later version may put parts of the block in its place.
		q.refusing = true
		q.drop(dropTooLarge, j.amount, j.time, j.time, r.text)
		q.remove(j)
	case retryLater, paused, misconfigured:
		q.attempts++
		if q.vainSeq != j.seq {
			q.vainSeq, q.vain = j.seq, 0
		}
		q.vain++
		wait = pause(r.verdict, q.attempts, r.asked, q.jitter)
		q.nextAttempt = now.Add(wait)
	}
	q.inflight = nil
	if wait == 0 {
		q.attempts, q.nextAttempt = 0, time.Time{}
	}
	if r.text != "" {
		q.lastError, q.lastErrorAt = r.text, now
	}
	before, since, state := q.state, q.since, r.verdict.state()
	if state != before {
		q.state = state
		if before == StateOK {
			q.since = now
		}
		wake(q.wakeDisk)
	}
	q.mu.Unlock()
	q.logChange(before, state, r.text, now.Sub(since))
	return wait
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

// remove takes the block in flight, which is done with, out of memory or off the disk.
func (q *Queue) remove(j *job) {
	q.inflight = nil
	if j.seg != nil {
		q.index.settled(j.seg, j.rec)
		q.index.trim(q.active)
		wake(q.wakeDisk)
	} else {
		e := q.popMemory()
		e.settled = true // If it is being written, the record is done with.
	}
	q.acknowledge(j.seq, j.seq)
}

// unsettled gives up a request that was cut off by the stop: the block stays where it is.
func (q *Queue) unsettled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inflight = nil
}

// rest waits between two requests and makes calls of Ack meanwhile. It returns false when ctx
// ends, since a failing endpoint gets no request at the end.
func (q *Queue) rest(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		case <-q.wakeSend:
			q.callAcks()
		}
	}
}

// withoutRedirects returns a copy of the client that takes a redirect for the answer: our
// data and credentials go to the configured place and nowhere else.
func withoutRedirects(c *http.Client) *http.Client {
	if c == nil {
		c = &http.Client{}
	}
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// redact returns a URL without what may be secret in it: user and query.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a valid URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
