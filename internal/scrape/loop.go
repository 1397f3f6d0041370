package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// alignment is how late a scrape may be and still get the timestamp it was due at, which
// makes timestamps regular and hence cheap to store. As in Prometheus, it is at most 1 % of
// the interval.
const alignment = 2 * time.Millisecond

// loop scrapes one target until the target goes away or the program stops.
type loop struct {
	pool    *pool
	target  *target
	log     *slog.Logger
	reports [8]model.Labels // Finished labels of the report series, "" for none.

	gone    chan struct{} // Closed by the pool when the target is not wanted any more.
	stopped chan struct{} // Closed by run when it touches table no longer, except to retire.
	former  *loop         // The loop whose table this one continues, nil for a new target.

	// Owned by run, by the heir once stopped is closed and adopted is set.
	table *Table
	req   *http.Request

	mu      sync.Mutex     // guards what follows
	adopted bool           // Another loop continues the table.
	retired bool           // Stale markers are out, or never will be.
	forced  error          // Why the target is not to be scraped, such as target_limit.
	legacy  []model.Labels // Series of a target that is gone, which may have ended.
	state   state
}

// state is what the status shows of the last scrape.
type state struct {
	health   Health
	last     time.Time
	duration time.Duration
	samples  int
	series   int
	bytes    int
	err      error
	pushErr  error
}

func newLoop(p *pool, t *target, former *loop) *loop {
	l := &loop{
		pool:    p,
		target:  t,
		log:     p.log.With("target", config.RedactURL(t.url)),
		gone:    make(chan struct{}),
		stopped: make(chan struct{}),
		former:  former,
		table:   NewTable(),
		state:   state{health: HealthUnknown},
	}
	return l
}

// run scrapes at the target's phase in each interval until ctx ends or the target is gone.
// In the latter case it marks the series stale, unless another loop continues them.
func (l *loop) run(ctx context.Context) {
	if !l.takeOver(ctx) {
		close(l.stopped)
		return
	}
	ticker := time.NewTicker(l.target.interval)
	defer ticker.Stop()
	l.scrapeUntilGone(ctx, ticker)
	scraped := l.table.Time() != 0
	close(l.stopped) // From here on the table may be another loop's.
	if scraped && ctx.Err() == nil {
		l.retire(ctx, ticker)
	}
	l.mu.Lock()
	l.retired = true
	l.mu.Unlock()
}

// takeOver waits until the loop that had this target before is done with its last scrape
// and continues its table. It returns false when ctx ends first.
func (l *loop) takeOver(ctx context.Context) bool {
	if l.former == nil {
		return true
	}
	select {
	case <-l.former.stopped:
		l.table, l.former = l.former.table, nil
		l.table.Resume()
		return true
	case <-ctx.Done():
		return false
	}
}

// adopt claims the table of a loop whose target is gone. It returns false when it is too
// late because the series are marked stale already.
func (l *loop) adopt() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired || l.adopted {
		return false
	}
	l.adopted = true
	return true
}

func (l *loop) scrapeUntilGone(ctx context.Context, ticker *time.Ticker) {
	first := time.NewTimer(l.target.wait(time.Now()))
	defer first.Stop()
	select {
	case <-first.C:
	case <-l.gone:
		return
	case <-ctx.Done():
		return
	}
	ticker.Reset(l.target.interval)
	aligned := time.Now().Round(0)
	for {
		now := time.Now().Round(0) // Round takes away the monotonic clock: what counts is the wall.
		aligned = nextAligned(aligned, now, l.target.interval)
		l.scrape(ctx, timestamp(aligned, now, l.target.interval))
		select {
		case <-ctx.Done():
			return
		case <-l.gone:
			return
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-l.gone:
			return
		case <-ticker.C:
		}
	}
}

// nextAligned returns the last regular time that is not after now. A clock that was set
// back by more than an interval starts the count anew.
func nextAligned(aligned, now time.Time, interval time.Duration) time.Time {
	late := now.Sub(aligned)
	if late <= -interval {
		return now
	}
	return aligned.Add(max(0, late/interval) * interval)
}

// timestamp returns the time that a scrape at now gets: the regular one unless it is late.
func timestamp(aligned, now time.Time, interval time.Duration) time.Time {
	if now.Sub(aligned) <= min(interval/100, alignment) {
		return aligned
	}
	return now
}

