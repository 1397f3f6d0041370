package scrape

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// histogramLimits is how fine native histograms may be.
type histogramLimits struct {
	buckets   int   // How many buckets; 0 is no limit.
	maxSchema int32 // The finest schema.
}

// newHistogramLimits returns the limits of a job.
func newHistogramLimits(cfg *JobConfig) histogramLimits {
	return histogramLimits{int(cfg.NativeHistogramBucketLimit), finestSchema(cfg.NativeHistogramMinBucketFactor)}
}

// finestSchema returns the finest schema whose buckets grow at least by factor, as Prometheus
// picks it: 2^(2^-schema) is the growth.
func finestSchema(factor float64) int32 {
	if factor <= 1 {
		return histogram.ExponentialSchemaMax
	}
	schema := math.Floor(-math.Log2(math.Log2(factor)))
	return int32(min(max(schema, float64(histogram.ExponentialSchemaMin)), float64(histogram.ExponentialSchemaMax)))
}

// reduce makes a native histogram, the one of both that is not nil, coarser until it keeps the
// limits. One that cannot fails the scrape, as in Prometheus.
func (l histogramLimits) reduce(h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	if h != nil {
		return l.apply(h.Schema, func() int { return len(h.PositiveBuckets) + len(h.NegativeBuckets) }, h.ReduceResolution)
	}
	return l.apply(fh.Schema, func() int { return len(fh.PositiveBuckets) + len(fh.NegativeBuckets) }, fh.ReduceResolution)
}

// appendNative appends the wire form of a native histogram, the one of both that is not nil, as
// [model.Sample] describes it, and says whether its buckets are custom. One that Prometheus'
// storage would refuse fails the scrape.
func appendNative(dst []byte, h *histogram.Histogram, fh *histogram.FloatHistogram) (_ []byte, custom bool, err error) {
	if h != nil {
		if err := h.Validate(); err != nil {
			return dst, false, fail(reasonParse, "a native histogram is not valid: %w", err)
		}
		return appendHistogram(dst, h), h.UsesCustomBuckets(), nil
	}
	if err := fh.Validate(); err != nil {
		return dst, false, fail(reasonParse, "a native histogram is not valid: %w", err)
	}
	return appendFloatHistogram(dst, fh), fh.UsesCustomBuckets(), nil
}

// apply reduces the resolution of a histogram, first to the finest schema that is allowed,
// then until there are few enough buckets.
func (l histogramLimits) apply(schema int32, buckets func() int, reduce func(int32) error) error {
	coarser := func(to int32) error {
		if err := reduce(to); err != nil {
			return fail(reasonParse, "reduce the resolution of a native histogram: %w", err)
		}
		schema = to
		return nil
	}
	if histogram.IsExponentialSchemaReserved(schema) && schema > l.maxSchema {
		if err := coarser(l.maxSchema); err != nil {
			return err
		}
	}
	for l.buckets > 0 && buckets() > l.buckets {
		if !histogram.IsExponentialSchema(schema) || schema <= histogram.ExponentialSchemaMin {
			return fail(reasonBucketLimit, "native_histogram_bucket_limit exceeded: a histogram has %d buckets at its lowest resolution, limit is %d", buckets(), l.buckets)
		}
		if err := coarser(schema - 1); err != nil {
			return err
		}
	}
	return nil
}

// appendHistogram appends the fields of remote write's Histogram, in the order of their
// numbers and without timestamps, for integer counts.
func appendHistogram(dst []byte, h *histogram.Histogram) []byte {
	dst = append(dst, 1<<3)
	dst = binary.AppendUvarint(dst, h.Count)
	dst = appendShape(dst, h.Sum, h.Schema, h.ZeroThreshold)
	dst = append(dst, 6<<3)
	dst = binary.AppendUvarint(dst, h.ZeroCount)
	dst = appendSpans(dst, 8, h.NegativeSpans)
	dst = appendDeltas(dst, 9, h.NegativeBuckets)
	dst = appendSpans(dst, 11, h.PositiveSpans)
	dst = appendDeltas(dst, 12, h.PositiveBuckets)
	return appendRest(dst, h.CounterResetHint, h.CustomValues)
}

// appendFloatHistogram is appendHistogram for floating point counts.
func appendFloatHistogram(dst []byte, h *histogram.FloatHistogram) []byte {
	dst = appendDouble(append(dst, 2<<3|1), h.Count)
	dst = appendShape(dst, h.Sum, h.Schema, h.ZeroThreshold)
	dst = appendDouble(append(dst, 7<<3|1), h.ZeroCount)
	dst = appendSpans(dst, 8, h.NegativeSpans)
	dst = appendDoubles(dst, 10, h.NegativeBuckets)
	dst = appendSpans(dst, 11, h.PositiveSpans)
	dst = appendDoubles(dst, 13, h.PositiveBuckets)
	return appendRest(dst, h.CounterResetHint, h.CustomValues)
}

// appendShape appends fields 3 to 5. Zero is what an absent one means.
func appendShape(dst []byte, sum float64, schema int32, threshold float64) []byte {
	if sum != 0 {
		dst = appendDouble(append(dst, 3<<3|1), sum)
	}
	if schema != 0 {
		dst = append(dst, 4<<3)
		dst = binary.AppendVarint(dst, int64(schema)) // Zigzag, as sint32 is.
	}
	if threshold != 0 {
		dst = appendDouble(append(dst, 5<<3|1), threshold)
	}
	return dst
}

// appendRest appends fields 14 and 16, whose tag has two bytes.
func appendRest(dst []byte, hint histogram.CounterResetHint, bounds []float64) []byte {
	if hint != 0 {
		dst = append(dst, 14<<3, byte(hint))
	}
	return appendDoubles(dst, 16, bounds)
}

func appendSpans(dst []byte, field uint64, spans []histogram.Span) []byte {
	for _, s := range spans {
		var body [12]byte
		b := body[:0]
		if s.Offset != 0 {
			b = binary.AppendVarint(append(b, 1<<3), int64(s.Offset))
		}
		if s.Length != 0 {
			b = binary.AppendUvarint(append(b, 2<<3), uint64(s.Length))
		}
		dst = binary.AppendUvarint(dst, field<<3|2)
		dst = append(append(dst, byte(len(b))), b...)
	}
	return dst
}

func appendDeltas(dst []byte, field uint64, deltas []int64) []byte {
	if len(deltas) == 0 {
		return dst
	}
	size := 0
	for _, d := range deltas {
		size += model.UvarintLen(uint64(d<<1) ^ uint64(d>>63))
	}
	dst = binary.AppendUvarint(dst, field<<3|2)
	dst = binary.AppendUvarint(dst, uint64(size))
	for _, d := range deltas {
		dst = binary.AppendVarint(dst, d)
	}
	return dst
}

func appendDoubles(dst []byte, field uint64, values []float64) []byte {
	if len(values) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, field<<3|2)
	dst = binary.AppendUvarint(dst, uint64(8*len(values)))
	for _, v := range values {
		dst = appendDouble(dst, v)
	}
	return dst
}

func appendDouble(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}
