package expfmt

import (
	"bytes"
	"io"
	"math"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// example is where the exemplar of the present OpenMetrics sample stands.
type example struct {
	has     bool
	parts   []int // Offsets of each label's name and value: from, to.
	value   float64
	time    int64
	hasTime bool
}

// Exemplar is an example of what a sample counted.
type Exemplar struct {
	Labels  []byte // Sorted, in the wire form of [model.Labels].
	Value   float64
	Time    int64 // Milliseconds since the Unix epoch.
	HasTime bool
}

// Exemplar sets e to the next exemplar of the present sample or histogram and reports whether
// there was one. It writes into the memory of e.Labels. As in Prometheus, backslashes in the
// labels of OpenMetrics exemplars stand for themselves.
func (p *Parser) Exemplar(e *Exemplar) bool {
	if p.Whole() {
		return p.wrapped.exemplar(e)
	}
	x := &p.exemplar
	if !x.has {
		return false
	}
	x.has = false
	sortParts(p.b, x.parts)
	*e = Exemplar{Labels: e.Labels[:0], Value: x.value, Time: x.time, HasTime: x.hasTime}
	for i := 0; i < len(x.parts); i += 4 {
		e.Labels = model.AppendLabel(e.Labels, string(p.b[x.parts[i]:x.parts[i+1]]), p.b[x.parts[i+2]:x.parts[i+3]])
	}
	return true
}

// sortParts sorts the few labels of an exemplar by their names.
func sortParts(b []byte, parts []int) {
	for i := 4; i < len(parts); i += 4 {
		for k := i; k > 0 && bytes.Compare(b[parts[k]:parts[k+1]], b[parts[k-4]:parts[k-3]]) < 0; k -= 4 {
			for n := range 4 {
				parts[k+n], parts[k+n-4] = parts[k+n-4], parts[k+n]
			}
		}
	}
}

// readOpenMetrics reads the next line; KindNone stands for a _created line that is no series.
func (p *Parser) readOpenMetrics() (Kind, error) {
	if p.i >= len(p.b) {
		return KindNone, p.noEnd()
	}
	switch c := p.b[p.i]; {
	case c == '#':
		return p.strictComment()
	case c == '{' || isNameStart(c):
		p.start = p.i
		if err := p.lexKey(); err != nil {
			return KindNone, err
		}
		p.keyEnds()
		return p.openMetricsSample()
	default:
		return KindNone, p.expected("a metric name or #")
	}
}

func (p *Parser) noEnd() error {
	return p.fail(p.i, "the exposition does not end with # EOF")
}

// strictComment reads one of the four comments.
func (p *Parser) strictComment() (Kind, error) {
	rest := p.b[p.i:]
	keyword := func(word string) bool { return len(rest) >= len(word) && string(rest[:len(word)]) == word }
	switch {
	case keyword("# TYPE "), keyword("# HELP "), keyword("# UNIT "):
		p.i += len("# TYPE ")
		return p.strictMetadata(string(rest[2:6]))
	case keyword("# EOF"):
		p.i += len("# EOF")
		if p.i < len(p.b) && p.b[p.i] == '\n' {
			p.i++
		}
		if p.i < len(p.b) {
			return KindNone, p.fail(p.i, "there is something after # EOF")
		}
		return KindNone, io.EOF
	}
	return KindNone, p.expected("# HELP, # TYPE, # UNIT or # EOF")
}

// strictMetadata reads a name, a blank, and a text up to the line end, which may be empty.
func (p *Parser) strictMetadata(keyword string) (Kind, error) {
	if err := p.familyName(keyword); err != nil {
		return KindNone, err
	}
	if p.peek() != ' ' {
		return KindNone, p.expected("a blank after the metric name")
	}
	p.i++
	end := bytes.IndexByte(p.b[p.i:], '\n')
	if end < 0 {
		p.i = len(p.b)
		return KindNone, p.noEnd()
	}
	text := p.b[p.i : p.i+end]
	kind := KindHelp
	switch keyword {
	case "TYPE":
		typ, ok := strictType(text)
		if !ok {
			return KindNone, p.fail(p.i, "expected a metric type for %q, found %s", p.name, quote(text))
		}
		kind = KindType
		p.typ = typ
	case "HELP":
		if p.help = text; !utf8.Valid(text) {
			return KindNone, p.fail(p.i, "the HELP text of %q is no valid UTF-8", p.name)
		}
	case "UNIT":
		kind = KindUnit
		base, ok := bytes.CutSuffix(p.name, text)
		if p.unit = text; len(text) > 0 && (!ok || !bytes.HasSuffix(base, []byte("_"))) {
			return KindNone, p.fail(p.i, "the name %q does not end with its unit %q", p.name, text)
		}
	}
	p.i += end + 1
	p.created.family = len(p.name)
	return kind, nil
}

func strictType(name []byte) (Type, bool) {
	switch string(name) {
	case "unknown":
		return TypeUnknown, true
	case "gaugehistogram":
		return TypeGaugeHistogram, true
	case "info":
		return TypeInfo, true
	case "stateset":
		return TypeStateSet, true
	case "untyped":
		return TypeUnknown, false
	}
	return textType(name)
}

// lexStrictLabels reads what stands between braces and the closing one, without any blanks.
func (p *Parser) lexStrictLabels(parts []int, exemplar bool) ([]int, error) {
	inName, inValue := lineEnds, zeros
	if exemplar {
		inName, inValue = 0, 0
	}
	for {
		c := p.peek()
		if c == '}' {
			p.i++
			return parts, nil
		}
		var to int
		from := p.i
		switch {
		case c == '"':
			if err := p.skipString(inName); err != nil {
				return parts, err
			}
			from, to = from+1, p.i-1
		case isLabelStart(c):
			p.skipLabelName()
			to = p.i
		default:
			return parts, p.expected("a label name or }")
		}
		if next := p.peek(); c == '"' && !exemplar && (next == ',' || next == '}') {
			if parts[0] >= 0 {
				return parts, p.fail(from-1, "the metric has a second name")
			}
			parts[0], parts[1] = from, to
			if next == ',' {
				p.i++
			}
			continue
		}
		if p.peek() != '=' {
			return parts, p.expected("= after a label name")
		}
		if p.i++; p.peek() != '"' {
			return parts, p.expected("a label value in double quotes")
		}
		open := p.i
		if err := p.skipString(inValue); err != nil {
			return parts, err
		}
		if !utf8.Valid(p.b[open+1 : p.i-1]) {
			return parts, p.fail(open, "the value of label %q is no valid UTF-8", p.b[from:to])
		}
		parts = append(parts, from, to, open+1, p.i-1)
		switch p.peek() {
		case ',':
			p.i++
		case '}':
		default:
			return parts, p.expected("a comma or } after a label value")
		}
	}
}

// openMetricsSample reads what follows the key of a sample: its value, timestamp and exemplar.
func (p *Parser) openMetricsSample() (Kind, error) {
	v, err := p.strictNumber("a value")
	if err != nil {
		return KindNone, err
	}
	p.value, p.hasTime = v, false
	if p.peek() == ' ' && !p.atExemplar() {
		if p.time, err = p.seconds(); err != nil {
			return KindNone, err
		}
		p.hasTime = true
	}
	if p.atExemplar() {
		p.i += len(" # {")
		if err = p.readExemplar(); err != nil {
			return KindNone, err
		}
	}
	if err := p.strictLineEnd(); err != nil {
		return KindNone, err
	}
	return p.withStart()
}

func (p *Parser) atExemplar() bool {
	const mark = " # {"
	return len(p.b)-p.i >= len(mark) && string(p.b[p.i:p.i+len(mark)]) == mark
}

// readExemplar reads the labels of an exemplar, its value and its timestamp.
func (p *Parser) readExemplar() (err error) {
	x := &p.exemplar
	if x.parts, err = p.lexStrictLabels(x.parts[:0], true); err != nil {
		return err
	}
	if x.value, err = p.strictNumber("the value of the exemplar"); err != nil {
		return err
	}
	x.time = 0
	if x.hasTime = p.peek() == ' '; x.hasTime {
		if x.time, err = p.seconds(); err != nil {
			return err
		}
	}
	x.has = true
	return nil
}

// strictNumber reads a blank and a number.
func (p *Parser) strictNumber(what string) (float64, error) {
	if p.peek() != ' ' {
		return 0, p.expected("a blank and " + what)
	}
	p.i++
	return p.number()
}

// seconds reads a blank and a timestamp in seconds, and returns it in milliseconds.
func (p *Parser) seconds() (int64, error) {
	from := p.i
	t, err := p.strictNumber("a timestamp")
	if err != nil {
		return 0, err
	}
	if math.IsNaN(t) || math.IsInf(t, 0) {
		return 0, p.expectedAt(from+1, "a timestamp in seconds")
	}
	return int64(t * 1000), nil
}

// strictLineEnd reads a line end, without which the exposition is no whole one.
func (p *Parser) strictLineEnd() error {
	if p.i >= len(p.b) {
		return p.noEnd()
	}
	if p.b[p.i] != '\n' {
		return p.expected("the end of the line")
	}
	p.i++
	return nil
}