// retire waits until the target would have been scraped twice more and a bit, then marks
// its series stale at the time of the first scrape that did not happen, as Prometheus does.
func (l *loop) retire(ctx context.Context, ticker *time.Ticker) {
	select {
	case <-ctx.Done():
		return
	case <-ticker.C:
	}
	missed := time.Now()
	select {
	case <-ctx.Done():
		return
	case <-ticker.C:
	}
	grace := time.NewTimer(l.target.interval / 10)
	defer grace.Stop()
	select {
	case <-ctx.Done():
		return
	case <-grace.C:
	}
	l.mu.Lock()
	if l.adopted {
		l.mu.Unlock()
		return
	}
	l.retired = true
	l.mu.Unlock()
	l.endSeries(ctx, missed)
}

// endSeries marks all series of the target stale. Where another target has the same labels
// on its samples, it decides which of them have ended: it may expose some of them.
func (l *loop) endSeries(ctx context.Context, missed time.Time) {
	var err error
	defer l.recovered(&err)
	if other := l.pool.sameLabels(l.target); other != nil {
		var all []model.Labels
		l.table.Begin(l.table.Time() + 1)
		l.table.Stale(true, func(ls model.Labels) { all = append(all, ls) })
		other.inherit(all)
		return
	}
	s := l.pool.shared.borrow(ctx)
	if s == nil {
		return
	}
	defer l.pool.shared.putBack(s)
	now := max(missed.UnixMilli(), l.table.Time()+1)
	l.table.Begin(now)
	stale := l.appendStale(s, true, now)
	stale += l.appendReportsStale(s, now)
	out := l.pool.shared.sink.Appender(l.target.key)
	out.Append(&s.batch)
	if err = out.Commit(); err != nil {
		l.pool.metrics.refused.Inc()
		l.log.Warn("marking the series of a target stale failed", "err", err)
		return
	}
	l.pool.metrics.stale.Add(float64(stale))
}

// scrape fetches, parses and pushes once. at is the timestamp of the scrape.
func (l *loop) scrape(ctx context.Context, at time.Time) {
	start := time.Now()
	now := l.timestamp(at)
	m := l.pool.metrics
	m.scrapes.Inc()

	body := l.pool.shared.bodies.lend()
	defer l.pool.shared.bodies.giveBack(body)
	err := l.fetch(ctx, body)
	if ctx.Err() != nil {
		return // The program stops; what was cut off says nothing about the target.
	}
	s := l.pool.shared.borrow(ctx)
	if s == nil {
		return
	}
	defer l.pool.shared.putBack(s)
	st := l.settleGuarded(s, body, err, now, start)
	m.duration.Observe(time.Since(start).Seconds())
	st.last = at
	l.show(st)
}

// timestamp returns the time of a scrape that is due at at. Timestamps of a target increase
// strictly even when the clock was set back, but not after a step of more than [maxAhead]: then
// the clock was wrong before, receivers have refused those samples as too far in the future,
// and would go on to do so until the clock is there again.
func (l *loop) timestamp(at time.Time) int64 {
	now, last := at.UnixMilli(), l.table.Time()
	if last-now > maxAhead.Milliseconds() {
		l.log.Warn("clock was set back, timestamps follow it", "duration", time.Duration(last-now)*time.Millisecond)
		l.table = NewTable() // Its times are those of the wrong clock.
		return now
	}
	return max(now, last+1)
}

// fetch reads the target's response into body. A panic of whatever takes part in that, such
// as a transport, is a failed scrape.
func (l *loop) fetch(ctx context.Context, body *body) (err error) {
	l.mu.Lock()
	forced := l.forced
	l.mu.Unlock()
	if forced != nil {
		return forced
	}
	defer l.recovered(&err)
	if l.req == nil {
		if l.req, err = l.pool.shared.fetcher.request(l.target, l.pool.cfg); err != nil {
			return err
		}
	}
	timed, cancel := context.WithTimeout(ctx, l.target.timeout)
	defer cancel()
	err = l.pool.shared.fetcher.fetch(timed, l.pool.client, l.req, l.pool.cfg, body)
	if err != nil && errors.Is(timed.Err(), context.DeadlineExceeded) {
		if _, known := errors.AsType[*failure](err); !known {
			err = timeoutError(l.target.timeout, len(body.b))
		}
	}
	return err
}

