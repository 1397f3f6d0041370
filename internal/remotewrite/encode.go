package remotewrite

import (
	"encoding/binary"
	"math"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// The request is the protobuf message that Prometheus calls WriteRequest, version 1.0:
//
//	WriteRequest { repeated TimeSeries timeseries = 1; }
//	TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2; }
//	Sample       { double value = 1; int64 timestamp = 2; }
//
// Labels in their wire form are field 1 of a TimeSeries as they stand.
const (
	tagTimeSeries = 1<<3 | 2
	tagSample     = 2<<3 | 2
	tagValue      = 1<<3 | 1
	tagTimestamp  = 2<<3 | 0
)

// appendSample appends one series with one sample to a request. External labels are added
// where the series does not have them. Beyond dst nothing is allocated.
func appendSample(dst []byte, ls model.Labels, s model.Sample, external model.Labels) []byte {
	// The length of the series comes before it and takes two bytes for all series but very
	// small and very large ones, so two are left free; for others the series is moved.
	const free = 2
	dst = append(dst, tagTimeSeries, 0, 0)
	start := len(dst)
	dst = ls.AppendWith(dst, external)
	stamp := uint64(s.T)
	dst = append(dst, tagSample, byte(1+8+1+model.UvarintLen(stamp)), tagValue)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.V)) // Keeps the bits of a stale marker.
	dst = append(dst, tagTimestamp)
	dst = binary.AppendUvarint(dst, stamp)
	size := uint64(len(dst) - start)
	if width := model.UvarintLen(size); width > free {
		dst = append(dst, make([]byte, width-free)...)
		copy(dst[start+width-free:], dst[start:])
	} else if width < free {
		copy(dst[start+width-free:], dst[start:])
		dst = dst[:len(dst)+width-free]
	}
	binary.PutUvarint(dst[start-free:], size)
	return dst
}
