// Package delivery carries finished request bodies to one endpoint, in order, and keeps
// them while the endpoint is away.
//
// A [Block] enters a [Queue] by [Queue.Put] and waits in memory (memory.go). When the
// endpoint does not keep up, it moves on to the segment log (log.go, segment.go): disk.go
// decides when and is the only writer. send.go takes the oldest block, those on disk before
// those in memory, posts it, and settles it by the verdict of verdict.go. One request is in
// flight per queue, so blocks arrive in the order in which they were put. A destination that
// needs more throughput than that gets several queues, each with its own directory and a
// fixed share of the series; nothing in here would change.
//
// The package knows bytes only: not what a body holds, not how it was encoded. It does not
// split, merge or re-encode blocks, and drops none but those that the endpoint refuses and
// those beyond the limits of [Config], which it counts.
package delivery

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// ErrClosed is returned by [Queue.Put] after [Queue.Run] has returned.
var ErrClosed = errors.New("the delivery queue has been stopped")

// Block is one finished request body.
type Block struct {
	// Body is sent as it is. The queue owns it from Put on.
	Body []byte
	// Items is the number of samples or lines inside, the unit of all accounts.
	Items int
	// Time is when the block was finished. Its age counts from here.
	Time time.Time
	// Ack, which may be nil, is called once when the block has been accepted by the
	// endpoint or dropped and counted; never, if the program stops before. Calls come one at
	// a time, in the order of Put, and must not call the queue. A queue with a directory
	// keeps Ack in memory for as long as it keeps the block.
	Ack func()
}

// Endpoint is where the blocks of one queue go.
type Endpoint struct {
	// Name identifies the endpoint in logs, metrics and status: the destination's name.
	Name string
	// URL takes the bodies by POST. It may hold credentials; they are never shown.
	URL string
	// Client sends the requests. Redirects are not followed, whatever the client says.
	Client *http.Client
	// Header is sent with every request.
	Header http.Header
	// Timeout bounds one request from its start to the end of the answer.
	Timeout time.Duration
}

// Queue delivers blocks to one endpoint.
type Queue struct {
	cfg Config
	dir string
	log *slog.Logger
	m   *Metrics
	ep  Endpoint
}

// New returns a queue that keeps what is behind in dir, which it creates when it runs. With
// an empty dir there is no disk: cfg is not used, Put blocks while the memory is full, and
// nothing is dropped but what the endpoint refuses. m is shared by all queues of a process.
func New(cfg Config, dir string, log *slog.Logger, m *Metrics, ep Endpoint) *Queue {
	return &Queue{cfg: cfg, dir: dir, log: log, m: m, ep: ep}
}

// Put hands over a block. Concurrent calls are safe; the order of the blocks is the order in
// which the calls got in.
//
// With a directory Put never waits for the endpoint. With durability always it returns when
// the block is in a file, or after two seconds without an answer from the disk, which the
// status then shows. Without a directory it waits for room in memory until ctx ends.
//
// After an error the block has not been taken: ctx ended while waiting for room, or
// [ErrClosed].
func (q *Queue) Put(ctx context.Context, b Block) error {
	return nil
}

// Run delivers until ctx ends. It then goes on for at most four seconds, as long as requests
// succeed, writes the rest to disk and returns nil; in all that takes less than five. The
// only error is a directory that another process uses.
func (q *Queue) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
