package sink

import (
	"context"
	"hash/maphash"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// staleBits are the bits of Prometheus' stale marker.
const staleBits = 0x7ff0000000000002

// message2 is how a request of remote write 2.0 names its content.
const message2 = "proto=io.prometheus.write.v2.Request"

// Metrics receives remote write 1.0 and 2.0. Its methods may be called from any goroutine.
type Metrics struct {
	*server
	seed maphash.Seed

	mu      sync.Mutex // guards what follows
	counts  MetricsCounts
	verify  bool
	verdict Verdict // Without Series and Open.
	series  map[uint64]seriesState
	reader2 reader2
}

// MetricsCounts is what arrived.
type MetricsCounts struct {
	Requests  int64
	Requests2 int64 // Of them in remote write 2.0.
	Wire      int64 // Bytes of bodies as they came.
	// Samples are those of expositions; Reports those a collector adds to each scrape (up and
	// scrape_*); Stale are the stale markers of both.
	Samples, Reports, Stale                int64
	Histograms, StaleHistograms, Exemplars int64
	Failed                                 int64  // Of Reports, up with the value 0.
	Bits                                   uint64 // The sum of the bits of Samples and of the sums of Histograms.
}

// Values is how many samples and histograms of expositions arrived.
func (c MetricsCounts) Values() int64 { return c.Samples + c.Histograms }

// Sub returns what arrived after earlier.
func (c MetricsCounts) Sub(earlier MetricsCounts) MetricsCounts {
	return MetricsCounts{
		c.Requests - earlier.Requests, c.Requests2 - earlier.Requests2, c.Wire - earlier.Wire,
		c.Samples - earlier.Samples, c.Reports - earlier.Reports, c.Stale - earlier.Stale,
		c.Histograms - earlier.Histograms, c.StaleHistograms - earlier.StaleHistograms, c.Exemplars - earlier.Exemplars, c.Failed - earlier.Failed, c.Bits - earlier.Bits,
	}
}

// seriesState is what verifying keeps of a series.
type seriesState struct {
	last  int64 // Timestamp, ms.
	ended bool  // The last sample was a stale marker.
}

// Verdict is what verifying found, in what is not a report. Counts are of samples and
// histograms but for Series and Open.
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
	m.forgive()
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

// take walks a request of either version. Nothing of a request that cannot be read is counted.
func (m *Metrics) take(r request, answer http.Header) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := m.counts
	counts.Requests++
	counts.Wire += int64(r.wire)
	second := strings.Contains(r.header.Get("Content-Type"), message2)
	var err error
	if second {
		counts.Requests2++
		err = m.request2(r.body, &counts)
	} else {
		err = m.request1(r.body, &counts)
	}
	if err != nil {
		return err
	}
	if second {
		d := counts.Sub(m.counts)
		written(answer, "Samples", d.Samples+d.Reports+d.Stale)
		written(answer, "Histograms", d.Histograms+d.StaleHistograms)
		written(answer, "Exemplars", d.Exemplars)
	}
	m.counts = counts
	return nil
}

// written answers how much of a kind was written, as remote write 2.0 demands.
func written(answer http.Header, kind string, n int64) {
	answer.Set("X-Prometheus-Remote-Write-"+kind+"-Written", strconv.FormatInt(n, 10))
}

// An origin tells whose samples are counted: labels are the label set as remote write 1.0 writes
// it, and needed for verifying only.
type origin struct {
	labels []byte
	report bool // The collector itself has made that metric.
	up     bool // It is the one that says whether a scrape succeeded.
}

// name notes the name of the metric.
func (o *origin) name(name []byte) {
	o.up = string(name) == "up"
	o.report = o.up || strings.HasPrefix(string(name), "scrape_")
}

// sample counts a message Sample, which is the same in both versions.
func (m *Metrics) sample(of origin, msg []byte, counts *MetricsCounts) error {
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
	case of.report:
		counts.Reports++
		if of.up && value == 0 {
			counts.Failed++
		}
	default:
		counts.Samples++
		counts.Bits += value
	}
	m.check(of, at, value == staleBits)
	return nil
}

// histogram counts a message Histogram, which in both versions has its sum and its timestamp
// in the same fields.
func (m *Metrics) histogram(of origin, msg []byte, counts *MetricsCounts) error {
	var sum uint64
	var at int64
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		switch f.id {
		case 3:
			sum = f.number
		case 15:
			at = int64(f.number)
		}
		msg = rest
	}
	if sum == staleBits {
		counts.StaleHistograms++
	} else {
		counts.Histograms++
		counts.Bits += sum
	}
	m.check(of, at, sum == staleBits)
	return nil
}

// check compares a sample with the one before it, when that is asked for.
func (m *Metrics) check(of origin, at int64, stale bool) {
	if !m.verify || of.report {
		return
	}
	series := maphash.Bytes(m.seed, of.labels)
	s, known := m.series[series]
	switch {
	case known && at == s.last:
		m.verdict.Repeats++
	case known && at < s.last:
		m.verdict.Disorder++
	}
	m.series[series] = seriesState{last: max(at, s.last), ended: stale}
}
