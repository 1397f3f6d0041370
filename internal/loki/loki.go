// Package loki turns batches of log lines into Loki push requests (protobuf and snappy) for
// one destination.
//
// [Writer.Push] runs on the goroutine of the source and encodes straight into the open body of
// the tenant: labels once a stream, then the lines. A full body is compressed and handed to the
// tenant's queue, which may block. [Writer.Run] ends bodies that have waited long enough. When
// the bodies that a batch is in are settled, and those of all batches before it, its
// acknowledgement runs (acks.go).
//
// [Tenants] are the queues of a destination, each with its spool, so that a tenant that Loki
// throttles does not delay the others. [Codec] tells a queue what Loki's answers mean.
//
// The writer sends nothing itself, keeps nothing across restarts, does not reorder, and drops
// only lines of tenants that there can be no queue for. It does not look into lines: the source
// has made them valid UTF-8 of a length that Loki takes.
package loki

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// lastPut bounds the wait for room in the queue at a stop. Lines that find none are read
// again at the next start.
const lastPut = time.Second

// Queue takes finished request bodies. In the program this is *delivery.Queue, whose Put blocks
// while the memory is full and the disk takes nothing.
type Queue interface {
	Put(ctx context.Context, b delivery.Block) error
}

// Queues returns the queue of a tenant, "" for the destination's own. In the program this is
// [Tenants]. With an error there can be none.
type Queues interface {
	Queue(tenant string) (Queue, *UnservedError)
}

// tenantLabel is the label that names the tenant of a stream, as stages set it. As all labels that
// start with __ it is not sent.
const tenantLabel = "__tenant_id__"

const (
	// openBodies is how many open bodies of full size there may be; with more tenants each is
	// smaller, down to minOpenSize.
	openBodies  = 4
	minOpenSize = 64 << 10
	// idleOpen is after how long without lines the memory of a tenant's open body is given up.
	idleOpen = time.Minute
	// reportPause is the least time between two log lines about lines that were dropped.
	reportPause = time.Minute
)

// Header returns the headers that the protocol asks of every request. userAgent is the
// program's name and version, ingot/1.2.3.
func Header(userAgent string) http.Header {
	return http.Header{
		"Content-Type": {"application/x-protobuf"},
		"User-Agent":   {userAgent},
	}
}

// Writer writes to one destination.
type Writer struct {
	cfg      Config
	log      *slog.Logger
	m        metrics
	queues   Queues
	external model.Labels

	// turn holds one token, and who has taken it owns the fields below. It is a channel
	// because waiting for it must end with a context.
	turn    chan struct{}
	own     *open   // of the destination's own tenant
	open    []*open // all of them, own first
	touched []*open // by the batch at hand
	last    *open   // of the stream that came last, if it is not nil
	labels  model.Labels
	refused []refused // of the batch at hand
	told    time.Time // when lines that were dropped were last reported
	untold  int       // lines that were dropped since
	zip     compressor

	acks acks
	// spooled is called after acknowledgements that came from the spool, if it is not nil.
	spooled func()
	// wake tells Run that a body was opened.
	wake chan struct{}
}

// open is the open body of a tenant.
type open struct {
	tenant string
	queue  Queue
	body   body
	acks   []*ack // of the batches that have their last lines for this tenant in it
	// opened is when the first line came into the body, used when the last did.
	opened, used time.Time
	// before is where the body ended before the batch at hand, if that has touched it.
	before  mark
	touched bool
}

// refused is lines that there is no queue for.
type refused struct {
	err          *UnservedError
	lines, bytes int
}

// New returns a writer for the named endpoint. The external labels are added to every stream
// that does not have them; as for all labels, names that start with __ are not sent. m is
// shared by all writers of a process.
func New(cfg Config, log *slog.Logger, m *Metrics, endpoint string, external model.Labels, queues Queues) (*Writer, error) {
	own, err := queues.Queue("")
	if err != nil {
		return nil, err
	}
	w := &Writer{
		cfg: cfg, log: log.With("endpoint", endpoint), m: m.of(endpoint), queues: queues, external: external,
		turn: make(chan struct{}, 1),
		wake: make(chan struct{}, 1),
		own:  &open{queue: own, body: body{external: external}},
	}
	w.open = []*open{w.own}
	w.turn <- struct{}{}
	return w, nil
}

