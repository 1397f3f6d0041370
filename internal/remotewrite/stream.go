package remotewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// stream puts together the requests of one endpoint.
type stream struct {
	Endpoint
	log     *slog.Logger
	metrics series
	opened  chan struct{} // a request has been opened

	mu         sync.Mutex // guards what follows, and keeps requests in order
	raw        []byte     // the open request, uncompressed
	compressed []byte     // scratch
	samples    int        // in the open request
	deadline   time.Time  // of the open request
	refusing   bool       // the queue did not take the last request
}

// push adds the samples of a batch to the open request, and hands over each one that is full.
func (s *stream) push(ctx context.Context, b *model.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, sample := range b.Samples {
		before := len(s.raw)
		s.raw = appendSample(s.raw, model.Labels(b.At(sample.Labels)), sample, s.External)
		if len(s.raw) > int(s.Config.MaxBytes) && s.samples > 0 {
			// It belongs into the next one.
			next := bytes.Clone(s.raw[before:])
			s.raw = s.raw[:before]
			errs = append(errs, s.end(ctx))
			s.raw = append(s.raw, next...)
		}
		if s.samples++; s.samples == 1 {
			s.open()
		}
		if s.samples >= s.Config.MaxSamplesPerSend {
			errs = append(errs, s.end(ctx))
		}
	}
	s.metrics.samples.Add(float64(len(b.Samples)))
	if s.Durable {
		errs = append(errs, s.end(ctx))
	}
	return errors.Join(errs...)
}

// open notes that a request has been begun.
func (s *stream) open() {
	s.deadline = time.Now().Add(time.Duration(s.Config.BatchSendDeadline))
	select {
	case s.opened <- struct{}{}:
	default: // Run has not looked yet.
	}
}

// end compresses the open request, if there is one, and hands it to the queue. Holding the
// lock meanwhile keeps requests in order.
func (s *stream) end(ctx context.Context) error {
	if s.samples == 0 {
		return nil
	}
	if need := s2.MaxEncodedLen(len(s.raw)); cap(s.compressed) < need {
		s.compressed = make([]byte, need)
	}
	// The body is copied to its size, since the queue may keep it for long.
	body := bytes.Clone(s2.EncodeSnappy(s.compressed[:cap(s.compressed)], s.raw))
	samples := s.samples
	s.metrics.rawBytes.Add(float64(len(s.raw)))
	s.raw, s.samples, s.deadline = s.raw[:0], 0, time.Time{}
	s.shrink()
	err := s.Queue.Put(ctx, delivery.Block{Body: body, Items: samples, Time: time.Now()})
	if err != nil {
		s.metrics.dropped.Add(float64(samples))
		if !s.refusing {
			s.log.Error("queue does not take requests, samples are lost", "endpoint", s.Name, "count", samples, "err", err)
		}
		s.refusing = true
		return fmt.Errorf("hand %d samples to the queue of %s: %w", samples, s.Name, err)
	}
	s.refusing = false
	s.metrics.requests.Inc()
	s.metrics.bytes.Add(float64(len(body)))
	return nil
}

// shrink gives back buffers that one extraordinary sample has made far too large.
func (s *stream) shrink() {
	if limit := 2 * int(s.Config.MaxBytes); cap(s.raw) > limit {
		s.raw, s.compressed = nil, nil
	}
}

// run ends requests at their deadline until ctx ends.
func (s *stream) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.finish(ctx)
			return
		case <-s.opened:
		case <-timer.C:
		}
		if wait, open := s.tick(ctx); open {
			timer.Reset(wait)
		}
	}
}

// tick ends the open request if it is due, and else says when it will be.
func (s *stream) tick(ctx context.Context) (wait time.Duration, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.samples == 0 {
		return 0, false
	}
	if wait = time.Until(s.deadline); wait > 0 {
		return wait, true
	}
	_ = s.end(ctx) // Counted and logged; here is nobody to tell.
	return 0, false
}

// finishTime is how long a queue may take for the last request.
const finishTime = 2 * time.Second

// finish hands over what is open at the end.
func (s *stream) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.end(ctx) // As in tick.
}
