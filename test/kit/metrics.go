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
	"github.com/prometheus/prometheus/prompb"
)

// MetricsPath is where a [MetricsReceiver] takes pushes.
const MetricsPath = "/api/v1/push"

// MetricsConfig says how strict a [MetricsReceiver] is; the zero value has Mimir's defaults.
type MetricsConfig struct {
	// RequireTenant refuses requests without X-Scope-OrgID with 401.
	RequireTenant bool
	// Limits are the limits of a series; zero means [DefaultSeriesLimits].
	Limits SeriesLimits
	// MaxBytes is the largest request, decoded; above, 400 and nothing is stored. 0 means 100 MiB.
	MaxBytes int
	// MaxBehind is how far a sample may lie behind the newest of its tenant. 0 means an hour,
	// the lower half of the two-hour head block of a TSDB without an out-of-order window.
	MaxBehind time.Duration
	// MaxAhead is how far a sample may lie in the future. 0 means 10 minutes.
	MaxAhead time.Duration
}

// MetricsReceiver is an honest Prometheus remote write 1.0 server in Mimir's place, with an
// out-of-order window of zero. It refuses with 400 what Mimir refuses and stores the rest of
// the same request; a sample equal to the newest of its series is accepted silently and
// counted as repeated. Its ledger is the set of (tenant, series, time, value).
type MetricsReceiver struct {
	*receiver

	cfg MetricsConfig

	mu      sync.Mutex // guards the rest
	tenants map[string]*metricsTenant
	refused []RefusedSample
}

// Sample is one value of a series; T is milliseconds since the Unix epoch.
type Sample struct {
	T int64
	V float64
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
	series map[string]*Series
	newest int64
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
	req, err := DecodeWrite(h, body)
	if err != nil {
		return answer{status: http.StatusBadRequest, text: err.Error()}
	}
	if size := req.Size(); size > r.cfg.MaxBytes {
		return answer{status: http.StatusBadRequest, text: fmt.Sprintf(
			"the request of %d bytes is over the limit of %d bytes (err-mimir-distributor-max-write-message-size)", size, r.cfg.MaxBytes)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tenants[tenant]
	if t == nil {
		t = &metricsTenant{series: make(map[string]*Series), newest: math.MinInt64}
		r.tenants[tenant] = t
	}
	ans := answer{status: http.StatusOK}
	refuse := func(err error) {
		if ans.status == http.StatusOK {
			ans.status, ans.text = http.StatusBadRequest, err.Error()
		}
	}
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		lset, err := CheckSeries(ts, r.cfg.Limits)
		if err != nil {
			refuse(err)
			continue
		}
		if len(ts.Histograms) > 0 {
			refuse(fmt.Errorf("native histograms are not taken here, series: %s", lset))
		}
		ans.items += r.store(t, tenant, lset, ts.Samples, refuse)
	}
	return ans
}

// store adds the samples of one series and returns how many were new. The caller holds mu.
func (r *MetricsReceiver) store(t *metricsTenant, tenant string, lset labels.Labels, samples []prompb.Sample, refuse func(error)) int {
	key := lset.String()
	s := t.series[key]
	stored := 0
	for _, in := range samples {
		sample := Sample{T: in.Timestamp, V: in.Value}
		var newest *Sample
		if s != nil {
			newest = &s.Samples[len(s.Samples)-1]
		}
		switch reason := r.verdict(t, newest, sample); {
		case reason == "" && newest != nil && newest.T == sample.T:
			s.Repeated = append(s.Repeated, sample)
		case reason == "":
			if s == nil {
				s = &Series{Tenant: tenant, Labels: lset}
				t.series[key] = s
			}
			s.Samples = append(s.Samples, sample)
			t.newest = max(t.newest, sample.T)
			stored++
		default:
			known := s != nil && s.has(sample)
			r.refused = append(r.refused, RefusedSample{Tenant: tenant, Labels: lset, Sample: sample, Reason: reason, Known: known})
			refuse(fmt.Errorf("the sample at %d has been refused: %s, series: %s", sample.T, reason, key))
		}
	}
	return stored
}

// has tells whether the series holds the sample; its samples are in the order of time.
func (s *Series) has(sample Sample) bool {
	i, found := slices.BinarySearchFunc(s.Samples, sample.T, func(o Sample, t int64) int { return cmp.Compare(o.T, t) })
	return found && s.Samples[i].Same(sample)
}

// verdict returns why a sample is refused for its time, "" when it is accepted: newer than
// the newest of its series, or equal to it.
func (r *MetricsReceiver) verdict(t *metricsTenant, newest *Sample, sample Sample) string {
	switch {
	case sample.T > time.Now().Add(r.cfg.MaxAhead).UnixMilli():
		return fmt.Sprintf("it lies more than %s in the future (err-mimir-too-far-in-future)", r.cfg.MaxAhead)
	case newest != nil && newest.Same(sample):
		return ""
	case newest != nil && newest.T == sample.T:
		return "the series has another value for this time (err-mimir-sample-duplicate-timestamp)"
	case newest != nil && newest.T > sample.T:
		return fmt.Sprintf("it is older than the newest of its series, %d, and the out-of-order window is 0 (err-mimir-sample-out-of-order)", newest.T)
	case t.newest != math.MinInt64 && sample.T < t.newest-r.cfg.MaxBehind.Milliseconds():
		return fmt.Sprintf("it lies more than %s behind the newest of the tenant (err-mimir-sample-timestamp-too-old)", r.cfg.MaxBehind)
	}
	return ""
}
