// Package remotewrite turns batches of samples into Prometheus remote-write requests, 1.0 and
// 2.0, for each destination with its own external labels, relabelling and limits.
//
// A source opens a transaction with [Writer.Appender], appends what a scrape yields as it is
// read, and commits or rolls back (transaction.go). Samples are encoded as they come: for 1.0
// (encode1.go) into a piece of 352 KiB that is compressed when it is full (compress.go), for
// 2.0 (encode2.go, symbols.go) into a request with symbols of its own. What fills a request
// is put together at once. Commit hands that over and moves the rest into the open request of
// the shard that the target belongs to (shard.go, merge2.go), and a request that is full or old
// enough goes to the endpoint's queue. [Codec] is what the queue asks when
// an endpoint wants a request in another form (codec.go, format.go).
//
// The package sends nothing itself, keeps nothing across restarts, never waits for a backend
// and does not reorder: what was committed first under a key is in an earlier request of the
// same shard or further ahead in the same one.
package remotewrite

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// DefaultShards is the number of shards of an endpoint that does not say otherwise: with 100 ms
// a request, enough for 400 000 samples a second. Each may hold an open request, so more of
// them make smaller requests and need more memory.
const DefaultShards = 4

// Queue takes finished requests. In the program this is *delivery.Queue, with a directory, so
// that Put does not wait for the backend.
type Queue interface {
	Put(ctx context.Context, b delivery.Block) error
	// Refused tells whether the endpoint has lately refused a format.
	Refused(format byte) bool
	// Behind tells whether requests wait for an endpoint that fails or is too slow.
	Behind() bool
}

// Endpoint is one destination of the samples.
type Endpoint struct {
	// Name identifies the endpoint in logs and metrics: the destination's name.
	Name string
	// Config has passed Validate.
	Config EndpointConfig
	// External labels are added to every series that does not have them. Those that all
	// endpoints have in common are better added by the source, once a series.
	External model.Labels
	// Durable ends the request with every Commit, which returns when the queue has taken it:
	// durability always.
	Durable bool
	// Shards is how many requests may be under way at the same time, each with a fixed share
	// of the targets. Another number after a restart may let samples that are still on disk be
	// overtaken. Default 4.
	Shards int
	Queue  Queue
}

// Writer writes to several endpoints.
type Writer struct {
	streams  []*stream
	buf      *buffers
	seed     maphash.Seed
	families *collector // nil if no endpoint wants metadata in requests of its own
	free     *pool[*transaction]
}

// New returns a writer for the endpoints, whose names differ.
func New(log *slog.Logger, reg prometheus.Registerer, endpoints []Endpoint) *Writer {
	w := &Writer{buf: newBuffers(), seed: maphash.MakeSeed()}
	for _, e := range endpoints {
		if e.Config.MetadataConfig.Send && e.Config.ProtobufMessage != Message2 {
			w.families = newCollector()
		}
	}
	w.free = &pool[*transaction]{create: w.newTransaction}
	m := newMetrics(reg)
	for _, e := range endpoints {
		w.streams = append(w.streams, newStream(e, log, m.endpoint(e.Name), w))
	}
	return w
}

// Appender opens a transaction. The key is a hash of the target that stays the same over
// restarts: what is committed under one key is delivered in that order. Any number of
// transactions may be open at the same time, one for each goroutine; those of one key must
// follow one another. Every one has to be ended by Commit or Rollback.
//
// The error of Commit says which queues did not take a request, whose samples are counted as
// dropped.
func (w *Writer) Appender(key uint64) model.Appender {
	t := w.free.get()
	t.notes = w.families != nil && w.families.due(key)
	for _, p := range t.parts {
		p.begin(key)
	}
	return t
}

func (w *Writer) newTransaction() *transaction {
	t := &transaction{w: w}
	for _, s := range w.streams {
		t.parts = append(t.parts, &part{stream: s})
	}
	return t
}

// release takes back a transaction that has ended.
func (w *Writer) release(t *transaction) {
	for _, p := range t.parts {
		p.release()
	}
	w.free.put(t)
}

// trim gives up what has not been needed for a while.
func (w *Writer) trim() {
	w.free.trim()
	for _, s := range w.streams {
		s.trim()
	}
}

// Run ends requests at their deadline until ctx ends, then all that are open, and returns nil.
// What a queue has not taken two seconds after that is dropped and counted. No Commit may come
// after Run.
func (w *Writer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range w.streams {
		wg.Go(func() { s.run(ctx) })
	}
	if len(w.streams) > 0 {
		w.buf.run(ctx, w.trim)
	}
	wg.Wait()
	return nil
}
