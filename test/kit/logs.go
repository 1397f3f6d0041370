package kit

import (
	"errors"
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

// StreamLimits are what Loki refuses a stream or a line for.
type StreamLimits struct {
	MaxLabels        int           // index labels a stream, service_name not counted
	MaxNameLength    int           // bytes of a label name
	MaxValueLength   int           // bytes of a label value
	MaxLineSize      int           // bytes of a line
	MaxMetadataSize  int           // bytes of the structured metadata of one line
	MaxMetadataCount int           // pairs of the structured metadata of one line
	MaxAge           time.Duration // how old a line may be
	MaxAhead         time.Duration // how far a line may lie in the future
	MaxBehind        time.Duration // how far a line may lie behind the newest of its stream
}

// DefaultStreamLimits are Loki's defaults.
func DefaultStreamLimits() StreamLimits {
	return StreamLimits{
		MaxLabels: 15, MaxNameLength: 1024, MaxValueLength: 2048,
		MaxLineSize: 256 << 10, MaxMetadataSize: 64 << 10, MaxMetadataCount: 128,
		MaxAge: 7 * 24 * time.Hour, MaxAhead: 10 * time.Minute, MaxBehind: time.Hour,
	}
}

// LogsConfig says how strict a [LogsReceiver] is; the zero value has Loki's defaults.
type LogsConfig struct {
	// RequireTenant refuses requests without X-Scope-OrgID with 401.
	RequireTenant bool
	// Limits are the limits of streams and lines; zero means [DefaultStreamLimits].
	Limits StreamLimits
}

// LogsReceiver is an honest Loki: it takes protobuf pushes, refuses with 400 and Loki's words
// the lines and streams that Loki refuses while it stores the rest of the same request, and
// drops and counts a line that equals a stored one in stream, time and text. Its ledger is
// the set of (tenant, stream, time, line, structured metadata).
type LogsReceiver struct {
	*receiver

	limits StreamLimits

	mu      sync.Mutex // guards the rest
	streams map[streamKey]*logStream
	order   []*logStream // as they were created
	refused []RefusedLine
}

// Line is one record of the logs ledger.
type Line struct {
	Tenant   string
	Stream   labels.Labels
	T        int64 // nanoseconds since the Unix epoch
	Text     string
	Metadata labels.Labels
	// Repeats is how often the same stream, time and text came again.
	Repeats int
	// Late means that a newer line of the stream had been stored before.
	Late bool
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
	t    int64
	text string
}

type logStream struct {
	tenant string
	labels labels.Labels
	newest int64
	lines  []*Line // in the order of arrival
	known  map[lineKey]*Line
}

// NewLogsReceiver returns a receiver that is down; see [Server.Up].
func NewLogsReceiver(cfg LogsConfig) *LogsReceiver {
	if cfg.Limits == (StreamLimits{}) {
		cfg.Limits = DefaultStreamLimits()
	}
	r := &LogsReceiver{limits: cfg.Limits, streams: make(map[streamKey]*logStream)}
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

// accept stores one request. As Loki does, it answers 400 with one reason a line when some
// lines were refused, and keeps the others.
func (r *LogsReceiver) accept(tenant string, h http.Header, body []byte) answer {
	streams, err := DecodePush(h, body)
	if err != nil {
		return answer{status: http.StatusBadRequest, text: err.Error()}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	stored := 0
	var reasons []string
	refuse := func(stream string, e PushEntry, reason string) {
		r.refused = append(r.refused, RefusedLine{Tenant: tenant, Stream: stream, T: e.T, Text: e.Line, Reason: reason})
		reasons = append(reasons, reason)
	}
	for _, in := range streams {
		lset, err := CheckStream(in.Labels, r.limits)
		if err != nil {
			refuse(in.Labels, PushEntry{}, err.Error())
			continue
		}
		key := streamKey{tenant, lset.String()}
		for _, e := range in.Entries {
			metadata, err := CheckEntry(key.labels, e, r.limits)
			if err != nil {
				refuse(key.labels, e, err.Error())
				continue
			}
			s := r.streams[key]
			if s == nil {
				s = &logStream{tenant: tenant, labels: lset, newest: e.T, known: make(map[lineKey]*Line)}
				r.streams[key] = s
				r.order = append(r.order, s)
			}
			if oldest := s.newest - r.limits.MaxBehind.Nanoseconds(); e.T < oldest {
				refuse(key.labels, e, fmt.Sprintf("entry with timestamp %s ignored, reason: 'entry too far behind, entry timestamp is: %[1]s, oldest acceptable timestamp is: %s', stream: %s",
					timeText(e.T), timeText(oldest), key.labels))
				continue
			}
			stored += s.add(e, metadata)
		}
	}
	if len(reasons) > 0 {
		const most = 10 // as with Loki, the answer stays short whatever the request was
		return answer{status: http.StatusBadRequest, items: stored, text: strings.Join(reasons[:min(len(reasons), most)], "\n")}
	}
	return answer{status: http.StatusNoContent, items: stored}
}

// add stores a line and returns 1, or counts a repeat and returns 0.
func (s *logStream) add(e PushEntry, metadata labels.Labels) int {
	key := lineKey{e.T, e.Line}
	if l := s.known[key]; l != nil {
		l.Repeats++
		return 0
	}
	l := &Line{Tenant: s.tenant, Stream: s.labels, T: e.T, Text: e.Line, Metadata: metadata, Late: e.T < s.newest}
	s.known[key] = l
	s.lines = append(s.lines, l)
	s.newest = max(s.newest, e.T)
	return 1
}

// CheckStream parses the labels of a stream and returns them, or why Loki refuses the stream.
func CheckStream(text string, limits StreamLimits) (labels.Labels, error) {
	lset, err := ParseLabels(text)
	if err != nil {
		return lset, fmt.Errorf("error parsing labels '%s' with error: %w", text, err)
	}
	if lset.IsEmpty() {
		return lset, errors.New("error at least one label pair is required per stream")
	}
	count := lset.Len()
	if lset.Has("service_name") {
		count-- // Loki adds it by itself and so does not hold it against a client
	}
	if count > limits.MaxLabels {
		return lset, fmt.Errorf("entry for stream '%s' has %d label names; limit %d", text, count, limits.MaxLabels)
	}
	err = lset.Validate(func(l labels.Label) error {
		if len(l.Name) > limits.MaxNameLength {
			return fmt.Errorf("stream '%s' has label name too long: '%.100s'", text, l.Name)
		}
		if len(l.Value) > limits.MaxValueLength {
			return fmt.Errorf("stream '%s' has label value too long: '%.100s'", text, l.Value)
		}
		return nil
	})
	return lset, err
}

// CheckEntry returns the structured metadata of a line, or why Loki refuses the line: its
// age, its size, or its metadata.
func CheckEntry(stream string, e PushEntry, limits StreamLimits) (labels.Labels, error) {
	none := labels.EmptyLabels()
	now := time.Now()
	if oldest := now.Add(-limits.MaxAge); e.T < oldest.UnixNano() {
		return none, fmt.Errorf("entry for stream '%s' has timestamp too old: %s, oldest acceptable timestamp is: %s", stream, timeText(e.T), timeText(oldest.UnixNano()))
	}
	if e.T > now.Add(limits.MaxAhead).UnixNano() {
		return none, fmt.Errorf("entry for stream '%s' has timestamp too new: %s", stream, timeText(e.T))
	}
	if len(e.Line) > limits.MaxLineSize {
		return none, fmt.Errorf("Max entry size '%d' bytes exceeded for stream '%s' while adding an entry with length '%d' bytes", limits.MaxLineSize, stream, len(e.Line)) //nolint:staticcheck // Loki's words begin so
	}
	size, b := 0, labels.NewScratchBuilder(len(e.Metadata))
	seen := make(map[string]bool, len(e.Metadata))
	for _, p := range e.Metadata {
		if p.Name == "" || seen[p.Name] {
			return none, fmt.Errorf("stream '%s' has structured metadata with an empty or repeated name %q", stream, p.Name)
		}
		seen[p.Name] = true
		size += len(p.Name) + len(p.Value)
		b.Add(p.Name, p.Value)
	}
	if size > limits.MaxMetadataSize {
		return none, fmt.Errorf("stream '%s' has structured metadata too large: '%d' bytes, limit: '%d' bytes", stream, size, limits.MaxMetadataSize)
	}
	if len(e.Metadata) > limits.MaxMetadataCount {
		return none, fmt.Errorf("stream '%s' has too many structured metadata labels: '%d', limit: '%d'", stream, len(e.Metadata), limits.MaxMetadataCount)
	}
	b.Sort()
	return b.Labels(), nil
}

// timeText writes a time as Loki's answers do.
func timeText(nanos int64) string {
	return time.Unix(0, nanos).UTC().Format(time.RFC3339Nano)
}
