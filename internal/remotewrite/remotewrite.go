// Package remotewrite turns batches of samples into Prometheus remote-write 1.0 requests,
// for each destination with its own external labels and limits.
//
// [Writer.Push] runs on the goroutine of the source. For each endpoint it appends the samples
// to one open request, whose label sets are copied as they are (model.Labels is the wire
// form), and when the request is full it is compressed and handed to the endpoint's queue.
// [Writer.Run] ends requests that have waited long enough.
//
// The package sends nothing itself, keeps nothing across restarts, never waits for a backend
// and does not reorder: what a source pushed first is in an earlier request or further ahead
// in the same one.
package remotewrite

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// Queue takes finished requests. In the program this is *delivery.Queue, with a directory, so
// that Put does not wait for the backend.
type Queue interface {
	Put(ctx context.Context, b delivery.Block) error
}

// Endpoint is one destination of the samples.
type Endpoint struct {
	// Name identifies the endpoint in logs and metrics: the destination's name.
	Name string
	// Config has passed Validate.
	Config EndpointConfig
	// External labels are added to every series that does not have them.
	External model.Labels
	// Durable ends the request with every Push, which returns when the queue has taken it:
	// durability always.
	Durable bool
	Queue   Queue
}

// Header returns the headers that the protocol asks of every request. userAgent is the
// program's name and version, ingot/1.2.3.
func Header(userAgent string) http.Header {
	return http.Header{
		"Content-Type":                      {"application/x-protobuf"},
		"Content-Encoding":                  {"snappy"},
		"User-Agent":                        {userAgent},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
	}
}

// Writer writes to several endpoints.
type Writer struct {
	streams []*stream
}

// New returns a writer for the endpoints, whose names differ.
func New(log *slog.Logger, reg prometheus.Registerer, endpoints []Endpoint) *Writer {
	w := &Writer{}
	m := newMetrics(reg)
	for _, e := range endpoints {
		w.streams = append(w.streams, &stream{Endpoint: e, log: log, metrics: m.endpoint(e.Name), opened: make(chan struct{}, 1)})
	}
	return w
}

// Push adds the samples of a batch to the open request of every endpoint, as one piece. It
// keeps nothing of b and never waits for a backend. Concurrent calls are safe. The error says
// which queues did not take a request, whose samples are counted as dropped.
func (w *Writer) Push(b *model.Batch) error {
	var errs []error
	for _, s := range w.streams {
		errs = append(errs, s.push(context.Background(), b)) // Put does not wait for the backend.
	}
	return errors.Join(errs...)
}

// Run ends requests at their deadline until ctx ends, then all that are open, and returns
// nil. No Push may come after that.
func (w *Writer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range w.streams {
		wg.Go(func() { s.run(ctx) })
	}
	wg.Wait()
	return nil
}
