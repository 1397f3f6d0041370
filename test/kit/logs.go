package kit

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// LogsPath is where a [LogsReceiver] takes pushes.
const LogsPath = "/loki/api/v1/push"

// LogsConfig says how strict a [LogsReceiver] is; the zero value has Loki's defaults.
type LogsConfig struct {
	// RequireTenant refuses requests without X-Scope-OrgID with 401.
	RequireTenant bool
	// Limits are the limits of streams and lines; zero means [DefaultStreamLimits].
	Limits StreamLimits
	// Take is shown every line that passed all checks, one after the other, and tells whether
	// the ledger shall keep it. A test with millions of lines keeps a smaller ledger of its
	// own; repeats are then its own matter too. nil keeps everything.
	Take func(tenant string, stream labels.Labels, e PushEntry) (keep bool)
}

// LogsReceiver is an honest Loki, of whose version 3.7 the order of the checks, the words and
// the blind spots are: it takes protobuf pushes, stores the good lines of a request and
// refuses the others with 400 and Loki's words. Of what an ingester refuses, the answer has
// the last stream of the request alone, and nothing when that one was fine.
//
// A line that equals one of the same block in stream, time, text and metadata is dropped and
// counted; blocks end each 256 KiB. Its ledger is the set of (tenant, stream, time, line,
// structured metadata).
type LogsReceiver struct {
	*receiver

	limits StreamLimits
	take   func(tenant string, stream labels.Labels, e PushEntry) bool

	mu      sync.Mutex // guards the rest
	streams map[streamKey]*logStream
	active  map[string]int // streams by tenant
	order   []*logStream   // as they were created
	refused []RefusedLine
}

// Line is one record of the logs ledger.
type Line struct {
	Tenant   string
	Stream   labels.Labels
	T        int64 // nanoseconds since the Unix epoch
	Text     string
	Metadata labels.Labels
	// Repeats is how often the same line came again, Kept how many of those Loki would have
	// stored beside it.
	Repeats, Kept int
	// Late means that a newer line of the stream had been stored before.
	Late bool

	block int // of the stream
}

// Get returns the value of an index label or, where there is none, of structured metadata.
func (l Line) Get(name string) string {
	if v := l.Stream.Get(name); v != "" {
		return v
	}
	return l.Metadata.Get(name)
}

// RefusedLine is one line that was refused by itself, or a whole stream (Text is "" then).
type RefusedLine struct {
	Tenant string
	Stream string
	T      int64
	Text   string
	Reason string
}

type streamKey struct{ tenant, labels string }

type lineKey struct {
	t              int64
	text, metadata string
}

type logStream struct {
	tenant string
	labels labels.Labels
	newest int64
	lines  []*Line // in the order of arrival
	known  map[lineKey]*Line
	// block is the number of the open block, size how many bytes are in it.
	block, size int
	last        *Line // that was stored
}

// NewLogsReceiver returns a receiver that is down; see [Server.Up].
func NewLogsReceiver(cfg LogsConfig) *LogsReceiver {
	if cfg.Limits == (StreamLimits{}) {
		cfg.Limits = DefaultStreamLimits()
	}
	r := &LogsReceiver{limits: cfg.Limits, take: cfg.Take, streams: make(map[streamKey]*logStream), active: make(map[string]int)}
	r.receiver = newReceiver(LogsPath, cfg.RequireTenant, r.accept)
	return r
}

// StartLogs starts a receiver that ends with the test.
func StartLogs(tb testing.TB, cfg LogsConfig) *LogsReceiver {
	tb.Helper()
	r := NewLogsReceiver(cfg)
	if err := r.Up(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Down)
	return r
}

