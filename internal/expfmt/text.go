package expfmt

import (
	"bytes"
	"hash/maphash"
	"io"
	"unicode/utf8"
)

// readText reads the next line of the text format; KindNone stands for an empty one.
func (p *Parser) readText() (Kind, error) {
	p.skipBlanks()
	if p.i >= len(p.b) {
		return KindNone, io.EOF
	}
	switch c := p.b[p.i]; {
	case c == '\n':
		p.i++
		return KindNone, nil
	case c == '#':
		return p.comment()
	case c == 0: // As in Prometheus, whose lexer marks its end with one.
		return KindNone, io.EOF
	case c == '{' || isNameStart(c):
		p.start = p.i
		if err := p.lexKey(); err != nil {
			return KindNone, err
		}
		p.keyEnds()
		return p.textSample()
	default:
		return KindNone, p.expected("a metric name")
	}
}

// keyEnds makes what was lexed the key.
func (p *Parser) keyEnds() {
	p.end = p.i
	p.hash, p.hinted = maphash.Bytes(p.seed, p.b[p.start:p.end]), false
	p.exemplar.has = false
}

// lexKey reads a name and braces and records where the parts are.
func (p *Parser) lexKey() error {
	p.parts = append(p.parts[:0], -1, -1)
	if from := p.i; p.skipName() {
		p.parts[0], p.parts[1] = from, p.i
		brace := p.i
		if p.format != OpenMetrics100 {
			for brace < len(p.b) && isBlank(p.b[brace]) {
				brace++
			}
		}
		if brace >= len(p.b) || p.b[brace] != '{' {
			return nil
		}
		p.i = brace
	}
	p.i++
	var err error
	if p.format == OpenMetrics100 {
		p.parts, err = p.lexStrictLabels(p.parts, false)
	} else {
		err = p.lexLabels()
	}
	if err != nil {
		return err
	}
	if p.parts[0] < 0 {
		return p.fail(p.start, "expected a metric name before or inside the braces")
	}
	return nil
}

// lexLabels reads what stands between the braces and the closing one.
func (p *Parser) lexLabels() error {
	for {
		p.skipBlanks()
		c := p.peek()
		if c == '}' {
			p.i++
			return nil
		}
		var to int
		from := p.i
		switch {
		case c == '"':
			if err := p.skipString(lineEnds); err != nil {
				return err
			}
			from, to = from+1, p.i-1
		case isLabelStart(c):
			p.skipLabelName()
			to = p.i
		default:
			return p.expected("a label name or }")
		}
		p.skipBlanks()
		if next := p.peek(); c == '"' && (next == ',' || next == '}') {
			if p.parts[0] >= 0 {
				return p.fail(from-1, "the metric has a second name")
			}
			p.parts[0], p.parts[1] = from, to
			if next == ',' {
				p.i++
			}
			continue
		}
		if err := p.lexValue(from, to); err != nil {
			return err
		}
		p.skipBlanks()
		if p.peek() == ',' {
			p.i++
		}
	}
}

// lexValue reads = and the value of the label whose name is at from:to.
func (p *Parser) lexValue(from, to int) error {
	if p.peek() != '=' {
		return p.expected("= after a label name")
	}
	p.i++
	p.skipBlanks()
	if p.peek() != '"' {
		return p.expected("a label value in double quotes")
	}
	open := p.i
	if err := p.skipString(lineEnds | zeros); err != nil {
		return err
	}
	if !utf8.Valid(p.b[open+1 : p.i-1]) {
		return p.fail(open, "the value of label %q is no valid UTF-8", p.b[from:to])
	}
	p.parts = append(p.parts, from, to, open+1, p.i-1)
	return nil
}

// textSample reads the value and the timestamp of a sample and the end of its line.
func (p *Parser) textSample() (Kind, error) {
	p.skipBlanks()
	v, err := p.number()
	if err != nil {
		return KindNone, err
	}
	p.value, p.hasTime = v, false
	p.skipBlanks()
	if p.i < len(p.b) && p.b[p.i] != '\n' {
		if err := p.timestamp(); err != nil {
			return KindNone, err
		}
	}
	p.i++
	return KindSample, nil
}

// comment reads a line that begins with #.
func (p *Parser) comment() (Kind, error) {
	if rest := p.b[p.i:]; len(rest) > 7 && rest[1] == ' ' && rest[6] == ' ' {
		switch string(rest[2:6]) { // As nearly every comment is written.
		case "HELP", "TYPE":
			p.i += 7
			p.skipBlanks()
			return p.metadata(rest[2] == 'H')
		}
	}
	line := p.b[p.i:]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	text := line[1:]
	for len(text) > 0 && isBlank(text[0]) {
		text = text[1:]
	}
	if len(text) == len(line)-1 { // No blank after #: no keyword follows.
		if bytes.IndexByte(text, 0) >= 0 {
			return KindNone, io.EOF
		}
	} else if len(text) > 0 && text[0] == 0 {
		return KindNone, io.EOF
	}
	if len(text) < 5 || len(text) == len(line)-1 || !isBlank(text[4]) || string(text[:4]) != "HELP" && string(text[:4]) != "TYPE" {
		p.i += len(line) + 1
		return KindComment, nil
	}
	p.i += len(line) - len(text) + 4
	p.skipBlanks()
	return p.metadata(text[0] == 'H')
}

// metadata reads what follows HELP or TYPE.
func (p *Parser) metadata(help bool) (Kind, error) {
	keyword := "TYPE"
	if help {
		keyword = "HELP"
	}
	if err := p.familyName(keyword); err != nil {
		return KindNone, err
	}
	from := p.i
	if end := bytes.IndexByte(p.b[p.i:], '\n'); end >= 0 {
		p.i += end
	} else {
		p.i = len(p.b)
	}
	text := p.b[from:p.i]
	blank := 0
	for blank < len(text) && isBlank(text[blank]) {
		blank++
	}
	if blank == len(text) {
		text = nil
	}
	if len(text) > 0 {
		text = text[1:] // What separates, which Prometheus does not look at.
	}
	if help {
		if p.help = text; !utf8.Valid(text) {
			return KindNone, p.fail(from, "the HELP text of %q is no valid UTF-8", p.name)
		}
		p.i++
		return KindHelp, nil
	}
	typ, ok := textType(text)
	if !ok {
		return KindNone, p.fail(from, "expected counter, gauge, histogram, summary or untyped as type of %q, found %s", p.name, quote(text))
	}
	p.typ = typ
	p.i++
	return KindType, nil
}

// familyName reads the name after HELP, TYPE or UNIT, which most often is that of the comment
// before.
func (p *Parser) familyName(keyword string) error {
	from := p.i
	if p.peek() == '"' {
		if err := p.skipString(lineEnds); err != nil {
			return err
		}
		p.name, p.again = p.b[from+1:p.i-1], false
		return nil
	}
	if end := from + len(p.name); p.again && end < len(p.b) && isBlank(p.b[end]) && bytes.Equal(p.b[from:end], p.name) {
		p.i = end
	} else if !p.skipName() {
		return p.expected("a metric name after " + keyword)
	}
	p.name, p.again = p.b[from:p.i], true
	return nil
}

func textType(name []byte) (Type, bool) {
	switch string(name) {
	case "counter":
		return TypeCounter, true
	case "gauge":
		return TypeGauge, true
	case "histogram":
		return TypeHistogram, true
	case "summary":
		return TypeSummary, true
	case "untyped":
		return TypeUnknown, true
	}
	return TypeUnknown, false
}
