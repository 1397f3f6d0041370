// Package loki turns batches of log lines into Loki push requests (protobuf and snappy) for
// one destination.
//
// [Writer.Push] runs on the goroutine of the source and encodes straight into the one open
// body: labels once a stream, then the lines. A full body is compressed and handed to the
// destination's queue, which may block. [Writer.Run] ends bodies that have waited long enough.
// When a body has been accepted, the acknowledgements of the batches that end in it run.
//
// The package sends nothing itself, keeps nothing across restarts, drops nothing and does not
// reorder. It does not look into lines: the source has made them valid UTF-8 of a length that
// Loki takes.
package loki

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// lastPut bounds the wait for room in the queue at a stop. Lines that find none are read
// again at the next start.
const lastPut = time.Second

// Queue takes finished request bodies. In the program this is *delivery.Queue, without a
// directory, so that Put blocks while the memory is full.
type Queue interface {
	Put(ctx context.Context, b delivery.Block) error
}

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
	cfg   Config
	log   *slog.Logger
	m     metrics
	queue Queue

	// turn holds one token, and who has taken it owns the fields below. It is a channel
	// because waiting for it must end with a context.
	turn chan struct{}
	body body
	acks []func() // of the batches that end in the open body
	zip  compressor
	// opened is when the first line came into the open body.
	opened time.Time

	// wake tells Run that a body was opened.
	wake chan struct{}
}

// New returns a writer for the named endpoint. The external labels are added to every stream
// that does not have them; as for all labels, names that start with __ are not sent. m is
// shared by all writers of a process.
func New(cfg Config, log *slog.Logger, m *Metrics, endpoint string, external model.Labels, queue Queue) *Writer {
	w := &Writer{
		cfg: cfg, log: log, m: m.of(endpoint), queue: queue,
		turn: make(chan struct{}, 1),
		wake: make(chan struct{}, 1),
		body: body{external: external},
	}
	w.turn <- struct{}{}
	return w
}

// Push takes a batch, splitting it where a body is full, and keeps nothing of it but the
// acknowledgement, which runs when the last line has been settled. A batch without lines is
// acknowledged with the lines that follow. It blocks while the queue is full; concurrent calls
// are safe. The error is that of ctx or of a stopped queue; the batch has then not been taken
// and will not be acknowledged. Of a batch that alone fills several bodies, those that the
// queue took before are sent nevertheless.
func (w *Writer) Push(ctx context.Context, b *model.LogBatch) error {
	select {
	case <-w.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer: %w", ctx.Err())
	}
	defer func() { w.turn <- struct{}{} }()
	before, lines := w.body.mark(), 0
	for i := range b.Streams {
		s := &b.Streams[i]
		if len(s.Entries) == 0 {
			continue
		}
		w.body.stream(s)
		for j := range s.Entries {
			e := &s.Entries[j]
			if w.body.items > 0 && w.body.size()+w.body.entrySize(e) > int(w.cfg.BatchSize) {
				if err := w.flush(ctx); err != nil {
					w.body.rewind(before)
					w.m.openLines.Set(float64(w.body.items))
					return err
				}
				before = w.body.mark()
			}
			if w.body.items == 0 {
				w.opened = time.Now()
				w.poke()
			}
			w.body.append(e)
		}
		lines += len(s.Entries)
	}
	w.m.lines.Add(float64(lines))
	if b.Ack != nil {
		w.acks = append(w.acks, b.Ack)
	}
	w.m.openLines.Set(float64(w.body.items))
	return nil
}

// Run ends bodies at their deadline until ctx ends, then the open one, and returns nil. No
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

// tick ends the open body if it is due, and returns how long the next look can wait. ok is
// false while there is no open body, of whose opening wake tells.
func (w *Writer) tick(ctx context.Context) (next time.Duration, ok bool) {
	select {
	case <-w.turn:
	case <-ctx.Done():
		return 0, false
	}
	defer func() { w.turn <- struct{}{} }()
	if w.body.items == 0 {
		return 0, false
	}
	if left := time.Duration(w.cfg.BatchWait) - time.Since(w.opened); left > 0 {
		return left, true
	}
	if err := w.flush(ctx); err != nil {
		// The body is still open: ctx has ended, and stop is next, or the queue has ended
		// before its turn, which the program reports.
		return time.Second, true
	}
	return 0, false
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
	if w.body.items == 0 {
		return
	}
	if err := w.flush(ctx); err != nil {
		w.log.Info("stopped with lines that no queue took, they are read again at the next start", "count", w.body.items, "err", err)
	}
}

// flush hands the open body to the queue. After an error the body is still open.
func (w *Writer) flush(ctx context.Context) error {
	raw := w.body.finish()
	b := delivery.Block{
		Body:  w.zip.body(raw),
		Items: w.body.items,
		Time:  time.Now(),
	}
	if acks := w.acks; len(acks) > 0 {
		b.Ack = func() {
			for _, ack := range acks {
				ack()
			}
		}
	}
	size := b.Body.Len()
	if err := w.queue.Put(ctx, b); err != nil {
		b.Body.Release()
		return fmt.Errorf("hand on %d lines: %w", b.Items, err)
	}
	w.acks = make([]func(), 0, len(w.acks)) // The next body has about as many.
	w.m.bodies.Inc()
	w.m.rawBytes.Add(float64(len(raw)))
	w.m.compressedBytes.Add(float64(size))
	w.m.openLines.Set(0)
	w.body.reset()
	return nil
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
