package kit

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// MetricsPath is where a [MetricsReceiver] takes pushes.
const MetricsPath = "/api/v1/push"

// MetricsConfig says how strict a [MetricsReceiver] is; the zero value has Mimir's defaults.
type MetricsConfig struct {
	// RequireTenant refuses requests without X-Scope-OrgID with 401.
	RequireTenant bool
	// Limits are the limits of a series; zero means [DefaultSeriesLimits].
	Limits SeriesLimits
	// MaxBytes is the largest request, decoded; above, it is refused with TooLarge and nothing
	// is stored. 0 means 100 MiB.
	MaxBytes int
	// TooLarge is the code of that refusal. 0 means 400, as with Mimir; proxies answer 413.
	TooLarge int
	// MaxBehind is how far a sample may lie behind the newest of its tenant. 0 means an hour,
	// the lower half of the two-hour head block of a TSDB without an out-of-order window.
	MaxBehind time.Duration
	// MaxAhead is how far a sample may lie in the future. 0 means 10 minutes.
	MaxAhead time.Duration
	// Messages are those that are taken; any other is answered with 415. None means
	// version 1.0 alone.
	Messages []Message
	// Histograms takes native histograms; they are refused without it.
	Histograms bool
}

// MetricsReceiver is an honest Prometheus remote write server in Mimir's place, of version 1.0
// and where asked for 2.0, with an out-of-order window of zero. It refuses with 400 what Mimir refuses and stores the rest of
// the same request; a sample equal to the newest of its series is accepted silently and
// counted as repeated. Its ledger is the set of (tenant, series, time, value).
type MetricsReceiver struct {
	*receiver

	cfg MetricsConfig

	mu      sync.Mutex // guards the rest
	tenants map[string]*metricsTenant
	refused []RefusedSample
}

// Sample is one value of a series. T is milliseconds since the Unix epoch, Start the time
// since which a counter counts, 0 when it is not given, as always with version 1.0.
type Sample struct {
	T     int64
	V     float64
	Start int64
}

// Same tells whether two samples are bit for bit the same, which NaNs are not by ==.
func (s Sample) Same(o Sample) bool {
	return s.T == o.T && math.Float64bits(s.V) == math.Float64bits(o.V)
}

// Stale tells whether the sample is Prometheus' staleness marker.
func (s Sample) Stale() bool {
	return math.Float64bits(s.V) == staleNaN
}

// staleNaN is the signalling NaN with which Prometheus ends a series.
const staleNaN = 0x7ff0000000000002

// Series is one series of the ledger with its samples in the order of arrival, which is the
// order of time, since anything else is refused.
type Series struct {
	Tenant   string
	Labels   labels.Labels
	Samples  []Sample
	Repeated []Sample // accepted again, one element an arrival

	Histograms []Histogram
	Exemplars  []Exemplar
	Metadata   Metadata // the last that came with the series, as version 2.0 sends it

	newest int64 // the time of the newest sample or histogram
}

// Exemplar is one exemplar of a series that was accepted.
type Exemplar struct {
	Labels labels.Labels
	V      float64
	T      int64
}

// RefusedSample is one sample that was refused by itself, for its time.
type RefusedSample struct {
	Tenant string
	Labels labels.Labels
	Sample Sample
	Reason string
	// Known means that the ledger holds this very sample: it is a repeat after a crash or
	// after a lost answer, which a zero window refuses, and nothing is lost or out of order.
	Known bool
}

type metricsTenant struct {
	series   map[string]*Series
	families map[string]Metadata // of version 1.0
	newest   int64
}

// NewMetricsReceiver returns a receiver that is down; see [Server.Up].
func NewMetricsReceiver(cfg MetricsConfig) *MetricsReceiver {
	if cfg.Limits == (SeriesLimits{}) {
		cfg.Limits = DefaultSeriesLimits()
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 100 << 20
	}
	if cfg.MaxBehind == 0 {
		cfg.MaxBehind = time.Hour
	}
	if len(cfg.Messages) == 0 {
		cfg.Messages = []Message{Message1}
	}
	if cfg.MaxAhead == 0 {
		cfg.MaxAhead = 10 * time.Minute
	}
	r := &MetricsReceiver{cfg: cfg, tenants: make(map[string]*metricsTenant)}
	r.receiver = newReceiver(MetricsPath, cfg.RequireTenant, r.accept)
	return r
}

// StartMetrics starts a receiver that ends with the test.
func StartMetrics(tb testing.TB, cfg MetricsConfig) *MetricsReceiver {
	tb.Helper()
	r := NewMetricsReceiver(cfg)
	if err := r.Up(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Down)
	return r
}

