package expfmt

import (
	"bytes"
	"fmt"
)

// What may stand in a quoted string without a backslash.
const (
	lineEnds = 1 << iota
	zeros    // Behind a backslash too, where they do not count.
)

// skipString reads a quoted string. No line end may follow a backslash.
func (p *Parser) skipString(allowed int) error {
	open := p.i
	rest := p.b[open+1:]
	if n := bytes.IndexByte(rest, '"'); n >= 0 { // Nearly all have nothing special in them.
		s := rest[:n]
		if bytes.IndexByte(s, '\\') < 0 && (allowed&zeros != 0 || bytes.IndexByte(s, 0) < 0) && (allowed&lineEnds != 0 || bytes.IndexByte(s, '\n') < 0) {
			p.i += n + 2
			return nil
		}
	}
	for p.i++; p.i < len(p.b); p.i++ {
		switch p.b[p.i] {
		case '"':
			p.i++
			return nil
		case '\\':
			p.i++
			for allowed&zeros != 0 && p.i < len(p.b) && p.b[p.i] == 0 {
				p.i++
			}
			if p.i < len(p.b) && (p.b[p.i] == '\n' || p.b[p.i] == 0) {
				return p.fail(p.i-1, "expected a character after \\")
			}
		case '\n':
			if allowed&lineEnds == 0 {
				return p.fail(open, "expected a closing double quote on the same line")
			}
		case 0:
			if allowed&zeros == 0 {
				return p.fail(p.i, "a name holds a zero byte")
			}
		}
	}
	p.i = len(p.b)
	return p.fail(open, "expected a closing double quote")
}

// skipName reads a metric name that is not quoted and reports whether there is one.
func (p *Parser) skipName() bool {
	if p.i >= len(p.b) || !isNameStart(p.b[p.i]) {
		return false
	}
	p.i++
	for p.i < len(p.b) && isNamePart(p.b[p.i]) {
		p.i++
	}
	return true
}

// skipLabelName reads a label name whose first byte has been looked at.
func (p *Parser) skipLabelName() {
	p.i++
	for p.i < len(p.b) && isNamePart(p.b[p.i]) && p.b[p.i] != ':' {
		p.i++
	}
}

// peek returns the next byte, or a line end behind the last one: the text format need not
// end in one.
func (p *Parser) peek() byte {
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return '\n'
}

func (p *Parser) skipBlanks() {
	for p.i < len(p.b) && isBlank(p.b[p.i]) {
		p.i++
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func isDigit(c byte) bool { return c-'0' < 10 }

func isLabelStart(c byte) bool { return (c|0x20)-'a' < 26 || c == '_' }

func isNameStart(c byte) bool { return isLabelStart(c) || c == ':' }

// isNamePart looks c up in a set: digits, letters, _ and :.
func isNamePart(c byte) bool {
	const (
		below = 0x3ff<<'0' | 1<<':'
		above = 0x3ffffff<<('A'-64) | 1<<('_'-64) | 0x3ffffff<<('a'-64)
	)
	return (uint64(below)>>c|uint64(above)>>(c-64))&1 != 0
}

// Error is a place in the input that the format does not allow.
type Error struct {
	Line int // From 1.
	Text string
}

// Error returns the place and what was expected there.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

func (p *Parser) expected(what string) error {
	rest := p.b[min(p.i, len(p.b)):]
	found := "the end of the input"
	if len(rest) > 0 {
		line, _, ended := bytes.Cut(rest, []byte{'\n'})
		if found = quote(line); ended && len(line) == 0 {
			found = "the end of the line"
		}
	}
	return p.fail(p.i, "expected %s, found %s", what, found)
}

func (p *Parser) fail(at int, format string, args ...any) error {
	line := 1 + p.line + bytes.Count(p.b[:min(at, len(p.b))], []byte{'\n'})
	return &Error{Line: line, Text: fmt.Sprintf(format, args...)}
}

// quote returns the beginning of what was found, up to a blank where that is soon enough.
func quote(b []byte) string {
	const most = 40
	if word := bytes.IndexAny(b, " \t"); word > 0 {
		b = b[:word]
	}
	if len(b) > most {
		return fmt.Sprintf("%q...", b[:most])
	}
	return fmt.Sprintf("%q", b)
}
