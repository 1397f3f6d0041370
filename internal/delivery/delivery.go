// Package delivery carries finished request bodies to one endpoint, in order, and keeps
// them while the endpoint is away.
//
// A [Block] enters a [Queue] by [Queue.Put] and waits in memory (memory.go). When the
// endpoint does not keep up, it moves on to the segments on disk (segment.go, index.go):
// disk.go decides when and is the only writer. send.go takes the oldest blocks, those on disk
// before those in memory, into a window (window.go), posts them (post.go), and settles them by
// the verdict of verdict.go (settle.go).
//
// Blocks of one shard arrive in the order in which they were put, since one request at a time
// is on its way for each shard, and a block that has to be sent again keeps its place. Shards
// do not wait for each other: several requests are on their way at once, more while blocks
// wait although requests succeed, fewer after a failure. After a failure one request at a time
// finds out when the endpoint takes data again.
//
// The package knows bytes only. What they mean to the endpoint is asked of a [Codec] when the
// endpoint wants a body smaller or in another format. Blocks are dropped only if the endpoint
// refuses them or they are beyond the limits of [Config], and counted.
package delivery

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"
)

// ErrClosed is returned by [Queue.Put] after [Queue.Run] has returned.
var ErrClosed = errors.New("the delivery queue has been stopped")

// Block is one finished request body.
type Block struct {
	// Body is sent as it is. The maker's hold of it is the queue's from Put on.
	Body *Body
	// Items is the number of samples or lines inside, the unit of all accounts.
	Items int
	// Time is when the block was finished. Its age counts from here.
	Time time.Time
	// Shard says what must stay in order: blocks of one shard are delivered one at a time in
	// the order of Put, blocks of different shards at the same time and in any order. A
	// series must always be in the same shard, over restarts too.
	Shard uint32
	// Format is what Endpoint.Codec calls the encoding of Body; 0 without a codec.
	Format byte
	// Ack, which may be nil, is called once when the block has been accepted by the
	// endpoint or dropped and counted; never, if the program stops before. Calls come one at
	// a time, in the order of Put, and must not call the queue. A queue with a directory
	// keeps Ack in memory for as long as it keeps the block.
	Ack func()
	// Kept, which may be nil, is called after Ack if that was called because the block is in a
	// spool. What the source notes then should be noted soon: all that the block holds would
	// be in the spool twice after a crash.
	Kept func()
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
	// Codec knows the formats of the bodies. Without one a body that is too large is dropped
	// whole, and there is one format.
	Codec Codec
	// Tenant tells apart the queues of one Name; it is part of status and metrics. Empty for
	// the only or first one.
	Tenant string
	// Spool is for blocks whose source can make them again as long as it has not heard of
	// their Ack, as lines can be read again from a file. Ack then also runs when a block has
	// been synced to disk; that happens when it has not been acknowledged for five seconds, and
	// at once while the endpoint fails or older blocks are on disk. Nothing in memory is
	// dropped: Put waits while the memory is full.
	Spool bool
}

// Queue delivers blocks to one endpoint. Three kinds of goroutines meet in it: the callers of
// Put, one that sends (send.go) with the requests it has started and, with a directory, one
// that owns the files (disk.go).
type Queue struct {
	cfg     Config
	dir     string
	log     *slog.Logger
	m       *Metrics
	ep      Endpoint
	client  *http.Client
	shown   string      // the URL without secrets
	jitter  *rand.Rand  // of the sender
	scanner reader      // of the sender, for headers
	loader  reader      // of the sender, for bodies
	header0 http.Header // of the endpoint
	files   fileOps

	begun     time.Time // for the monotonic clock at the start
	begunWall int64     // the wall clock at the start, ms since the Unix epoch

	wakeSend chan struct{} // something to send or to acknowledge
	wakeDisk chan struct{} // something to write or to remove
	turn     chan struct{} // held by the one Put that waits for room
	room     chan struct{} // memory has become free
	closing  chan struct{} // closed when no Put is taken any more

	mu           sync.Mutex // guards what follows
	memoryLimit  int64      // bytes
	diskLimit    int64      // bytes, 0 for that of cfg
	lastPut      time.Time
	closed       bool
	diskReady    bool               // the directory has been read, or cannot be
	nextSeq      uint64             // of the next block, also across restarts
	unreadable   []uint64           // segments of a former run that could not be read
	refused      map[byte]time.Time // when the endpoint has last refused a format
	mem          []*entry
	memory       Amount // what mem holds
	writing      *entry // at the front of mem, or settled meanwhile
	index        index
	active       *segment // the last of index, if it is being written
	window       window
	settled      map[uint64]struct{}  // blocks behind the window that the cursor has found settled
	started      map[uint64]begun     // blocks behind the window of which it has found a part settled
	headers      map[byte]http.Header // by format
	epoch        int                  // how often requests in vain have set back the sender
	answered     int                  // requests whose data the endpoint has taken or refused
	readFailures int                  // in a row
	readAgain    time.Time            // not before then after an error
	acks         []*ack
	parallelism
	accounts
	condition
}

// accounts is what has happened to the blocks so far.
type accounts struct {
	put, restored, sent, retried          Amount
	dropped                               map[string]Amount
	retries, corrupt, skipped, diskErrors int64
	unreported                            map[string]*dropReport
}

// condition is how the endpoint and the disk are doing.
type condition struct {
	state       State // of the endpoint
	refusing    bool  // the last answer about data dropped it
	since       time.Time
	attempts    int // requests in vain since the last answer about data
	lastError   string
	lastErrorAt time.Time
	lastSuccess time.Time
	nextAttempt time.Time
	writeError  string // why blocks cannot be written, "" if they can
	readError   string
}

