package remotewrite

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// The request of remote write 2.0 is the protobuf message io.prometheus.write.v2.Request:
//
//	Request    { repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
//	TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2;
//	             repeated Histogram histograms = 3; repeated Exemplar exemplars = 4; Metadata metadata = 5; }
//	Sample     { double value = 1; int64 timestamp = 2; int64 start_timestamp = 3; }
//	Histogram  { ...; int64 timestamp = 15; int64 start_timestamp = 17; }
//	Exemplar   { repeated uint32 labels_refs = 1; double value = 2; int64 timestamp = 3; }
//	Metadata   { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }
//
// Fields may stand in any order. The sample comes before the labels here, and in it the timestamp
// before the value: so what repeats from series to series lies together, also that one
// object's labels are followed by those of the next one, and snappy makes 6 % less of it.
const (
	tagSeries2    = 5<<3 | wireBytes
	tagRefs       = 1<<3 | wireBytes // of a series, and of an exemplar
	tagHist2      = 3<<3 | wireBytes
	tagExemplars2 = 4<<3 | wireBytes
	tagMetadata2  = 5<<3 | wireBytes

	tagStart     = 3<<3 | wireVarint  // of a sample
	tagHistStart = 17<<3 | wireVarint // two bytes as a varint

	tagType = 1<<3 | wireVarint
	tagHelp = 3<<3 | wireVarint
	tagUnit = 4<<3 | wireVarint
)

// builder holds a request of 2.0 while it grows.
type builder struct {
	symbols
	series  []byte // field 5 of the request, repeated
	samples int
}

func newBuilder(seed maphash.Seed) *builder { return &builder{symbols: newSymbols(seed)} }

func (b *builder) reset() {
	b.symbols.reset()
	b.series, b.samples = b.series[:0], 0
}

// size returns the bytes of the request so far.
func (b *builder) size() int { return len(b.wire) + len(b.series) }

// seal compresses the request.
func (b *builder) seal(buf *buffers) *delivery.Body {
	var c chain
	appendElements(&c, buf, b.wire)
	appendElements(&c, buf, b.series)
	return newBody(b.size(), &c, buf)
}

// encoder2 appends samples to a builder. What it remembers belongs to that builder.
type encoder2 struct {
	pairs
	refs      []byte
	exemplars []byte
	families  []family // of the batch, by their place in it
}

// family is the metadata of a metric family in its wire form with references of a builder.
type family struct {
	wire  [2 + 2 + 2*(1+binary.MaxVarintLen32)]byte
	width uint8 // 0: not known yet
}

// begin prepares for a batch, or for the rest of one in a new builder.
func (e *encoder2) begin(families int) {
	e.families = slices.Grow(e.families[:0], families)[:families]
	clear(e.families)
}

// reset prepares for a new builder.
func (e *encoder2) reset() {
	e.pairs.reset()
	e.begin(0)
}

// add appends one sample to the request. metadata may be nil.
func (e *encoder2) add(b *builder, it *item, metadata *model.Metadata) {
	n, position := 0, 0
	for ls := it.labels; len(ls) > 0; position++ {
		size := labelLen(ls)
		q := e.find(&b.symbols, ls[:size], position)
		if len(e.refs) < n+8 {
			e.refs = append(e.refs, make([]byte, max(64, len(e.refs)))...)
		}
		binary.LittleEndian.PutUint64(e.refs[n:], q.refs)
		n += int(q.width)
		ls = ls[size:]
	}
	refs := e.refs[:n]
	e.exemplars = e.exemplars[:0]
	for i := range it.exemplars {
		e.exemplars = appendExemplar2(e.exemplars, b, &it.exemplars[i], it.batch)
	}
	var meta []byte
	if metadata != nil {
		meta = e.metadata(b, int(it.Family)-1, metadata)
	}
	value := valueSize2(it)
	size := len(e.exemplars) + len(meta) + 1 + model.UvarintLen(uint64(value)) + value
	if n > 0 {
		size += 1 + model.UvarintLen(uint64(n)) + n
	}
	dst := slices.Grow(b.series, size+1+binary.MaxVarintLen32)
	dst = append(dst, tagSeries2)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = appendValue2(dst, it, value)
	if n > 0 {
		dst = append(dst, tagRefs)
		dst = binary.AppendUvarint(dst, uint64(n))
		dst = append(dst, refs...)
	}
	dst = append(dst, e.exemplars...)
	b.series = append(dst, meta...)
	b.samples++
}

