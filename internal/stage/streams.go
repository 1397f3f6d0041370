package stage

import "github.com/ingot-telemetry/ingot/internal/model"

// Streams puts entries together that have the same labels and metadata, in the order in which
// they were added, for a [model.LogBatch]. The zero value is ready. It keeps its memory from
// one batch to the next.
type Streams struct {
	list  []model.Stream
	index map[streamKey]int
	last  int // where the last entry went
}

type streamKey struct{ labels, metadata model.Labels }

// Add adds an entry, whose line it does not copy.
func (s *Streams) Add(e *Entry) {
	if len(s.list) == 0 || s.list[s.last].Labels != e.Labels || s.list[s.last].Metadata != e.Metadata {
		s.last = s.find(streamKey{e.Labels, e.Metadata})
	}
	to := &s.list[s.last]
	to.Entries = append(to.Entries, model.Entry{T: e.T, Line: e.Line})
}

// find returns the place of a stream, a new one if need be.
func (s *Streams) find(key streamKey) int {
	if i, ok := s.index[key]; ok {
		return i
	}
	i := len(s.list)
	if i < cap(s.list) {
		s.list = s.list[:i+1] // With the memory of an earlier batch.
	} else {
		s.list = append(s.list, model.Stream{})
	}
	s.list[i].Labels, s.list[i].Metadata = key.labels, key.metadata
	if s.index == nil {
		s.index = make(map[streamKey]int)
	}
	s.index[key] = i
	return i
}

// List returns the streams, valid until the next Add or Reset.
func (s *Streams) List() []model.Stream { return s.list }

// keptEntries and keptStreams bound the memory that stays for the next batch.
const (
	keptEntries = 1024
	keptStreams = 64
)

// Reset empties the streams.
func (s *Streams) Reset() {
	for i := range s.list {
		entries := s.list[i].Entries
		clear(entries)
		if cap(entries) > keptEntries && len(s.list) > 1 {
			entries = nil
		}
		s.list[i] = model.Stream{Entries: entries[:0]}
	}
	if len(s.list) > keptStreams {
		s.list = nil
	}
	s.list, s.last = s.list[:0], 0
	clear(s.index)
}
