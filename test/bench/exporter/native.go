package exporter

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"
)

// A target that speaks protobuf: 60 native histograms with two exemplars each, 200 counters of
// which half have an exemplar, and gauges. Each histogram is a family of its own, because the
// reader of Prometheus v0.313 returns no exemplars of native histograms but those of the first
// in a family.
const (
	nativeSeries     = 1000
	nativeHistograms = 60
	counterFamilies  = 10
	familySize       = 20 // Of counters and gauges.
	nativeBuckets    = 24
	nativeExemplars  = 2 // Of a histogram.
)

// nativeStamp stands in a page for the seconds and for the nanoseconds of an exemplar's
// timestamp until it is served. It takes five bytes, as the seconds of our century do.
const (
	nativeStamp = 0x5_5a5a_5a5a
	stampBytes  = 5
)

// The types of a MetricFamily.
const (
	protoCounter   = 0
	protoGauge     = 1
	protoHistogram = 4
)

// A message is one of protobuf while it is written.
type message []byte

func (m message) bytes(id int, b []byte) message {
	m = binary.AppendUvarint(m, uint64(id)<<3|2)
	return append(binary.AppendUvarint(m, uint64(len(b))), b...)
}

func (m message) text(id int, s string) message { return m.bytes(id, []byte(s)) }

func (m message) number(id int, n uint64) message {
	return binary.AppendUvarint(binary.AppendUvarint(m, uint64(id)<<3), n)
}

// signed writes a number as the types sint32 and sint64 have it.
func (m message) signed(id int, n int64) message { return m.number(id, uint64(n<<1^n>>63)) }

func (m message) double(id int, v float64) message {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(m, uint64(id)<<3|1), math.Float64bits(v))
}

// native writes a page of protobuf messages.
func native(p *page) {
	for f := range nativeHistograms {
		p.protoFamily(fmt.Sprintf("rpc_%s_%d_seconds", resource(f%10), f), protoHistogram, "Time of a call, observed by the service that was called.", 1, p.nativeHistogram)
	}
	for f := range counterFamilies {
		p.protoFamily(fmt.Sprintf("rpc_%s_total", resource(f)), protoCounter, "Calls since the start of the process.", familySize, func() message {
			v := p.counter()
			p.protoSample(v)
			counter := message(nil).double(1, v)
			if f%2 == 0 {
				counter = counter.bytes(2, p.exemplar(v))
			}
			return message(nil).bytes(3, counter)
		})
	}
	for f := 0; p.exposed < nativeSeries; f++ {
		p.protoFamily("pool_figure_"+strconv.Itoa(f), protoGauge, "A current figure of a pool.", familySize, func() message {
			v := p.bytes()
			p.protoSample(v)
			return message(nil).bytes(2, message(nil).double(1, v))
		})
	}
}

// protoFamily writes a MetricFamily of n metrics. Value returns the field of a Metric that
// holds its value.
func (p *page) protoFamily(name string, kind uint64, help string, n int, value func() message) {
	family := message(nil).text(1, name).text(2, help).number(3, kind)
	for i := range n {
		var metric message
		for _, l := range [][2]string{{"method", "Method" + strconv.Itoa(i)}, {"namespace", "team-" + resource(i%10)}, {"service", "inventory"}} {
			metric = metric.bytes(1, message(nil).text(1, l[0]).text(2, l[1]))
		}
		family = family.bytes(4, append(metric, value()...))
	}
	p.buf = append(binary.AppendUvarint(p.buf, uint64(len(family))), family...)
}

// protoSample counts a sample.
func (p *page) protoSample(v float64) {
	p.exposed++
	p.samples++
	p.bits += math.Float64bits(v)
}

// nativeHistogram returns the field of a histogram of schema 3 without classic buckets.
func (p *page) nativeHistogram() message {
	n := p.next()
	var buckets message
	count, before := uint64(0), int64(0)
	for i := range nativeBuckets {
		v := int64(n>>i%1000 + p.step*(n>>(i+8)%3))
		buckets = buckets.signed(13, v-before)
		before = v
		count += uint64(v)
	}
	sum := float64(count) * float64(n%977+1) / 1000
	h := message(nil).number(1, count).double(2, sum).signed(5, 3).double(6, math.Ldexp(1, -128))
	const offset = -40 // The first bucket ends near 30 ms.
	h = append(h.bytes(12, message(nil).signed(1, offset).number(2, nativeBuckets)), buckets...)
	for i := range nativeExemplars {
		h = h.bytes(16, p.exemplar(sum/float64(count+1)*float64(i+1)))
	}
	p.exposed++
	p.histograms++
	p.bits += math.Float64bits(sum)
	return message(nil).bytes(7, h)
}

// exemplar returns an exemplar that differs from that of the step before.
func (p *page) exemplar(v float64) message {
	p.exemplars++
	label := message(nil).text(1, "trace_id").text(2, p.id(uint64(p.exemplars)+p.step<<40, 32))
	return message(nil).bytes(1, label).double(2, v).bytes(3, blankTime())
}

// blankTime is a Timestamp until it is served. Nothing else in a page has these bytes.
func blankTime() message { return message(nil).number(1, nativeStamp).number(2, nativeStamp) }

// nativeStamps finds the timestamps of exemplars.
func nativeStamps(page []byte) []stamp {
	var stamps []stamp
	mark := string(blankTime())
	for i := 0; i+len(mark) <= len(page); i++ {
		if string(page[i:i+len(mark)]) == mark {
			stamps = append(stamps, stamp{offset: uint32(i)})
		}
	}
	return stamps
}

// putTime fills in a Timestamp. Numbers are filled up to their width with zero bits, which is
// valid protobuf, though not the shortest.
func putTime(blank []byte, now time.Time) {
	put := func(at int, n uint64) {
		for i := range stampBytes {
			blank[at+i] = byte(n>>(7*i))&0x7f | 0x80
		}
		blank[at+stampBytes-1] &= 0x7f
	}
	put(1, uint64(now.Unix()))
	put(1+stampBytes+1, uint64(now.Nanosecond()))
}