const (
	// spillAfter is how long a block may wait for its acknowledgement in memory only.
	spillAfter = 500 * time.Millisecond
	// drainTime and persistTime bound what Run does after its context has ended. The latter is
	// longer than a sync of a slow disk, which may be under way.
	drainTime   = 4 * time.Second
	persistTime = 2200 * time.Millisecond
	// diskPatience is how long delivery waits for a disk that does not answer.
	diskPatience = 2 * time.Second
	// defaultTimeout bounds a request where the endpoint does not say.
	defaultTimeout = 30 * time.Second
	// memoryOnly and memoryBehind bound the memory of a queue without a directory, and of one
	// whose disk does not take blocks.
	memoryOnly   = 8 << 20
	memoryBehind = 32 << 20
)

// New returns a queue that keeps what is behind in dir, which it creates when it runs. With
// an empty dir there is no disk: cfg is not used, Put blocks while the memory is full, and
// nothing is dropped but what the endpoint refuses. m is shared by all queues of a process.
func New(cfg Config, dir string, log *slog.Logger, m *Metrics, ep Endpoint) *Queue {
	q := &Queue{
		cfg: cfg, dir: dir, log: log.With("endpoint", ep.Name), m: m, ep: ep,
		client:      withoutRedirects(ep.Client),
		shown:       redact(ep.URL),
		jitter:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		files:       fileOps{writeAt: (*os.File).WriteAt, sync: syncFile},
		begun:       time.Now(),
		begunWall:   time.Now().UnixMilli(),
		memoryLimit: memoryOnly,
		lastPut:     time.Now(),
		wakeSend:    make(chan struct{}, 1),
		wakeDisk:    make(chan struct{}, 1),
		turn:        make(chan struct{}, 1),
		room:        make(chan struct{}, 1),
		closing:     make(chan struct{}),
		diskReady:   dir == "",
		nextSeq:     1,
		headers:     map[byte]http.Header{},
		refused:     map[byte]time.Time{},
		settled:     map[uint64]struct{}{},
		parallelism: parallelism{maxParallel: max(cfg.MaxParallel, 1), limit: 1},
		header0:     ep.Header,
		accounts:    accounts{dropped: map[string]Amount{}, unreported: map[string]*dropReport{}},
		condition:   condition{state: StateOK},
	}
	switch {
	case ep.Spool:
		q.memoryLimit = spoolMemory
	case dir != "":
		q.memoryLimit = memoryBehind
	}
	if q.header0 == nil {
		q.header0 = http.Header{}
	}
	if ep.Timeout <= 0 {
		q.ep.Timeout = defaultTimeout
	}
	m.add(q)
	return q
}

// Put hands over a block. Concurrent calls are safe; the order of the blocks is the order in
// which the calls got in.
//
// With a directory Put never waits for the endpoint. With durability always it returns when
// the block is in a file, or after two seconds without an answer from the disk, which the
// status then shows. Without a directory, and in a spool, it waits for room in memory until ctx
// ends.
//
// After an error the block has not been taken and its body is still the caller's: ctx ended while waiting for room, or
// [ErrClosed].
func (q *Queue) Put(ctx context.Context, b Block) error {
	if b.Time.IsZero() {
		b.Time = time.Now()
	}
	if q.waits() {
		if err := q.waitForRoom(ctx, int64(b.Body.Len())); err != nil {
			return err
		}
		defer func() { <-q.turn }()
	}
	stored, err := q.enqueue(b)
	if err == nil && stored != nil {
		q.waitForDisk(stored)
	}
	return err
}

// Run delivers until ctx ends. It then goes on for at most four seconds, as long as requests
// succeed, writes the rest to disk and returns nil; in all that takes less than seven. The
// only error is a directory that another process uses.
func (q *Queue) Run(ctx context.Context) error {
	if q.dir == "" {
		q.deliver(ctx)
		q.close()
		q.reportRest()
		return nil
	}
	d := &disk{q: q}
	opened, stop, done := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() { // Waited for below, except when a system call on a broken disk never returns.
		defer close(done)
		d.run(opened, stop)
	}()
	patience := time.NewTimer(q.openPatience())
	defer patience.Stop()
	select {
	case err := <-opened:
		if err != nil {
			q.close()
			<-done
			return err
		}
	case <-patience.C:
		q.diskSlow()
	case <-ctx.Done():
	}
	q.deliver(ctx)
	q.close()
	close(stop)
	patience.Reset(persistTime)
	select {
	case <-done:
	case <-patience.C:
		q.log.Warn("disk did not finish writing the queue in time", "path", q.dir)
	}
	q.callAcks() // Of a spool, for what was written last.
	q.reportRest()
	return nil
}

// close ends the taking of blocks.
func (q *Queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.closing)
}

// reportRest logs what is left undelivered at the end of Run.
func (q *Queue) reportRest() {
	q.reportDrops(true)
	q.mu.Lock()
	memory, onDisk := q.memory, q.index.left
	q.mu.Unlock()
	if onDisk.Blocks > 0 {
		q.log.Info("queue stopped with data on disk", "count", onDisk.Items, "bytes", onDisk.Bytes, "path", q.dir)
	}
	if memory.Blocks == 0 {
		return
	}
	if q.waits() {
		q.log.Info("queue stopped with unacknowledged data, which its source keeps", "count", memory.Items, "bytes", memory.Bytes)
	} else {
		q.log.Error("queue stopped with data that could not be written to disk and is lost", "count", memory.Items, "bytes", memory.Bytes, "path", q.dir)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // A wake-up is pending already.
	}
}
