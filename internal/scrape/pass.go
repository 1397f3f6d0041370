package scrape

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// pass is one scrape of one target under way: from the request to what the sink has taken.
// What it allocates is used again by other passes, so that a target that is not being
// scraped holds none of it.
type pass struct {
	parser    expfmt.Parser
	response  response
	families  familyReader
	exemplars exemplarReader

	l      *loop
	now    int64 // The time of the scrape, in milliseconds.
	latest int64 // The latest timestamp that an exposition may give.
	start  time.Time
	full   bool // Memory is short: series that are not known are not taken.
	// examples says that the format has exemplars.
	examples bool

	s       *scratch       // Lent while there is something to parse or to append, nil otherwise.
	out     model.Appender // Nil as long as nothing was appended.
	begun   bool           // The table has begun with this scrape.
	inTable bool           // The table is being worked on.
	broken  bool           // There was a panic meanwhile: the table may be in any state.
	parsed  bool           // There was something to parse.
	yield   yield
	offered int // What sample_limit counts: kept samples without repetitions.

	overBuckets error // The first histogram over native_histogram_bucket_limit.
	fixed       bool  // A limit is exceeded: added is how many series there were before.
	added       int
}

// passes lends out passes.
type passes struct{ idle sync.Pool }

func (ps *passes) begin(l *loop, now int64) *pass {
	x, _ := ps.idle.Get().(*pass)
	if x == nil {
		x = &pass{}
		x.families.seed, x.exemplars.seed = l.pool.shared.seed, l.pool.shared.seed
	}
	x.l, x.now, x.start = l, now, time.Now()
	x.latest = x.start.Add(maxAhead).UnixMilli()
	x.families.begin(&l.families)
	x.exemplars.begin(&l.exemplars)
	return x
}

// end gives back everything that was lent. The transaction must be over.
func (ps *passes) end(x *pass) {
	x.response.close()
	x.release()
	x.families.end()
	x.exemplars.end()
	x.parser.Keys = nil
	x.parser.Reset(expfmt.Text004, x.l.pool.shared.seed)
	*x = pass{parser: x.parser, families: x.families, exemplars: x.exemplars}
	ps.idle.Put(x)
}

// run scrapes: it fetches, parses and hands on. It returns false when ctx ended before.
func (x *pass) run(ctx context.Context) (st state, ok bool) {
	err := x.read(ctx)
	x.response.close()
	if ctx.Err() != nil || !x.borrow(ctx) {
		// The program stops; what was cut off says nothing about the target.
		x.rollback()
		if x.begun {
			x.l.table.Abort()
			x.exemplars.restore()
		}
		return state{}, false
	}
	for range 2 {
		var panicked error
		if st, panicked = x.settleGuarded(err); panicked == nil {
			return st, true
		}
		err = panicked
	}
	if x.broken { // The next scrape must not begin with what this one has left.
		x.l.table, x.l.exemplars, x.broken = newTable(x.l), exemplars{}, false
	}
	return state{health: HealthDown, duration: time.Since(x.start), err: err}, true
}

// read fetches the response and parses it window by window. A panic of whatever takes part
// in that, such as a transport, is a failed scrape.
func (x *pass) read(ctx context.Context) (err error) {
	defer x.recovered(&err)
	l := x.l
	if err = l.refusal(); err != nil {
		return err
	}
	if l.ask == nil {
		if l.ask, err = l.pool.shared.fetcher.newRequest(l.target, l.pool.cfg); err != nil {
			return err
		}
		l.pool.shareHeader(l.ask)
	}
	f, err := l.pool.shared.fetcher.open(ctx, l.pool.client, l.ask, &x.response)
	if err != nil {
		return err
	}
	x.parser.Options, x.parser.Keys = l.target.parsing, l.table
	x.parser.Reset(f, l.pool.shared.seed)
	x.examples = f == expfmt.OpenMetrics100 || f == expfmt.Proto
	for done := false; ; {
		window, final, err := x.response.fill()
		if err != nil || ctx.Err() != nil {
			return err
		}
		if done || final && x.response.size() == 0 {
			x.response.consumed(len(window)) // What stands behind the end of the exposition.
		} else if done, err = x.parseWindow(ctx, window, final); err != nil {
			return err
		}
		if final {
			return nil
		}
	}
}

// parseWindow parses what is whole in a window, while it holds one of the places for that.
func (x *pass) parseWindow(ctx context.Context, window []byte, final bool) (done bool, err error) {
	if !x.borrow(ctx) {
		return false, ctx.Err()
	}
	x.begin()
	x.full = x.l.pool.shared.pressure() >= pressureTight
	x.parsed, x.inTable = true, true
	done, err = x.parse(window, final)
	x.inTable = false
	x.response.consumed(len(window) - x.parser.Unread())
	if !final {
		x.release() // Reading on may take until the timeout.
	}
	return done, err
}

// begin begins the scrape in the table.
func (x *pass) begin() {
	if !x.begun {
		x.begun = true
		x.l.table.Begin(x.now)
	}
}

// borrow waits for a scratch. It returns false when ctx ends first.
func (x *pass) borrow(ctx context.Context) bool {
	if x.s == nil {
		x.s = x.l.pool.shared.borrow(ctx)
	}
	return x.s != nil
}

// release hands on what is in the scratch and gives it back.
func (x *pass) release() {
	if x.s != nil {
		x.flush()
		x.l.pool.shared.putBack(x.s)
		x.s = nil
	}
}

