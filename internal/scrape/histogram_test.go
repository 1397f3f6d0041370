package scrape

import (
	"bytes"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// exponential returns a histogram with a bucket for each count, apart by gaps.
func exponential(schema int32, counts ...int64) *histogram.Histogram {
	h := &histogram.Histogram{Schema: schema, ZeroThreshold: 1e-128, ZeroCount: 3, Count: 3, Sum: 12.5}
	last := int64(0)
	for i, n := range counts {
		h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: int32(2 * (i % 2)), Length: 1})
		h.PositiveBuckets = append(h.PositiveBuckets, n-last)
		h.Count += uint64(n)
		last = n
	}
	return h
}

func customBuckets(n int) *histogram.Histogram {
	h := &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Sum: 3, PositiveSpans: []histogram.Span{{Length: uint32(n)}}}
	for i := range n {
		h.CustomValues = append(h.CustomValues, float64(i)/10)
		h.PositiveBuckets = append(h.PositiveBuckets, 1)
		h.Count += uint64(i) + 1
	}
	return h
}

func TestHistogramsHaveTheWireFormOfRemoteWrite(t *testing.T) {
	var all []*histogram.Histogram
	all = append(all, exponential(3, 1, 500, 2, 70_000), exponential(0), customBuckets(3))
	both := exponential(-2, 9, 8)
	both.NegativeSpans = []histogram.Span{{Offset: -70_000, Length: 2}, {Offset: 5, Length: 1}}
	both.NegativeBuckets, both.Count = []int64{1, 0, 1}, both.Count+4
	both.CounterResetHint = histogram.GaugeType
	nan := exponential(1, 1)
	nan.Sum, nan.Count = math.NaN(), nan.Count+1
	all = append(all, both, nan)
	for _, h := range all {
		m := writev2.FromIntHistogram(0, h)
		want, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, custom, err := appendNative([]byte("x"), h.Copy(), nil)
		if err != nil || !bytes.Equal(got[1:], want) || custom != h.UsesCustomBuckets() {
			t.Errorf("%s is\n%x, custom %v, %v, want\n%x", h, got[1:], custom, err, want)
		}
		fh := h.ToFloat(nil)
		m = writev2.FromFloatHistogram(0, fh)
		if want, err = m.Marshal(); err != nil {
			t.Fatal(err)
		}
		if got, _, err = appendNative(nil, nil, fh); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s as floats is\n%x, %v, want\n%x", h, got, err, want)
		}
	}
}

// limited returns the wire form of a histogram within limits.
func limited(limits histogramLimits, h *histogram.Histogram, fh *histogram.FloatHistogram) (wire []byte, err error) {
	if err = limits.reduce(h, fh); err != nil {
		return nil, err
	}
	wire, _, err = appendNative(nil, h, fh)
	return wire, err
}

func TestHistogramsAreMadeCoarserToKeepTheLimits(t *testing.T) {
	f := func(name string, limits histogramLimits, h *histogram.Histogram, wantSchema int32, wantBuckets int) {
		t.Helper()
		for _, floats := range []bool{false, true} {
			ints, fh := h.Copy(), (*histogram.FloatHistogram)(nil)
			if floats {
				ints, fh = nil, h.ToFloat(nil)
			}
			wire, err := limited(limits, ints, fh)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var m writev2.Histogram
			if err := m.Unmarshal(wire); err != nil {
				t.Fatal(err)
			}
			if n := len(m.PositiveDeltas) + len(m.PositiveCounts); m.Schema != wantSchema || n != wantBuckets {
				t.Errorf("%s: schema %d with %d buckets, want %d with %d", name, m.Schema, n, wantSchema, wantBuckets)
			}
		}
	}
	h := exponential(3, 1, 2, 3, 4, 5, 6) // In the buckets 0, 3, 4, 7, 8 and 11; half of that, rounded up, one schema below.
	f("no limit", histogramLimits{maxSchema: 8}, h, 3, 6)
	f("schema", histogramLimits{maxSchema: 2}, h, 2, 4)
	f("buckets", histogramLimits{buckets: 3, maxSchema: 8}, h, 0, 3)
	f("both", histogramLimits{buckets: 5, maxSchema: 1}, h, 1, 4)
	f("custom", histogramLimits{buckets: 5, maxSchema: -4}, customBuckets(5), histogram.CustomBucketsSchema, 5)
}

func TestHistogramsThatCannotKeepTheLimitsFail(t *testing.T) {
	f := func(name string, limits histogramLimits, h *histogram.Histogram, reason string) {
		t.Helper()
		if _, err := limited(limits, h.Copy(), nil); err == nil || reasonOf(err) != reason {
			t.Errorf("%s: %v, want an error of class %s", name, err, reason)
		}
		if _, err := limited(limits, nil, h.ToFloat(nil)); err == nil || reasonOf(err) != reason {
			t.Errorf("%s as floats: %v, want an error of class %s", name, err, reason)
		}
	}
	two := exponential(0, 1)
	two.NegativeSpans, two.NegativeBuckets, two.Count = []histogram.Span{{Length: 1}}, []int64{1}, two.Count+1
	f("two signs", histogramLimits{buckets: 1, maxSchema: 8}, two, reasonBucketLimit)
	f("custom", histogramLimits{buckets: 4, maxSchema: 8}, customBuckets(5), reasonBucketLimit)
	wrong := exponential(0, 5)
	wrong.PositiveSpans[0].Length = 2
	f("spans without buckets", histogramLimits{maxSchema: 8}, wrong, reasonParse)
}

func TestBucketFactorsAreThoseOfPrometheus(t *testing.T) {
	for factor, want := range map[float64]int32{0: 8, 1: 8, 1.00271: 8, 1.01: 6, 1.1: 2, 1.5: 0, 2: 0, 4: -1, 65536: -4, 1e300: -4} {
		if got := finestSchema(factor); got != want {
			t.Errorf("factor %v gives schema %d, want %d", factor, got, want)
		}
	}
}
