package expfmt

import (
	"bytes"
	"hash/maphash"
)

// maxPeek is how far ahead the _created line of a sample is looked for, in bytes. Prometheus
// looks up to the end of the metric family, which may be long and need not have one.
const maxPeek = 64 << 10

// created is what is known about _created lines of OpenMetrics. Such a line holds the start
// timestamp of those samples around it that have its labels, le and quantile apart.
type created struct {
	start  int64 // Of the present sample.
	wanted bool
	family int // Length of the last name in a comment.

	// The group of samples whose start was found last; found says whether there is one.
	group uint64
	found int64

	// Ahead is the next _created line, as far as the exposition was looked through.
	ahead struct {
		until int // Bytes of the exposition that were looked through.
		end   bool
		line  bool // The line that ends at until is one, of group and time.
		group uint64
		time  int64
	}

	scratch []byte
	parts   []int
	example []int
}

// empty returns c without content, its memory apart.
func (c *created) empty() created {
	return created{scratch: c.scratch[:0], parts: c.parts[:0], example: c.example[:0]}
}

// counts reports whether samples of a type have a beginning.
func counts(t Type) bool { return t == TypeCounter || t == TypeSummary || t == TypeHistogram }

// withStart finds the start timestamp of the sample that was just read. A _created line is
// no entry of its own then.
func (p *Parser) withStart() (Kind, error) {
	c := &p.created
	if !c.wanted {
		return KindSample, nil
	}
	c.start = 0
	if !counts(p.typ) {
		c.found = 0
		return KindSample, nil
	}
	if len(p.parts) == 0 {
		p.lexAgain()
	}
	name := p.b[p.parts[0]:p.parts[1]]
	if bytes.HasSuffix(name, []byte("_created")) {
		return KindNone, nil
	}
	if len(name) < c.family {
		c.found = 0
		return KindSample, nil
	}
	group := p.group(name[:c.family])
	if c.found > 0 && c.group == group {
		c.start = c.found
		return KindSample, nil
	}
	if p.lookAhead() {
		return KindNone, ErrMore
	}
	c.found = 0
	if c.ahead.line && c.ahead.group == group {
		c.start, c.found, c.group = c.ahead.time, c.ahead.time, group
	}
	return KindSample, nil
}

// lookAhead finds the next _created line, unless the metric family ends before, and reports
// whether more input is needed for that. It does not look twice at the same line.
func (p *Parser) lookAhead() (more bool) {
	a := &p.created.ahead
	here := p.base + p.i
	if a.line && a.until > here || a.end && a.until >= here {
		return false
	}
	a.line, a.end, a.until = false, false, max(a.until, here)
	q := *p
	q.created = created{scratch: p.created.scratch}
	q.parts, q.exemplar.parts = p.created.parts, p.created.example
	for q.i = a.until - p.base; q.base+q.i-here < maxPeek; {
		from := q.i
		kind, err := q.readOpenMetrics()
		if err != nil && !q.final && q.cut(from, err) {
			more = true
			break
		}
		if a.end = err != nil || kind != KindSample; a.end {
			break
		}
		a.until = q.base + q.i
		name := q.b[q.parts[0]:q.parts[1]]
		if a.line = bytes.HasSuffix(name, []byte("_created")); a.line {
			a.group = q.group(name[:len(name)-len("_created")])
			a.time = int64(q.value * 1000)
			break
		}
	}
	p.created.scratch, p.created.parts, p.created.example = q.created.scratch, q.parts, q.exemplar.parts
	return more
}

// group returns a hash of a name and the labels of the present sample, le of histograms and
// quantile of summaries apart.
func (p *Parser) group(name []byte) uint64 {
	s := p.created.scratch[:0]
	for i := 2; i < len(p.parts); i += 4 {
		label := p.b[p.parts[i]:p.parts[i+1]]
		if p.normalizes(string(label)) {
			continue
		}
		s = append(s, label...)
		s = append(s, p.b[p.parts[i+2]:p.parts[i+3]]...)
	}
	s = append(s, name...)
	p.created.scratch = s
	return maphash.Bytes(p.seed, s)
}