// flush hands what is in the batch to the sink.
func (x *pass) flush() {
	b := &x.s.batch
	if len(b.Samples) > 0 {
		if x.out == nil {
			x.out = x.l.pool.shared.sink.Appender(x.l.target.key)
		}
		x.out.Append(b)
	}
	b.Reset()
	x.families.flushed()
}

// rollback takes back everything that was handed to the sink.
func (x *pass) rollback() {
	if x.s != nil {
		x.s.batch.Reset()
		x.families.flushed()
	}
	if x.out != nil {
		x.out.Rollback()
		x.out = nil
	}
}

func (x *pass) commit() error {
	x.flush()
	if x.out == nil {
		return nil
	}
	out := x.out
	x.out = nil
	return out.Commit()
}

// settleGuarded is settle with a panic turned into an error.
func (x *pass) settleGuarded(cause error) (st state, err error) {
	defer x.recovered(&err)
	return x.settle(cause), nil
}

// settle ends a scrape, whose response was parsed or failed with err: it appends stale
// markers and the report series and commits.
func (x *pass) settle(err error) state {
	l := x.l
	if x.broken {
		// Its series end without a marker.
		l.table, l.exemplars, x.begun, x.broken = newTable(l), exemplars{}, false, false
		x.exemplars.begin(&l.exemplars)
	}
	x.begin()
	x.inTable = true
	if err == nil {
		err = cmp.Or(x.overLimit(), x.overBuckets)
	}
	size, reported := x.response.size(), x.yield
	switch {
	case err != nil && reasonOf(err) == reasonBodyLimit:
		size, reported = -1, yield{}
	case err != nil && !isVerdict(err):
		size, reported = 0, yield{} // As in Prometheus, which parses whole responses only.
	}
	// As in Prometheus, an empty response ends all series but is no failure.
	ended := err != nil || !x.parsed
	added := l.table.Added()
	if x.fixed {
		added = x.added
	}
	if ended {
		x.rollback()
		x.exemplars.restore()
		if reported.scraped == 0 {
			added = 0
		}
	}
	stale := x.appendStale(ended)
	reports := x.appendReport(report{up: err == nil, duration: time.Since(x.start), yield: reported, added: added, bytes: size})
	pushErr := x.commit()
	switch {
	case pushErr != nil:
		l.table.Abort()
		x.exemplars.restore()
	case ended:
		l.table.Fail()
	default:
		l.table.Commit()
		x.exemplars.settle()
		x.families.settle()
	}
	x.count(err, pushErr, stale, reports)

	st := state{
		health: HealthUp, duration: time.Since(x.start), samples: reported.scraped, series: l.table.Len(), memory: l.table.Bytes(),
		bytes: max(size, 0), err: err, pushErr: pushErr,
	}
	if err != nil {
		st.health = HealthDown
	}
	return st
}

// overLimit returns the error of a target with too many samples.
func (x *pass) overLimit() error {
	if limit := int(x.l.pool.cfg.SampleLimit); limit > 0 && x.offered > limit {
		return fail(reasonSampleLimit, "sample_limit exceeded: the target has %d samples after relabelling, limit is %d", x.offered, limit)
	}
	return nil
}

// isVerdict reports whether a scrape failed because of what the target exposes, all of which
// was read as far as it went, and not because of how it was fetched.
func isVerdict(err error) bool {
	switch reasonOf(err) {
	case reasonParse, reasonLabels, reasonLabelLimit, reasonSampleLimit, reasonBucketLimit:
		return true
	}
	return false
}

// recovered turns a panic into err. It is deferred.
func (x *pass) recovered(err *error) {
	if p := recover(); p != nil {
		x.l.log().Error("scrape panicked, the target counts as down", "stack", string(debug.Stack()), "err", p)
		*err = &failure{reasonPanic, fmt.Errorf("scraping panicked, which is a bug of Ingot: %v", p)}
		x.broken = x.inTable
		x.rollback()
	}
}

// count keeps the promise that every exposed sample is pushed or dropped for a reason.
func (x *pass) count(err, pushErr error, stale, reports int) {
	m, y, e := x.l.pool.metrics, x.yield, &x.exemplars
	m.scraped.Add(float64(y.scraped))
	if err != nil {
		m.failures.WithLabelValues(reasonOf(err)).Inc()
		m.count(dropScrapeFailed, y.scraped)
	} else {
		m.count(dropRelabelled, y.scraped-y.kept-y.memory)
		m.count(dropDuplicate, y.duplicate)
		m.count(dropUnchanged, y.unchanged)
		m.count(dropOutOfOrder, y.outOfOrder)
		m.count(dropFuture, y.future)
		m.count(dropMemory, y.memory)
		m.countExemplars(dropDuplicate, e.repeated)
		m.countExemplars(dropOutOfOrder, e.outOfOrder)
		m.countExemplars(dropInvalid, e.invalid)
		m.countExemplars(dropTooMany, e.tooMany)
	}
	switch {
	case pushErr != nil:
		m.refused.Inc()
		if err == nil {
			m.count(dropRefused, y.taken)
			m.countExemplars(dropRefused, e.taken)
		}
		return
	case err == nil:
		m.pushed.Add(float64(y.taken))
		m.exemplars.Add(float64(e.taken))
	}
	m.stale.Add(float64(stale))
	m.reports.Add(float64(reports))
}