// accept stores one request; the first refusal is the answer, as with Mimir.
func (r *MetricsReceiver) accept(tenant string, h http.Header, body []byte) answer {
	message, err := MessageOf(h)
	if err == nil && !slices.Contains(r.cfg.Messages, message) {
		err = fmt.Errorf("%w: message %s is not taken here", errMediaType, message)
	}
	if err != nil {
		return answer{status: http.StatusUnsupportedMediaType, text: err.Error()}
	}
	req, err := DecodeWrite(h, body)
	if err != nil {
		return answer{status: http.StatusBadRequest, text: err.Error()}
	}
	if req.Size > r.cfg.MaxBytes {
		return answer{status: cmp.Or(r.cfg.TooLarge, http.StatusBadRequest), text: fmt.Sprintf(
			"the request of %d bytes is over the limit of %d bytes (err-mimir-distributor-max-write-message-size)", req.Size, r.cfg.MaxBytes)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tenants[tenant]
	if t == nil {
		t = &metricsTenant{series: make(map[string]*Series), families: make(map[string]Metadata), newest: math.MinInt64}
		r.tenants[tenant] = t
	}
	ans := answer{status: http.StatusOK}
	if req.Message == Message2 {
		ans.written = new(Written)
	}
	refuse := func(err error) {
		if ans.status == http.StatusOK {
			ans.status, ans.text = http.StatusBadRequest, err.Error()
		}
	}
	for _, f := range req.Families {
		t.families[f.Name] = f.Metadata
	}
	for _, ts := range req.Series {
		lset, err := CheckSeries(ts.Labels, r.cfg.Limits)
		if err != nil {
			refuse(err)
			continue
		}
		stored, written := r.store(t, tenant, lset, ts, refuse)
		ans.items += stored
		if ans.written != nil {
			ans.written.add(written)
		}
	}
	return ans
}

// store adds what came for one series and returns how many samples and histograms were new,
// and how many of each kind were taken. The caller holds mu.
func (r *MetricsReceiver) store(t *metricsTenant, tenant string, lset labels.Labels, ts WriteSeries, refuse func(error)) (stored int, written Written) {
	key := lset.String()
	s := t.series[key]
	fresh := s == nil
	if fresh {
		s = &Series{Tenant: tenant, Labels: lset, newest: math.MinInt64}
	}
	deny := func(sample Sample, known bool, reason string) {
		r.refused = append(r.refused, RefusedSample{Tenant: tenant, Labels: lset, Sample: sample, Reason: reason, Known: known})
		refuse(fmt.Errorf("the sample at %d has been refused: %s, series: %s", sample.T, reason, key))
	}
	for _, sample := range ts.Samples {
		last := s.last()
		switch reason := r.verdict(t, s.newest, last != nil && last.Same(sample), sample.T); {
		case reason != "":
			deny(sample, s.has(sample), reason)
		case s.newest == sample.T:
			s.Repeated = append(s.Repeated, sample)
			written.Samples++
		default:
			s.Samples = append(s.Samples, sample)
			s.newest, t.newest = sample.T, max(t.newest, sample.T)
			stored++
			written.Samples++
		}
	}
	for _, h := range ts.Histograms {
		same := len(s.Histograms) > 0 && s.Histograms[len(s.Histograms)-1].Same(h)
		reason := r.verdict(t, s.newest, same, h.T)
		if !r.cfg.Histograms {
			reason = "native histograms are not taken here"
		} else if err := h.validate(); err != nil {
			reason = err.Error()
		}
		switch {
		case reason != "":
			deny(Sample{T: h.T, V: h.Sum()}, same, reason)
		default:
			if s.newest != h.T {
				s.Histograms = append(s.Histograms, h)
				s.newest, t.newest = h.T, max(t.newest, h.T)
				stored++
			}
			written.Histograms++
		}
	}
	if fresh && stored == 0 {
		return 0, written
	}
	t.series[key] = s
	if ts.Metadata != (Metadata{}) {
		s.Metadata = ts.Metadata
	}
	written.Exemplars = s.storeExemplars(ts.Exemplars, refuse)
	return stored, written
}

// has tells whether the series holds the sample; its samples are in the order of time.
func (s *Series) has(sample Sample) bool {
	i, found := slices.BinarySearchFunc(s.Samples, sample.T, func(o Sample, t int64) int { return cmp.Compare(o.T, t) })
	return found && s.Samples[i].Same(sample)
}

// verdict returns why a sample or histogram is refused for its time, "" when it is accepted:
// newer than the newest of its series, or the same as that.
func (r *MetricsReceiver) verdict(t *metricsTenant, newest int64, same bool, at int64) string {
	switch {
	case at > time.Now().Add(r.cfg.MaxAhead).UnixMilli():
		return fmt.Sprintf("it lies more than %s in the future (err-mimir-too-far-in-future)", r.cfg.MaxAhead)
	case newest == at && same:
		return ""
	case newest == at:
		return "the series has another value for this time (err-mimir-sample-duplicate-timestamp)"
	case newest > at:
		return fmt.Sprintf("it is older than the newest of its series, %d, and the out-of-order window is 0 (err-mimir-sample-out-of-order)", newest)
	case t.newest != math.MinInt64 && at < t.newest-r.cfg.MaxBehind.Milliseconds():
		return fmt.Sprintf("it lies more than %s behind the newest of the tenant (err-mimir-sample-timestamp-too-old)", r.cfg.MaxBehind)
	}
	return ""
}

// last returns the newest sample, nil when there is none.
func (s *Series) last() *Sample {
	if len(s.Samples) == 0 {
		return nil
	}
	return &s.Samples[len(s.Samples)-1]
}