// OnSpooled sets what is called after batches were acknowledged because they are in the spool, from
// any goroutine. It is called before the first Push, if at all.
func (w *Writer) OnSpooled(f func()) { w.spooled = f }

// Push takes a batch, splitting it by tenant and where a body is full, and keeps nothing of it
// but the acknowledgement, which runs when the last line has been settled and all earlier batches
// are acknowledged. It blocks while the queue is full; concurrent calls are safe. The error is
// that of ctx or of a stopped queue; the batch has then not been taken and will not be
// acknowledged. Of a batch that alone fills several bodies, those that the queue took before are
// sent nevertheless. Lines of a tenant that there can be no queue for are dropped and counted.
func (w *Writer) Push(ctx context.Context, b *model.LogBatch) error {
	select {
	case <-w.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer: %w", ctx.Err())
	}
	defer func() { w.turn <- struct{}{} }()
	lines, err := w.take(ctx, b)
	for _, o := range w.touched {
		if err != nil {
			o.body.rewind(o.before)
		}
		o.touched = false
	}
	w.countOpen()
	if err != nil {
		return err
	}
	w.m.lines.Add(float64(lines))
	w.countRefused()
	if b.Ack != nil {
		a := w.acks.add(b.Ack, len(w.touched))
		for _, o := range w.touched {
			o.acks = append(o.acks, a)
		}
		if len(w.touched) == 0 {
			w.acks.done(nil)
		}
	}
	return nil
}

// take encodes a batch and returns how many lines there are in bodies now.
func (w *Writer) take(ctx context.Context, b *model.LogBatch) (lines int, err error) {
	w.touched, w.refused = w.touched[:0], w.refused[:0]
	for i := range b.Streams {
		s := &b.Streams[i]
		if len(s.Entries) == 0 {
			continue
		}
		o, err := w.of(s.Labels)
		if err != nil {
			r := refused{err: err, lines: len(s.Entries)}
			for j := range s.Entries {
				r.bytes += len(s.Entries[j].Line)
			}
			w.refused = append(w.refused, r)
			continue
		}
		if !o.touched {
			o.touched, o.before = true, o.body.mark()
			w.touched = append(w.touched, o)
		}
		if err := w.append(ctx, o, s); err != nil {
			return 0, err
		}
		lines += len(s.Entries)
	}
	return lines, nil
}

// append encodes the lines of a stream.
func (w *Writer) append(ctx context.Context, o *open, s *model.Stream) error {
	limit := w.openSize()
	o.body.stream(s)
	o.used = time.Now()
	for j := range s.Entries {
		e := &s.Entries[j]
		if o.body.items > 0 && o.body.size()+o.body.entrySize(e) > limit {
			if err := w.flush(ctx, o); err != nil {
				return err
			}
			o.before = o.body.mark()
		}
		if o.body.items == 0 {
			o.opened = time.Now()
			w.poke()
		}
		o.body.append(e)
	}
	return nil
}

// openSize returns how large a body gets before it is ended.
func (w *Writer) openSize() int {
	size := int(w.cfg.BatchSize)
	if n := len(w.open); n > openBodies {
		size = min(size, max(openBodies*size/n, minOpenSize))
	}
	return size
}

// of returns the open body for a stream.
func (w *Writer) of(l model.Labels) (*open, *UnservedError) {
	if w.last != nil && l == w.labels {
		return w.last, nil
	}
	tenant := l.Get(tenantLabel)
	i := slices.IndexFunc(w.open, func(o *open) bool { return o.tenant == tenant })
	if i < 0 {
		q, err := w.queues.Queue(tenant)
		if err != nil {
			return nil, err
		}
		i = len(w.open)
		w.open = append(w.open, &open{tenant: tenant, queue: q, body: body{external: w.external}})
	}
	w.last, w.labels = w.open[i], l
	return w.last, nil
}

