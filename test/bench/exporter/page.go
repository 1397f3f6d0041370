package exporter

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
)

// A stamp is an explicit timestamp of a page: where its digits are and how old it is when the
// page is served.
type stamp struct {
	offset uint32
	age    uint16 // ms
}

const (
	stampDigits = 13               // Milliseconds of our century.
	stampZeros  = " 0000000000000" // What a page holds until it is served.

	mixer = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio.

	counterType   = "counter"
	gaugeType     = "gauge"
	histogramType = "histogram"
)

// A page is one exposition while it is written. Its content is decided by seed, which tells
// targets apart, and step, which moves the values.
type page struct {
	seed, step uint64

	buf     []byte
	name    string // Of the current family.
	stamped bool   // Samples get a timestamp.
	age     uint16
	stamps  []stamp
	lines   []line

	drop    *regexp.Regexp  // Metrics that the collector has to drop; nil means none.
	dropped map[string]bool // What drop says of the names so far.
	tally
}

// A tally is what a page holds.
type tally struct {
	exposed                        int // Samples and histograms.
	samples, histograms, exemplars int // Without those that a rule drops.
	bits                           uint64
}

// A line is where a sample stands in the page, or where the samples of a family begin.
type line struct {
	begin, end int
	head       bool
}

// mix scatters the bits of x, so that neighbours share none.
func mix(x uint64) uint64 {
	x *= mixer
	x ^= x >> 32
	x *= mixer
	return x ^ x>>29
}

// number returns a number that is the same for this seed and key at each step.
func (p *page) number(key uint64) uint64 { return mix(p.seed<<32 ^ key) }

// family starts the samples of a metric.
func (p *page) family(name, kind, help string) {
	p.name = name
	p.buf = append(p.buf, "# HELP "...)
	p.buf = append(p.buf, name...)
	p.buf = append(p.buf, ' ')
	p.buf = append(p.buf, help...)
	p.buf = append(p.buf, "\n# TYPE "...)
	p.buf = append(p.buf, name...)
	p.buf = append(p.buf, ' ')
	p.buf = append(p.buf, kind...)
	p.buf = append(p.buf, '\n')
	p.lines = append(p.lines, line{begin: len(p.buf), end: len(p.buf), head: true})
}

// sample writes a sample of the current family. The labels come with their braces, or empty.
func (p *page) sample(labels string, v float64) { p.suffixed("", labels, v) }

func (p *page) suffixed(suffix, labels string, v float64) {
	begin := len(p.buf)
	p.buf = append(p.buf, p.name...)
	p.buf = append(p.buf, suffix...)
	p.buf = append(p.buf, labels...)
	p.buf = append(p.buf, ' ')
	p.buf = strconv.AppendFloat(p.buf, v, 'g', -1, 64)
	if p.stamped {
		p.stamps = append(p.stamps, stamp{offset: uint32(len(p.buf) + 1), age: p.age})
		p.buf = append(p.buf, stampZeros...)
	}
	p.buf = append(p.buf, '\n')
	p.exposed++
	if !p.drops(p.name + suffix) {
		p.samples++
		p.bits += math.Float64bits(v)
	}
	p.lines = append(p.lines, line{begin: begin, end: len(p.buf)})
}

// drops says whether the collector has to drop the samples of a metric.
func (p *page) drops(name string) bool {
	if p.drop == nil {
		return false
	}
	drops, known := p.dropped[name]
	if !known {
		if p.dropped == nil {
			p.dropped = map[string]bool{}
		}
		drops = p.drop.MatchString(name)
		p.dropped[name] = drops
	}
	return drops
}

// histogram writes the series of one histogram of the current family. The labels come
// without braces; bounds are the label values of le, without +Inf.
func (p *page) histogram(labels string, bounds []string) {
	sep := ""
	if labels != "" {
		sep = ","
	}
	n, total := p.next(), 0.0
	for i, bound := range append(bounds, "+Inf") {
		total += float64(n >> i % 1000)
		if moves(n) {
			total += float64(p.step)
		}
		p.suffixed("_bucket", "{"+labels+sep+`le="`+bound+`"}`, total)
	}
	all := ""
	if labels != "" {
		all = "{" + labels + "}"
	}
	p.suffixed("_sum", all, math.Round(total*float64(n%977)*1e6)/1e9)
	p.suffixed("_count", all, total)
}

// next returns a number for the series that is written next.
func (p *page) next() uint64 { return p.number(uint64(p.exposed) + 1) }

// moves says whether a counter with this number changes at each step, which every second does.
func moves(n uint64) bool { return n&1 == 0 }

// counter returns a large count, as of bytes or packets.
func (p *page) counter() float64 {
	n := p.next()
	v := n >> 8 % 1e9 >> (n >> 40 % 20)
	if moves(n) {
		v += p.step * (1 + n>>16%4096)
	}
	return float64(v)
}

// seconds returns a counter with two digits behind the point.
func (p *page) seconds() float64 {
	n := p.next()
	v := n >> 8 % 1e8
	if moves(n) {
		v += p.step * (1 + n>>16%997)
	}
	return float64(v) / 100
}

// bytes returns a multiple of a memory page.
func (p *page) bytes() float64 {
	n := p.next()
	v := n >> 8 % 1e6
	if moves(n) {
		v += p.step * (n >> 16 % 8)
	}
	return float64(v * 4096)
}

// small returns a number below 100 that rarely moves.
func (p *page) small() float64 { return float64(p.next() >> 8 % 100) }

// flag returns 0 or 1.
func (p *page) flag() float64 { return float64(p.next() >> 8 & 1) }

// id returns a hexadecimal identity of n digits that belongs to the key.
func (p *page) id(key uint64, n int) string {
	raw := make([]byte, 0, n/2+8)
	for i := uint64(0); len(raw) < n/2+1; i++ {
		word := p.number(key*31 + i + 1<<40)
		for range 8 {
			raw = append(raw, byte(word))
			word >>= 8
		}
	}
	return hex.EncodeToString(raw)[:n]
}

// uid returns a UUID that belongs to the key.
func (p *page) uid(key uint64) string {
	s := p.id(key+1<<20, 32)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// shuffled returns the page with the lines of each family in another order. It must not have
// timestamps.
func (p *page) shuffled() []byte {
	random := rand.New(rand.NewPCG(p.seed, p.step))
	out := make([]byte, 0, len(p.buf))
	copied := 0
	for i := 0; i < len(p.lines); {
		j := i + 1
		for j < len(p.lines) && !p.lines[j].head {
			j++
		}
		out = append(out, p.buf[copied:p.lines[i].begin]...)
		copied = p.lines[j-1].end
		family := p.lines[i+1 : j]
		random.Shuffle(len(family), func(a, b int) { family[a], family[b] = family[b], family[a] })
		for _, l := range family {
			out = append(out, p.buf[l.begin:l.end]...)
		}
		i = j
	}
	return out
}