// accept stores one request, as Loki's distributor does.
func (r *LogsReceiver) accept(tenant string, h http.Header, body []byte) answer {
	if r.limits.MaxBody > 0 && len(body) > r.limits.MaxBody {
		return answer{
			status: http.StatusRequestEntityTooLarge,
			text:   fmt.Sprintf("request body too large: message size too large than max (%d vs %d)", len(body), r.limits.MaxBody),
		}
	}
	in, err := DecodePush(h, body)
	if err != nil {
		return answer{status: http.StatusBadRequest, text: err.Error()}
	}
	if len(in) == 0 {
		return answer{status: http.StatusUnprocessableEntity, text: "error at least one valid stream is required for ingestion"}
	}
	all := make([]labels.Labels, len(in))
	for i := range in {
		if all[i], err = ParseLabels(in[i].Labels); err != nil {
			// One such stream costs the whole request.
			return answer{status: http.StatusBadRequest, text: fmt.Sprintf("couldn't parse labels: %s", err)}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var invalid []string
	var pushed ingested
	for i, s := range in {
		if len(s.Entries) == 0 {
			continue
		}
		if err := CheckStream(s.Labels, all[i], r.limits); err != nil {
			invalid = append(invalid, r.refuse(tenant, s.Labels, PushEntry{}, err.Error()))
			continue
		}
		key := streamKey{tenant, all[i].String()}
		var good []checkedEntry
		for _, e := range s.Entries {
			metadata, err := CheckEntry(key.labels, e, r.limits)
			if err != nil {
				invalid = append(invalid, r.refuse(tenant, key.labels, e, err.Error()))
				continue
			}
			good = append(good, checkedEntry{e, metadata})
		}
		if len(good) > 0 {
			r.ingest(key, all[i], good, &pushed)
		}
	}
	switch {
	case pushed.status != 0:
		return answer{status: pushed.status, items: pushed.stored, text: pushed.text}
	case len(invalid) > 0:
		return answer{status: http.StatusBadRequest, items: pushed.stored, text: grouped(invalid)}
	}
	return answer{status: http.StatusNoContent, items: pushed.stored}
}

// refuse notes a line that is not stored and returns the reason.
func (r *LogsReceiver) refuse(tenant, stream string, e PushEntry, reason string) string {
	r.refused = append(r.refused, RefusedLine{Tenant: tenant, Stream: stream, T: e.T, Text: e.Line, Reason: reason})
	return reason
}

type checkedEntry struct {
	PushEntry
	metadata labels.Labels
}

// ingested is what the ingester made of a request.
type ingested struct {
	stored int
	// status and text are of the last stream, 0 when that one was fine.
	status int
	text   string
}

// ingest stores what of one stream is not too far behind, as Loki's ingester does.
func (r *LogsReceiver) ingest(key streamKey, lset labels.Labels, entries []checkedEntry, to *ingested) {
	to.status, to.text = 0, ""
	s := r.streams[key]
	if s == nil {
		if r.limits.MaxStreams > 0 && r.active[key.tenant] >= r.limits.MaxStreams {
			to.status = http.StatusTooManyRequests
			to.text = fmt.Sprintf("maximum active stream limit exceeded when trying to create stream %s, reduce the number of active streams (reduce labels or reduce label values), or contact your Loki administrator to see if the limit can be increased, user: '%s'", key.labels, key.tenant)
			return
		}
		s = &logStream{tenant: key.tenant, labels: lset, newest: entries[0].T, known: make(map[lineKey]*Line)}
		r.streams[key] = s
		r.active[key.tenant]++
		r.order = append(r.order, s)
	}
	var text strings.Builder
	ignored := 0
	for _, e := range entries {
		if oldest := s.newest - r.limits.MaxBehind.Nanoseconds(); e.T < oldest {
			reason := fmt.Sprintf("entry too far behind, entry timestamp is: %s, oldest acceptable timestamp is: %s", seconds(e.T), seconds(oldest))
			r.refuse(key.tenant, key.labels, e.PushEntry, reason)
			if ignored++; ignored <= maxReturnedErrors {
				fmt.Fprintf(&text, "entry with timestamp %s ignored, reason: '%s',\n", time.Unix(0, e.T).UTC(), reason)
			}
			continue
		}
		if r.take != nil && !r.take(key.tenant, lset, e.PushEntry) {
			s.newest = max(s.newest, e.T)
			to.stored++
			continue
		}
		to.stored += s.add(e)
	}
	if ignored > 0 {
		to.status = http.StatusBadRequest
		to.text = text.String() + fmt.Sprintf("user '%s', total ignored: %d out of %d for stream: %s", key.tenant, ignored, len(entries), key.labels)
	}
}

// maxReturnedErrors is how many lines an answer names, blockSize what a block holds at most,
// both Loki's defaults.
const (
	maxReturnedErrors = 10
	blockSize         = 256 << 10
)

// add stores a line and returns 1, or counts a repeat and returns 0.
func (s *logStream) add(e checkedEntry) int {
	key := lineKey{t: e.T, text: e.Line}
	if !e.metadata.IsEmpty() {
		key.metadata = e.metadata.String()
	}
	if l := s.known[key]; l != nil {
		l.Repeats++
		if l.block != s.block && l != s.last {
			l.Kept++
			l.block = s.block
			s.grow(e)
		}
		return 0
	}
	l := &Line{Tenant: s.tenant, Stream: s.labels, T: e.T, Text: e.Line, Metadata: e.metadata, Late: e.T < s.newest, block: s.block}
	s.known[key], s.last = l, l
	s.lines = append(s.lines, l)
	s.newest = max(s.newest, e.T)
	s.grow(e)
	return 1
}

// grow puts a line into the open block.
func (s *logStream) grow(e checkedEntry) {
	if s.size += len(e.Line) + 8*e.metadata.Len(); s.size >= blockSize {
		s.block, s.size = s.block+1, 0
	}
}
