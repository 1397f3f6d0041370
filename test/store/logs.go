package store

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// logStore keeps the newest lines of all tenants within a number of bytes.
type logStore struct {
	max int

	mu      sync.Mutex // guards the rest
	bytes   int
	streams map[streamKey]*stream
	arrived []*stream // one element a line: whose oldest line goes next
}

type streamKey struct{ tenant, labels string }

type stream struct {
	key     streamKey
	labels  labels.Labels
	entries []entry // by time
}

type entry struct {
	t        int64 // nanoseconds since the Unix epoch
	line     string
	metadata labels.Labels
}

// size is about what an entry occupies.
func (e entry) size() int {
	const overhead = 64
	return overhead + len(e.line) + len(e.metadata.String())
}

func newLogStore(maxBytes int) *logStore {
	return &logStore{max: maxBytes, streams: make(map[streamKey]*stream)}
}

// pushLogs stores a Loki push. As Loki does, it answers 400 about the lines it refuses while
// it stores the others.
func (s *Store) pushLogs(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	streams, err := kit.DecodePush(r.Header, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if refused := s.logs.push(tenantName(r), streams); len(refused) > 0 {
		http.Error(w, strings.Join(refused, "\n"), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// push stores lines and returns why it refused others.
func (l *logStore) push(tenant string, streams []kit.PushStream) (refused []string) {
	limits := kit.DefaultStreamLimits()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, in := range streams {
		lset, err := kit.ParseLabels(in.Labels)
		if err != nil {
			err = fmt.Errorf("error parsing labels '%s' with error: %w", in.Labels, err)
		} else {
			err = kit.CheckStream(in.Labels, lset, limits)
		}
		if err != nil {
			refused = append(refused, err.Error())
			continue
		}
		key := streamKey{tenant, lset.String()}
		for _, e := range in.Entries {
			metadata, err := kit.CheckEntry(key.labels, e, limits)
			if err != nil {
				refused = append(refused, err.Error())
				continue
			}
			st := l.streams[key]
			if st == nil {
				st = &stream{key: key, labels: lset}
				l.streams[key] = st
			}
			if n := len(st.entries); n > 0 && e.T < st.entries[n-1].t-limits.MaxBehind.Nanoseconds() {
				refused = append(refused, fmt.Sprintf("entry too far behind, entry timestamp is: %s, stream: %s",
					time.Unix(0, e.T).UTC().Format(time.RFC3339Nano), key.labels))
				continue
			}
			l.add(st, entry{t: e.T, line: e.Line, metadata: metadata})
		}
	}
	l.evict()
	return refused
}

// add inserts a line by its time; one equal in time and text is dropped, as Loki does. The
// caller holds mu.
func (l *logStore) add(st *stream, e entry) {
	at := len(st.entries)
	for at > 0 && st.entries[at-1].t > e.t {
		at--
	}
	for i := at; i > 0 && st.entries[i-1].t == e.t; i-- {
		if st.entries[i-1].line == e.line {
			return
		}
	}
	st.entries = slices.Insert(st.entries, at, e)
	l.arrived = append(l.arrived, st)
	l.bytes += e.size()
}

// evict removes the oldest lines until the rest fits. The caller holds mu.
func (l *logStore) evict() {
	for l.bytes > l.max && len(l.arrived) > 0 {
		st := l.arrived[0]
		l.arrived = l.arrived[1:]
		l.bytes -= st.entries[0].size()
		st.entries = st.entries[1:]
		if len(st.entries) == 0 {
			delete(l.streams, st.key)
		}
	}
}

// match is one line that a query has found.
type match struct {
	entry
	labels labels.Labels // of the stream and the line's metadata, as Loki shows them
}

// find returns the lines of a tenant within [start, end) that the query matches, at most
// limit of them from the newest backward, or from the oldest when forward is set.
func (l *logStore) find(tenant string, q logQuery, start, end int64, limit int, forward bool) []match {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []match
	for _, st := range l.streams {
		if st.key.tenant != tenant || !q.matchesStream(st.labels) {
			continue
		}
		for _, e := range st.entries {
			if e.t >= start && e.t < end && q.matchesLine(e.line) {
				found = append(found, match{e, st.labels})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.t, b.t), labels.Compare(a.labels, b.labels))
	})
	if !forward {
		slices.Reverse(found)
	}
	found = found[:min(limit, len(found))]
	for i := range found {
		b := labels.NewBuilder(found[i].labels)
		found[i].metadata.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		found[i].labels = b.Labels()
	}
	return found
}
