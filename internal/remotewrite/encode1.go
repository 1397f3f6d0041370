package remotewrite

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// The request of remote write 1.0 is the protobuf message WriteRequest:
//
//	WriteRequest   { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
//	TimeSeries     { repeated Label labels = 1; repeated Sample samples = 2;
//	                 repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }
//	Sample         { double value = 1; int64 timestamp = 2; }
//	Exemplar       { repeated Label labels = 1; double value = 2; int64 timestamp = 3; }
//	Histogram      { ...; int64 timestamp = 15; }
//	MetricMetadata { MetricType type = 1; string metric_family_name = 2; string help = 4; string unit = 5; }
//
// Labels in their wire form are field 1 of TimeSeries and of Exemplar as they stand.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2

	tagSeries1    = 1<<3 | wireBytes
	tagMetadata1  = 3<<3 | wireBytes
	tagSamples    = 2<<3 | wireBytes
	tagExemplars1 = 3<<3 | wireBytes
	tagHist1      = 4<<3 | wireBytes

	tagValue = 1<<3 | wireFixed64 // of a sample
	tagTime  = 2<<3 | wireVarint  // of a sample

	tagExemplarValue = 2<<3 | wireFixed64
	tagExemplarTime  = 3<<3 | wireVarint

	tagHistTime = 15<<3 | wireVarint
)

// item is one sample with all that belongs to it.
type item struct {
	*model.Sample
	labels    []byte // finished, as in model.Labels
	histogram []byte // empty for a float
	exemplars []model.Exemplar
	batch     *model.Batch // of the exemplars
}

// maxSeries1 returns at least as many bytes as appendSeries1 appends.
func maxSeries1(it *item) int {
	n := len(it.labels) + len(it.histogram) + 64
	for i := range it.exemplars {
		n += int(it.exemplars[i].Labels.To-it.exemplars[i].Labels.From) + 64
	}
	return n
}

// appendSeries1 appends one series with one sample to a request of 1.0. Where dst has room for
// maxSeries1, nothing is allocated.
func appendSeries1(dst []byte, it *item) []byte {
	stamp := uint64(it.T)
	width := model.UvarintLen(stamp)
	value := 1 + 8 + 1 + width
	if len(it.histogram) > 0 {
		value = len(it.histogram) + 1 + width
	}
	size := len(it.labels) + 1 + model.UvarintLen(uint64(value)) + value
	for i := range it.exemplars {
		n := exemplarSize1(&it.exemplars[i])
		size += 1 + model.UvarintLen(uint64(n)) + n
	}
	dst = slices.Grow(dst, size+1+model.UvarintLen(uint64(size)))
	dst = append(dst, tagSeries1)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = append(dst, it.labels...)
	if len(it.histogram) > 0 {
		dst = append(dst, tagHist1)
		dst = binary.AppendUvarint(dst, uint64(value))
		dst = append(dst, it.histogram...)
		dst = append(dst, tagHistTime)
	} else {
		// The bits of a stale marker stay as they are.
		n := len(dst)
		dst = dst[:n+12]
		dst[n], dst[n+1], dst[n+2], dst[n+11] = tagSamples, byte(value), tagValue, tagTime
		binary.LittleEndian.PutUint64(dst[n+3:], math.Float64bits(it.V))
	}
	dst = binary.AppendUvarint(dst, stamp)
	for i := range it.exemplars {
		dst = appendExemplar1(dst, &it.exemplars[i], it.batch)
	}
	return dst
}

func exemplarSize1(e *model.Exemplar) int {
	return int(e.Labels.To-e.Labels.From) + 1 + 8 + 1 + model.UvarintLen(uint64(e.T))
}

func appendExemplar1(dst []byte, e *model.Exemplar, b *model.Batch) []byte {
	dst = append(dst, tagExemplars1)
	dst = binary.AppendUvarint(dst, uint64(exemplarSize1(e)))
	dst = append(dst, b.At(e.Labels)...)
	dst = append(dst, tagExemplarValue)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(e.V))
	dst = append(dst, tagExemplarTime)
	return binary.AppendUvarint(dst, uint64(e.T))
}

// appendMetadata1 appends the metadata of one family to a request of 1.0.
func appendMetadata1(dst []byte, m *model.Metadata) []byte {
	var size int
	for _, s := range [...]string{m.Family, m.Help, m.Unit} {
		if s != "" {
			size += 1 + model.UvarintLen(uint64(len(s))) + len(s)
		}
	}
	dst = append(dst, tagMetadata1)
	dst = binary.AppendUvarint(dst, uint64(2+size))
	dst = append(dst, 1<<3|wireVarint, metricType(m.Type))
	for i, s := range [...]string{m.Family, "", m.Help, m.Unit} {
		if s != "" {
			dst = append(dst, byte(i+2)<<3|wireBytes)
			dst = binary.AppendUvarint(dst, uint64(len(s)))
			dst = append(dst, s...)
		}
	}
	return dst
}

// metricType returns the number of a type, which is the same in 1.0 and 2.0.
func metricType(word string) byte {
	switch word {
	case "counter":
		return 1
	case "gauge":
		return 2
	case "histogram":
		return 3
	case "gaugehistogram":
		return 4
	case "summary":
		return 5
	case "info":
		return 6
	case "stateset":
		return 7
	default:
		return 0
	}
}
