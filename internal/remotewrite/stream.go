package remotewrite

import (
	"context"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

// finishTime is how long the last requests may take to get into a queue that has no room.
const finishTime = 2 * time.Second

// maxKept bounds what is kept of a builder or encoder that is not in use, in bytes.
const maxKept = 2 << 20

// stream puts together the requests of one endpoint.
type stream struct {
	Endpoint
	log      *slog.Logger
	metrics  series
	buf      *buffers
	seed     maphash.Seed
	families *collector // nil if the endpoint gets no metadata
	shards   []*shard
	opened   chan struct{}      // a request has been opened
	patience context.Context    // of what is handed to the queue
	hurry    context.CancelFunc // ends it

	pieceBytes, pieceSamples int // end a piece of 1.0
	pieceLimit               int // bytes that no piece of several samples has
	ownPiece                 int // bytes of a rest that becomes a piece of its own
	maxBytes, maxBytes2      int // end a request of 1.0 and of 2.0, before compression
	maxSamples, maxSamples2  int // end one, too

	builders    *pool[*builder]
	encoders    *pool[*encoder2]
	mergers     *pool[*merger]
	transcoders *pool[*transcoder]
}

// maxBuilder ends a request of 2.0, which is about eight times smaller than one of 1.0 and is
// held as it is until it ends.
const maxBuilder = 1 << 20

// defaultSamples and defaultSamples2 end a request of 1.0 and of 2.0 where the configuration
// does not say. In 2.0 each request names the strings of its series once, so the fewer requests
// a large target takes, the less there is to send: over a mix as of a cluster, 16.2 bytes a sample with
// 10 000 and 15.3 with 20 000.
const defaultSamples, defaultSamples2 = 10_000, 20_000

func newStream(e Endpoint, log *slog.Logger, m series, w *Writer) *stream {
	maxBytes := int(e.Config.MaxBytes)
	if e.Config.Compression == compressionZstd {
		maxBytes = min(maxBytes, maxZstdBytes)
	}
	s := &stream{
		Endpoint: e, log: log, metrics: m, buf: w.buf, seed: w.seed,
		opened:     make(chan struct{}, 1),
		pieceBytes: min(pieceBytes, maxBytes/4),
		maxBytes:   maxBytes,
		maxBytes2:  min(maxBytes, maxBuilder),
	}
	if e.Config.MetadataConfig.Send && e.Config.ProtobufMessage != Message2 {
		s.families = w.families
	}
	s.patience, s.hurry = context.WithCancel(context.Background())
	s.maxSamples, s.maxSamples2 = e.Config.MaxSamplesPerSend, e.Config.MaxSamplesPerSend
	if s.maxSamples == 0 {
		s.maxSamples, s.maxSamples2 = defaultSamples, defaultSamples2
	}
	s.pieceSamples = max(1, s.maxSamples/2)
	s.pieceLimit = s.pieceBytes + s.pieceBytes/16
	s.ownPiece = min(ownPiece, s.pieceBytes)
	s.builders = &pool[*builder]{create: func() *builder { return newBuilder(s.seed) }}
	s.encoders = &pool[*encoder2]{create: func() *encoder2 { return &encoder2{pairs: newPairs()} }}
	s.mergers = &pool[*merger]{create: func() *merger { return &merger{} }}
	s.transcoders = &pool[*transcoder]{create: func() *transcoder { return &transcoder{} }}
	n := e.Shards
	if n < 1 {
		n = DefaultShards
	}
	for i := range n {
		s.shards = append(s.shards, &shard{stream: s, id: uint32(i), relabel: newRelabeler(e.Config.rules(), w.seed)})
	}
	return s
}

// format returns the format of the next request.
func (s *stream) format() byte {
	switch s.Config.ProtobufMessage {
	case Message2:
		return Format2
	case MessageAuto:
		if !s.Queue.Refused(Format2) {
			return Format2
		}
	}
	if s.Config.Compression == compressionZstd {
		return Format1Zstd
	}
	return Format1
}

// putBuilder takes back a builder, unless something extraordinary has made it large.
func (s *stream) putBuilder(b *builder) {
	if cap(b.wire)+cap(b.series)+16*len(b.index) <= maxKept {
		b.reset()
		s.builders.put(b)
	}
}

// putEncoder is putBuilder for encoders.
func (s *stream) putEncoder(e *encoder2) {
	if cap(e.wire)+32*cap(e.all)+4*len(e.index) <= maxKept {
		e.reset()
		s.encoders.put(e)
	}
}

// trim gives up what has not been needed for a while.
func (s *stream) trim() {
	s.builders.trim()
	s.encoders.trim()
	s.mergers.trim()
	s.transcoders.trim()
}

// wake tells run that a request has been opened.
func (s *stream) wake() {
	select {
	case s.opened <- struct{}{}:
	default: // It has not looked yet.
	}
}

// run ends requests at their deadline and sends metadata until ctx ends.
func (s *stream) run(ctx context.Context) {
	deadline := time.NewTimer(0)
	defer deadline.Stop()
	metadata := make(<-chan time.Time)
	if s.families != nil {
		t := time.NewTicker(time.Duration(s.Config.MetadataConfig.SendInterval))
		defer t.Stop()
		metadata = t.C
	}
	for {
		// While the timer runs, openings need no look: their deadlines are later.
		opened := s.opened
		if next := s.tick(false); !next.IsZero() {
			deadline.Reset(time.Until(next))
			opened = nil
		}
		select {
		case <-ctx.Done():
			// A Commit that waits for the queue would hold up the last requests.
			last := time.AfterFunc(finishTime, s.hurry)
			s.tick(true)
			last.Stop()
			return
		case <-opened:
		case <-deadline.C:
		case <-metadata:
			s.sendMetadata()
		}
	}
}

// tick ends the requests that are due, or all, and returns the next deadline, if there is one.
func (s *stream) tick(all bool) (next time.Time) {
	// Where one is due, those that soon will be go along: requests at the same moment cost
	// fewer wake-ups of everybody.
	now := time.Now()
	horizon := now
	for _, h := range s.shards {
		if h.due(now) {
			horizon = now.Add(time.Duration(s.Config.BatchSendDeadline) / 2)
		}
	}
	for _, h := range s.shards {
		if at := h.tick(horizon, all); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// sendMetadata sends what is known of all families, unless the endpoint gets it with the samples,
// or is behind: the same would be in the queue once a minute.
func (s *stream) sendMetadata() {
	s.families.forget() // Also while nothing is sent: targets come and go during an outage too.
	format := s.format()
	if format == Format2 || s.Queue.Behind() {
		return
	}
	all := s.families.all()
	for len(all) > 0 {
		n := 0
		var raw []byte
		for n < len(all) && n < s.Config.MetadataConfig.MaxSamplesPerSend && (n == 0 || len(raw) < s.maxBytes/2) {
			raw = appendMetadata1(raw, &all[n])
			n++
		}
		s.putMetadata(format, raw, n)
		all = all[n:]
	}
}

func (s *stream) putMetadata(format byte, raw []byte, families int) {
	body, err := encodeBody(format, raw)
	if err != nil {
		s.log.Error("metadata could not be compressed and is left out", "endpoint", s.Name, "err", err)
		return
	}
	h := s.shards[0]
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.put(format, delivery.NewBody(nil, body), 0, len(raw)); err == nil {
		s.metrics.metadata.Add(float64(families))
	}
}