// valueSize2 returns the size of the message Sample or Histogram.
func valueSize2(it *item) int {
	start := 0
	if it.Start != 0 {
		start = 1 + model.UvarintLen(uint64(it.Start))
	}
	stamp := 1 + model.UvarintLen(uint64(it.T))
	if len(it.histogram) > 0 {
		if start > 0 {
			start++ // The tag has two bytes.
		}
		return len(it.histogram) + stamp + start
	}
	if math.Float64bits(it.V) == 0 {
		return stamp + start
	}
	return 1 + 8 + stamp + start
}

func appendValue2(dst []byte, it *item, size int) []byte {
	if len(it.histogram) > 0 {
		dst = append(dst, tagHist2)
		dst = binary.AppendUvarint(dst, uint64(size))
		dst = append(dst, it.histogram...)
		dst = append(dst, tagHistTime)
		dst = binary.AppendUvarint(dst, uint64(it.T))
		if it.Start != 0 {
			dst = binary.AppendUvarint(dst, tagHistStart)
			dst = binary.AppendUvarint(dst, uint64(it.Start))
		}
		return dst
	}
	dst = append(dst, tagSamples, byte(size), tagTime)
	dst = binary.AppendUvarint(dst, uint64(it.T))
	if bits := math.Float64bits(it.V); bits != 0 { // Zero is what a field that is missing means.
		dst = append(dst, tagValue)
		dst = binary.LittleEndian.AppendUint64(dst, bits)
	}
	if it.Start != 0 {
		dst = append(dst, tagStart)
		dst = binary.AppendUvarint(dst, uint64(it.Start))
	}
	return dst
}

func appendExemplar2(dst []byte, b *builder, e *model.Exemplar, batch *model.Batch) []byte {
	var room [128]byte
	refs := room[:0]
	for ls := batch.At(e.Labels); len(ls) > 0; {
		n := labelLen(ls)
		name, value := splitLabel(ls[:n])
		refs = binary.AppendUvarint(refs, uint64(b.ref(name)))
		refs = binary.AppendUvarint(refs, uint64(b.ref(value)))
		ls = ls[n:]
	}
	size := 1 + 8 + 1 + model.UvarintLen(uint64(e.T))
	if len(refs) > 0 {
		size += 1 + model.UvarintLen(uint64(len(refs))) + len(refs)
	}
	dst = append(dst, tagExemplars2)
	dst = binary.AppendUvarint(dst, uint64(size))
	if len(refs) > 0 {
		dst = append(dst, tagRefs)
		dst = binary.AppendUvarint(dst, uint64(len(refs)))
		dst = append(dst, refs...)
	}
	dst = append(dst, tagExemplarValue)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(e.V))
	dst = append(dst, tagExemplarTime)
	return binary.AppendUvarint(dst, uint64(e.T))
}

// metadata returns field 5 of a series, which is the same for all of a family.
func (e *encoder2) metadata(b *builder, place int, m *model.Metadata) []byte {
	f := &e.families[place]
	if f.width == 0 {
		wire := appendMetadata2(f.wire[:0], metricType(m.Type), b.refString(m.Help), b.refString(m.Unit))
		f.width = uint8(len(wire))
	}
	return f.wire[:f.width]
}

// appendMetadata2 appends at most as much as family.wire has room for.
func appendMetadata2(dst []byte, kind byte, help, unit uint32) []byte {
	dst = append(dst, tagMetadata2, 0)
	start := len(dst)
	if kind != 0 {
		dst = append(dst, tagType, kind)
	}
	if help != 0 {
		dst = append(dst, tagHelp)
		dst = binary.AppendUvarint(dst, uint64(help))
	}
	if unit != 0 {
		dst = append(dst, tagUnit)
		dst = binary.AppendUvarint(dst, uint64(unit))
	}
	dst[start-1] = byte(len(dst) - start)
	return dst
}