// settle turns a response, or the error in its place, into one batch and pushes it.
func (l *loop) settle(s *scratch, body *body, err error, now int64, start time.Time) state {
	l.table.Begin(now)
	size := len(body.b)
	var y yield
	switch {
	case err == nil && size > 0:
		y, err = l.parse(s, body.b, now)
	case err != nil && reasonOf(err) == reasonBodyLimit:
		size = -1
	case err != nil:
		size = 0
	}
	// As in Prometheus, an empty response ends all series but is no failure.
	ended := err != nil || size == 0
	if ended {
		s.empty()
	}
	added := l.table.Added()
	stale := l.appendStale(s, ended, now)
	reports := l.appendReport(s, report{up: err == nil, duration: time.Since(start), yield: y, added: added, bytes: size}, now)
	out := l.pool.shared.sink.Appender(l.target.key)
	out.Append(&s.batch)
	pushErr := out.Commit()
	switch {
	case pushErr != nil:
		l.table.Abort()
	case ended:
		l.table.Fail()
	default:
		l.table.Commit()
	}
	l.count(y, err, pushErr, stale, reports)

	st := state{health: HealthUp, duration: time.Since(start), samples: y.scraped, series: l.table.Len(), bytes: max(size, 0), err: err, pushErr: pushErr}
	if err != nil {
		st.health = HealthDown
	}
	return st
}

// settleGuarded is settle with a panic turned into a failed scrape, for which settle runs a
// second time. The table may be in any state after a panic, so the target starts with a new
// one; its series end without a marker then.
func (l *loop) settleGuarded(s *scratch, body *body, err error, now int64, start time.Time) (st state) {
	guarded := func(cause error) (err error) {
		defer l.recovered(&err)
		st = l.settle(s, body, cause, now, start)
		return nil
	}
	for range 2 {
		if err = guarded(err); err == nil {
			return st
		}
		l.table = NewTable()
		s.empty()
	}
	return state{health: HealthDown, duration: time.Since(start), err: err}
}

// recovered turns a panic into err. It is deferred.
func (l *loop) recovered(err *error) {
	if p := recover(); p != nil {
		l.log.Error("scrape panicked, the target counts as down", "stack", string(debug.Stack()), "err", p)
		*err = &failure{reasonPanic, fmt.Errorf("scraping panicked, which is a bug of Ingot: %v", p)}
	}
}

// count keeps the promise that every exposed sample is pushed or dropped for a reason.
func (l *loop) count(y yield, err, pushErr error, stale, reports int) {
	m := l.pool.metrics
	m.scraped.Add(float64(y.scraped))
	if err != nil {
		m.failures.WithLabelValues(reasonOf(err)).Inc()
		m.count(dropScrapeFailed, y.scraped)
	} else {
		m.count(dropRelabelled, y.scraped-y.kept)
		m.count(dropDuplicate, y.duplicate)
		m.count(dropUnchanged, y.unchanged)
		m.count(dropOutOfOrder, y.outOfOrder)
		m.count(dropFuture, y.future)
	}
	switch {
	case pushErr != nil:
		m.refused.Inc()
		if err == nil {
			m.count(dropRefused, y.taken)
		}
		return
	case err == nil:
		m.pushed.Add(float64(y.taken))
	}
	m.stale.Add(float64(stale))
	m.reports.Add(float64(reports))
}

// show makes a scrape's outcome visible and logs what has changed.
func (l *loop) show(st state) {
	l.mu.Lock()
	before := l.state
	l.state = st
	l.mu.Unlock()
	switch {
	case st.err != nil && before.err == nil:
		l.log.Warn("scrape failed", "reason", reasonOf(st.err), "err", st.err)
	case st.err == nil && before.err != nil:
		l.log.Info("scrape recovered")
	}
	switch {
	case st.pushErr != nil && before.pushErr == nil:
		l.log.Warn("handing on samples failed", "err", st.pushErr)
	case st.pushErr == nil && before.pushErr != nil:
		l.log.Info("handing on samples recovered")
	}
}

// inherit gives the loop series of another target with the same labels, which has gone.
func (l *loop) inherit(all []model.Labels) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.legacy = append(l.legacy, all...)
}

// inherited returns the series to end with this scrape unless it has them, none when it
// failed: a later one knows better.
func (l *loop) inherited(failed bool) []model.Labels {
	if failed {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.legacy
	l.legacy = nil
	return all
}

func (l *loop) force(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forced = err
}

// snapshot returns the outcome of the last scrape.
func (l *loop) snapshot() state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}