// countRefused accounts for what was dropped of a batch that has been taken.
func (w *Writer) countRefused() {
	for _, r := range w.refused {
		w.m.drop(r.err.Reason, r.lines, r.bytes)
		w.untold += r.lines
		if time.Since(w.told) >= reportPause {
			w.log.Warn("lines dropped, their tenant has no queue", "reason", r.err.Reason, "tenant", r.err.Tenant, "count", w.untold, "err", r.err)
			w.told, w.untold = time.Now(), 0
		}
	}
}

func (w *Writer) countOpen() {
	n := 0
	for _, o := range w.open {
		n += o.body.items
	}
	w.m.openLines.Set(float64(n))
}

// Run ends bodies at their deadline until ctx ends, then the open ones, and returns nil. No
// Push may come after that.
func (w *Writer) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ctx.Done():
			w.stop(ctx)
			return nil
		}
		if next, ok := w.tick(ctx); ok {
			timer.Reset(next)
		}
	}
}

// tick ends the open bodies that are due, and returns how long the next look can wait. ok is
// false while there is no open body, of whose opening wake tells.
func (w *Writer) tick(ctx context.Context) (next time.Duration, ok bool) {
	select {
	case <-w.turn:
	case <-ctx.Done():
		return 0, false
	}
	defer func() { w.turn <- struct{}{} }()
	for _, o := range w.open {
		if o.body.items == 0 {
			continue
		}
		left := time.Duration(w.cfg.BatchWait) - time.Since(o.opened)
		if left <= 0 {
			if w.flush(ctx, o) == nil {
				continue
			}
			// The body is still open: ctx has ended, and stop is next, or the queue has ended
			// before its turn, which the program reports.
			left = time.Second
		}
		if !ok || left < next {
			next, ok = left, true
		}
	}
	w.open = slices.DeleteFunc(w.open, func(o *open) bool {
		return o != w.own && o.body.items == 0 && time.Since(o.used) >= idleOpen
	})
	if !slices.Contains(w.open, w.last) {
		w.last = nil
	}
	return next, ok
}

// stop hands on what is open. Sources have stopped before.
func (w *Writer) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPut)
	defer cancel()
	select {
	case <-w.turn:
	case <-ctx.Done():
		return
	}
	defer func() { w.turn <- struct{}{} }()
	for _, o := range w.open {
		if o.body.items == 0 {
			continue
		}
		if err := w.flush(ctx, o); err != nil {
			w.log.Info("stopped with lines that no queue took, they are read again at the next start", "count", o.body.items, "err", err)
		}
	}
}

// flush hands an open body to its queue. After an error the body is still open.
func (w *Writer) flush(ctx context.Context, o *open) error {
	raw := o.body.finish()
	b := delivery.Block{
		Body:  w.zip.body(raw),
		Items: o.body.items,
		Time:  time.Now(),
		Kept:  w.spooled,
	}
	if acks := o.acks; len(acks) > 0 {
		b.Ack = func() { w.acks.done(acks) }
	}
	size := b.Body.Len()
	err := o.queue.Put(ctx, b)
	if errors.Is(err, delivery.ErrClosed) { // Perhaps that of a tenant without lines for long.
		if q, none := w.queues.Queue(o.tenant); none == nil && q != o.queue {
			o.queue = q
			err = q.Put(ctx, b)
		}
	}
	if err != nil {
		b.Body.Release()
		return fmt.Errorf("hand on %d lines: %w", b.Items, err)
	}
	o.acks = make([]*ack, 0, len(o.acks)) // The next body has about as many.
	w.m.bodies.Inc()
	w.m.rawBytes.Add(float64(len(raw)))
	w.m.compressedBytes.Add(float64(size))
	o.body.reset()
	w.countOpen()
	return nil
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
