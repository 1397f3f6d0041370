package kit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// StreamLimits are what Loki refuses a request, a stream or a line for.
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
	MaxStreams       int           // streams of a tenant, more are answered 429
	MaxBody          int           // bytes of a request as sent, more are answered 413
}

// DefaultStreamLimits are Loki's defaults. MaxBehind is half of the age of a chunk.
func DefaultStreamLimits() StreamLimits {
	return StreamLimits{
		MaxLabels: 15, MaxNameLength: 1024, MaxValueLength: 2048,
		MaxLineSize: 256 << 10, MaxMetadataSize: 64 << 10, MaxMetadataCount: 128,
		MaxAge: 7 * 24 * time.Hour, MaxAhead: 10 * time.Minute, MaxBehind: time.Hour,
		MaxStreams: 5000, MaxBody: 100 << 20,
	}
}

// CheckStream returns why Loki refuses a stream with these labels, which it has parsed.
func CheckStream(text string, lset labels.Labels, limits StreamLimits) error {
	if lset.IsEmpty() {
		return errors.New("error at least one label pair is required per stream")
	}
	count := lset.Len()
	if lset.Has("service_name") {
		count-- // Loki adds it by itself and so does not hold it against a client
	}
	if count > limits.MaxLabels {
		return fmt.Errorf("entry for stream '%s' has %d label names; limit %d", text, count, limits.MaxLabels)
	}
	return lset.Validate(func(l labels.Label) error {
		if len(l.Name) > limits.MaxNameLength {
			return fmt.Errorf("stream '%s' has label name too long: '%s'", text, l.Name)
		}
		if len(l.Value) > limits.MaxValueLength {
			return fmt.Errorf("stream '%s' has label value too long: '%s'", text, l.Value)
		}
		return nil
	})
}

// CheckEntry returns the structured metadata of a line, or why Loki refuses the line: its
// age, its size, or its metadata.
func CheckEntry(stream string, e PushEntry, limits StreamLimits) (labels.Labels, error) {
	none := labels.EmptyLabels()
	now := time.Now()
	if oldest := now.Add(-limits.MaxAge); e.T < oldest.UnixNano() {
		return none, fmt.Errorf("entry for stream '%s' has timestamp too old: %s, oldest acceptable timestamp is: %s", stream, seconds(e.T), seconds(oldest.UnixNano()))
	}
	if e.T > now.Add(limits.MaxAhead).UnixNano() {
		return none, fmt.Errorf("entry for stream '%s' has timestamp too new: %s", stream, seconds(e.T))
	}
	if len(e.Line) > limits.MaxLineSize {
		return none, fmt.Errorf("max entry size '%d' bytes exceeded for stream '%s' while adding an entry with length '%d' bytes", limits.MaxLineSize, stream, len(e.Line))
	}
	if len(e.Metadata) == 0 {
		return none, nil
	}
	size, b := 0, labels.NewScratchBuilder(len(e.Metadata))
	seen := make(map[string]bool, len(e.Metadata))
	for _, p := range e.Metadata {
		// Loki answers 500 to an empty name and keeps one of two values; no client means either.
		if p.Name == "" || seen[p.Name] {
			return none, fmt.Errorf("stream '%s' has structured metadata with an empty or repeated name %q", stream, p.Name)
		}
		seen[p.Name] = true
		size += len(p.Name) + len(p.Value)
		b.Add(p.Name, p.Value)
	}
	if size > limits.MaxMetadataSize {
		return none, fmt.Errorf("stream '%s' has structured metadata too large: '%d' bytes, limit: '%d' bytes. Please see `limits_config.max_structured_metadata_size` or contact your Loki administrator to increase it", stream, size, limits.MaxMetadataSize)
	}
	if len(e.Metadata) > limits.MaxMetadataCount {
		return none, fmt.Errorf("stream '%s' has too many structured metadata labels: '%d', limit: '%d'. Please see `limits_config.max_structured_metadata_entries_count` or contact your Loki administrator to increase it", stream, len(e.Metadata), limits.MaxMetadataCount)
	}
	b.Sort()
	return b.Labels(), nil
}

// grouped puts the reasons of a distributor together as Loki does: each once, with how often
// it came unless it is the only one. Loki's order is that of a map; here it is sorted.
func grouped(reasons []string) string {
	count := make(map[string]int)
	for _, r := range reasons {
		count[r]++
	}
	var parts []string
	for r, n := range count {
		if len(count) > 1 || n > 1 {
			r = fmt.Sprintf("%d errors like: %s", n, r)
		}
		parts = append(parts, r)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// seconds writes a time as Loki's answers do.
func seconds(nanos int64) string {
	return time.Unix(0, nanos).UTC().Format(time.RFC3339)
}

// timeText writes a time in full.
func timeText(nanos int64) string {
	return time.Unix(0, nanos).UTC().Format(time.RFC3339Nano)
}
