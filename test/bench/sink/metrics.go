package sink

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// staleBits are the bits of Prometheus' stale marker.
const staleBits = 0x7ff0000000000002

// Metrics receives remote write 1.0. Its methods may be called from any goroutine.
type Metrics struct {
	*server
	seed maphash.Seed

	mu      sync.Mutex // guards what follows
	counts  MetricsCounts
	verify  bool
	verdict Verdict // Without Series and Open.
	series  map[uint64]seriesState
}

// MetricsCounts is what arrived.
type MetricsCounts struct {
	Requests int64
	Wire     int64 // Bytes of bodies as they came.
	// Samples are those of expositions; Reports those a collector adds to each scrape (up and
	// scrape_*); Stale are the stale markers of both.
	Samples, Reports, Stale int64
	Bits                    uint64 // The sum of the bits of Samples.
}

// Sub returns what arrived after earlier.
func (c MetricsCounts) Sub(earlier MetricsCounts) MetricsCounts {
	return MetricsCounts{
		c.Requests - earlier.Requests, c.Wire - earlier.Wire,
		c.Samples - earlier.Samples, c.Reports - earlier.Reports, c.Stale - earlier.Stale, c.Bits - earlier.Bits,
	}
}

// seriesState is what verifying keeps of a series.
type seriesState struct {
	last  int64 // Timestamp, ms.
	ended bool  // The last sample was a stale marker.
}

// Verdict is what verifying found, in what is not a report. Counts are of samples but for
// Series and Open.
type Verdict struct {
	Series   int
	Repeats  int64 // Have the timestamp of the sample before.
	Disorder int64 // Are older than the sample before.
	Open     int   // Series whose last sample is not a stale marker.
}

// StartMetrics starts a receiver. The caller must call Close.
func StartMetrics(ctx context.Context) (*Metrics, error) {
	m := &Metrics{seed: maphash.MakeSeed()}
	var err error
	m.server, err = newServer(ctx, "/api/v1/write", m.take)
	return m, err
}

// Reset forgets what arrived and starts to verify, or ends it.
func (m *Metrics) Reset(verify bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts, m.verify = MetricsCounts{}, verify
	m.verdict, m.series = Verdict{}, map[uint64]seriesState{}
}

// Counts returns what arrived since the last Reset.
func (m *Metrics) Counts() MetricsCounts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts
}

// Verdict returns what verifying found since the last Reset. Series that own their timestamps
// get no stale marker, so the caller knows how many of Open are right.
func (m *Metrics) Verdict() Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.verdict
	v.Series = len(m.series)
	for _, s := range m.series {
		if !s.ended {
			v.Open++
		}
	}
	return v
}

// take walks a WriteRequest.
func (m *Metrics) take(body []byte, wire int, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := m.counts
	for len(body) > 0 {
		f, rest, err := take(body)
		if err != nil {
			return err
		}
		if f.id == 1 {
			if err := m.timeSeries(f.bytes, &counts); err != nil {
				return err
			}
		}
		body = rest
	}
	counts.Requests++
	counts.Wire += int64(wire)
	m.counts = counts
	return nil
}

// timeSeries walks a TimeSeries: its labels, then its samples.
func (m *Metrics) timeSeries(msg []byte, counts *MetricsCounts) error {
	labels, report, named := msg, false, false
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			if !named {
				if named, report, err = reportName(f.bytes); err != nil {
					return err
				}
			}
		case 2:
			if err := m.sample(labels[:len(labels)-len(msg)], f.bytes, report, counts); err != nil {
				return err
			}
		}
		msg = rest
	}
	return nil
}

// reportName says whether a label is the name of the metric, and whether the collector itself
// has made that metric.
func reportName(label []byte) (isName, report bool, err error) {
	name, rest, err := take(label)
	if err != nil || string(name.bytes) != "__name__" || len(rest) == 0 {
		return false, false, err
	}
	value, _, err := take(rest)
	return true, string(value.bytes) == "up" || bytes.HasPrefix(value.bytes, []byte("scrape_")), err
}

func (m *Metrics) sample(labels, msg []byte, report bool, counts *MetricsCounts) error {
	var value uint64
	var at int64
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			value = f.number
		case 2:
			at = int64(f.number)
		}
		msg = rest
	}
	switch {
	case value == staleBits:
		counts.Stale++
	case report:
		counts.Reports++
	default:
		counts.Samples++
		counts.Bits += value
	}
	if m.verify && !report {
		m.check(maphash.Bytes(m.seed, labels), at, value == staleBits)
	}
	return nil
}

func (m *Metrics) check(series uint64, at int64, stale bool) {
	s, known := m.series[series]
	switch {
	case known && at == s.last:
		m.verdict.Repeats++
	case known && at < s.last:
		m.verdict.Disorder++
	}
	m.series[series] = seriesState{last: max(at, s.last), ended: stale}
}
