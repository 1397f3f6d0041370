package scrape

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/series"
)

// alignment is how late a scrape may be and still get the timestamp it was due at, which
// makes timestamps regular and hence cheap to store. As in Prometheus, it is at most 1 % of
// the interval.
const alignment = 2 * time.Millisecond

// maxLegacy bounds, in bytes, the label sets that a loop holds of targets that are gone.
const maxLegacy = 8 << 20

// The levels of Options.Pressure at which something is shed.
const (
	pressureTight    = 2 // No new series.
	pressureCritical = 3 // No scrapes.
)

// loop is what there is of one target between its scrapes. The scheduler runs it.
type loop struct {
	pool   *pool
	target *target
	// reports is the labels of the report series of a job that relabels them, nil otherwise.
	reports *[reportCount]model.Labels

	turn turn // The scheduler's.

	// What follows belongs to the worker that has the loop, to the scheduler otherwise.
	table     *series.Table
	ask       *request // Nil before the first scrape.
	families  families
	exemplars exemplars
	tried     []model.Labels // What was legacy when the present scrape has ended it.

	mu         sync.Mutex     // guards what follows
	forced     error          // Why the target is not to be scraped, such as target_limit.
	legacy     []model.Labels // Series of a target that is gone, which may have ended.
	legacySize int            // In bytes.
	state      state
}

// state is what the status shows of the last scrape.
type state struct {
	health   Health
	last     time.Time
	duration time.Duration
	samples  int
	series   int
	memory   int // Bytes of the table.
	bytes    int
	err      error
	pushErr  error
}

// newLoop returns the loop of a target, which the scheduler does not know yet.
func newLoop(p *pool, t *target, m *labelMaker) *loop {
	l := &loop{pool: p, target: t, state: state{health: HealthUnknown}}
	l.table = newTable(l)
	if p.relabelReports {
		l.reports = m.relabelledReports(p, t)
	}
	return l
}

func newTable(l *loop) *series.Table {
	return l.pool.shared.series.NewTable(l.target.common)
}

// log returns the logger of the loop. It is made when there is something to say.
func (l *loop) log() *slog.Logger {
	return l.pool.log.With("target", config.RedactURL(l.target.url))
}

// continues takes over what another loop knew of its target.
func (l *loop) continues(former *loop) {
	l.table, l.families, l.exemplars = former.table, former.families, former.exemplars
	l.table.Resume()
	former.mu.Lock()
	defer former.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.legacy, l.legacySize = former.legacy, former.legacySize
	former.legacy, former.legacySize = nil, 0
}

// alignedTime returns the timestamp of a scrape that starts now.
func (l *loop) alignedTime(now time.Time) time.Time {
	now = now.Round(0) // Takes away the monotonic clock: what counts is the wall.
	l.turn.aligned = nextAligned(l.turn.aligned, now, l.target.interval)
	return timestamp(l.turn.aligned, now, l.target.interval)
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

// scrape fetches, parses and hands on once. at is the timestamp of the scrape.
func (l *loop) scrape(ctx context.Context, at time.Time) {
	m := l.pool.metrics
	m.scrapes.Inc()
	x := l.pool.shared.passes.begin(l, l.timestamp(at))
	defer l.pool.shared.passes.end(x)
	st, ok := x.run(ctx)
	if tried := l.tried; len(tried) > 0 {
		if l.tried = nil; !ok || st.err != nil || st.pushErr != nil {
			l.inherit(tried)
		}
	}
	if !ok {
		return
	}
	l.pool.shared.reportMismatches(l)
	m.duration.Observe(time.Since(x.start).Seconds())
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
		l.log().Warn("clock was set back, timestamps follow it", "duration", time.Duration(last-now)*time.Millisecond)
		l.table = newTable(l) // Its times are those of the wrong clock.
		return now
	}
	return max(now, last+1)
}

// refusal returns why the target is not to be scraped now, nil when it is.
func (l *loop) refusal() error {
	if l.pool.shared.pressure() >= pressureCritical {
		return fail(reasonMemory, "memory is nearly used up, so that no target is scraped")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forced
}

// endSeries marks all series of the target stale. Where another target has the same labels
// on its samples, it decides which of them have ended: it may expose some of them.
func (l *loop) endSeries(ctx context.Context, missed time.Time) {
	sh := l.pool.shared
	x := sh.passes.begin(l, max(missed.UnixMilli(), l.table.Time()+1))
	defer sh.passes.end(x)
	var err error
	defer x.recovered(&err)
	x.begin()
	if other := sh.sameLabels(l.target); other != nil {
		all := l.inherited()
		l.table.Stale(true, func(labels []byte) { all = append(all, model.Labels(labels)) })
		other.inherit(all)
		return
	}
	if !x.borrow(ctx) {
		return
	}
	stale := x.appendEnd(l.inherited()) + x.appendReportsStale()
	if err := x.commit(); err != nil {
		l.pool.metrics.refused.Inc()
		l.log().Warn("marking the series of a target stale failed", "err", err)
		return
	}
	l.pool.metrics.stale.Add(float64(stale))
}

// appendEnd appends a stale marker for each series of the target, and for those that another
// one has left to it and that it never had a chance to expose. It returns how many there are.
func (x *pass) appendEnd(legacy []model.Labels) (n int) {
	marker := math.Float64frombits(value.StaleNaN)
	var left map[model.Labels]bool
	for _, ls := range legacy {
		if left == nil {
			left = make(map[model.Labels]bool, len(legacy))
		}
		left[ls] = true
	}
	x.l.table.Stale(true, func(labels []byte) {
		if left != nil {
			delete(left, model.Labels(labels))
		}
		x.add(labels, marker)
		n++
	})
	for ls := range left {
		x.add([]byte(ls), marker)
		n++
	}
	return n
}

// show makes a scrape's outcome visible and logs what has changed.
func (l *loop) show(st state) {
	l.mu.Lock()
	before := l.state
	l.state = st
	l.mu.Unlock()
	switch {
	case st.err != nil && before.err == nil:
		l.log().Warn("scrape failed", "reason", reasonOf(st.err), "err", st.err)
	case st.err == nil && before.err != nil:
		l.log().Info("scrape recovered")
	}
	switch {
	case st.pushErr != nil && before.pushErr == nil:
		l.log().Warn("handing on samples failed", "err", st.pushErr)
	case st.pushErr == nil && before.pushErr != nil:
		l.log().Info("handing on samples recovered")
	}
}

// inherit gives the loop series of another target with the same labels, which has gone. What
// is too much to hold ends without a marker.
func (l *loop) inherit(all []model.Labels) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, ls := range all {
		if l.legacySize += len(ls); l.legacySize > maxLegacy {
			l.legacySize -= len(ls)
			l.pool.metrics.staleDropped.Add(float64(len(all) - i))
			return
		}
		l.legacy = append(l.legacy, ls)
	}
}

// inherited returns the series to end with a scrape unless it has them. They are inherited
// again when it fails.
func (l *loop) inherited() []model.Labels {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried, l.legacy, l.legacySize = l.legacy, nil, 0
	return l.tried
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
