// Package expfmt reads the text exposition format 0.0.4 in place: a [Parser] walks over the
// bytes of one response and yields entry by entry, without allocating.
//
// It accepts and refuses what Prometheus' text parser accepts and refuses, oddities included
// (a value may follow a name directly, commas between labels may be missing, a line ends
// with \n only, a zero byte before an entry ends the input). The key of a sample, its name
// and braces as they stand in the response, identifies a series to a caller that has seen it
// before; names and values are unescaped on demand only ([Parser.AppendLabels]).
//
// The package reads no OpenMetrics and no protobuf, checks no limits, and does not judge
// label names: whether a label set may be stored is decided where it is finished.
package expfmt

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// Kind is what an entry of an exposition is.
type Kind uint8

// The kinds of entries.
const (
	KindNone Kind = iota
	// KindSample is a sample: [Parser.Key], [Parser.Value], [Parser.Time], [Parser.AppendLabels].
	KindSample
	// KindType is a TYPE comment: [Parser.Name], [Parser.Type].
	KindType
	// KindHelp is a HELP comment: [Parser.Name], [Parser.Help].
	KindHelp
	// KindUnit is a UNIT comment: [Parser.Name], [Parser.Unit].
	KindUnit
	// KindComment is any other comment.
	KindComment
	// KindHistogram is a native histogram: as a sample, with [Parser.Histogram] for the value.
	KindHistogram
)

// Format is a format of expositions.
type Format uint8

// The formats.
const (
	// Text004 is the text format 0.0.4.
	Text004 Format = iota
	// Text100 is the text format 1.0.0, which is read like 0.0.4.
	Text100
	// OpenMetrics100 is OpenMetrics text, 0.0.1 or 1.0.0, which are read alike.
	OpenMetrics100
	// Proto is MetricFamily messages of protobuf, each behind its length.
	Proto
)

// Type is the metric type that a TYPE comment states.
type Type uint8

// The metric types of the text format.
const (
	TypeUnknown Type = iota
	TypeCounter
	TypeGauge
	TypeHistogram
	TypeSummary
	TypeGaugeHistogram
	TypeInfo
	TypeStateSet
)

// String returns the word that Prometheus uses in metadata; TypeUnknown is unknown.
func (t Type) String() string {
	switch t {
	case TypeCounter:
		return "counter"
	case TypeGauge:
		return "gauge"
	case TypeHistogram:
		return "histogram"
	case TypeSummary:
		return "summary"
	case TypeGaugeHistogram:
		return "gaugehistogram"
	case TypeInfo:
		return "info"
	case TypeStateSet:
		return "stateset"
	}
	return "unknown"
}

// Hint is the key that is expected next, by its hash under the seed of [Parser.Reset] and its
// length in bytes. The zero Hint expects nothing.
type Hint struct {
	Hash uint64
	Len  int
}

// Options say how an exposition is read. The zero value is right for the text format.
type Options struct {
	// Created takes the _created lines of OpenMetrics for start timestamps, [Parser.Start].
	// Without it they are series.
	Created bool
	// IgnoreNative reads the classic buckets of protobuf histograms and nothing else of them.
	IgnoreNative bool
	// KeepClassic yields the classic buckets of a histogram in addition to the native one,
	// where it has or is turned into one.
	KeepClassic bool
	// ConvertClassic makes native histograms with custom buckets of classic histograms, in
	// every format.
	ConvertClassic bool
}

// Parser reads one exposition. [Parser.Reset] begins one, [Parser.Feed] gives it bytes. What
// its methods return points into those bytes, or into scratch memory of the Parser, and is
// valid until Next or Feed.
type Parser struct {
	Options Options // Read by Reset.

	format Format
	seed   maphash.Seed
	final  bool
	line   int // Line ends before b.

	b []byte
	i int // Next byte to read.

	hash   uint64
	hinted bool

	typ        Type // Of the last TYPE comment.
	name, help []byte
	unit       []byte
	created    int64

	start, end int   // The key of the present sample.
	parts      []int // Offsets of its name, then of each label's name and value: from, to.
	value      float64
	time       int64
	hasTime    bool
}

// ErrMore means that the window ends before the next entry does. The caller moves the unread
// bytes to the front of its buffer, reads more behind them and calls [Parser.Feed].
var ErrMore = errors.New("expfmt: the window ends inside an entry")

// Reset begins an exposition of the given format. Keys are hashed with seed.
func (p *Parser) Reset(f Format, seed maphash.Seed) {
	*p = Parser{Options: p.Options, format: f, seed: seed, parts: p.parts[:0]}
}

// Feed gives the window, which begins with the first byte that was not read yet: b[0] is what
// stood at b[len(b)-Unread()] before. final says that the exposition ends with it. The Parser
// does not change b.
func (p *Parser) Feed(b []byte, final bool) {
	p.line += bytes.Count(p.b[:min(p.i, len(p.b))], []byte{'\n'})
	p.b, p.i, p.final = b, 0, final
}

// Unread returns how many bytes at the end of the window were not read yet.
func (p *Parser) Unread() int { return len(p.b) - min(p.i, len(p.b)) }

// Whole reports whether the exposition is read only when its end was fed: protobuf and
// converted histograms are. Next returns ErrMore until then.
func (p *Parser) Whole() bool { return p.format == Proto || p.Options.ConvertClassic }

// Next reads the next entry. It returns io.EOF at the end of the input and an [*Error] at
// the first byte that the format does not allow; after either it must not be called again.
//
// h is the key that the caller expects next, one that a Parser with the same seed returned
// before. It changes nothing but the time taken: a line that begins with it is not lexed again.
func (p *Parser) Next(h Hint) (Kind, error) {
	from := p.i
	if !p.final {
		// TODO: streaming.
		return KindNone, ErrMore
	}
	kind, err := p.next(h)
	if err != nil && p.i > from && errors.Is(err, ErrMore) {
		p.i = from
	}
	return kind, err
}

func (p *Parser) next(h Hint) (Kind, error) {
	for {
		p.skipBlanks()
		if p.i >= len(p.b) {
			return KindNone, io.EOF
		}
		if h.Len > 0 && p.matches(h) {
			return p.suffix()
		}
		switch c := p.b[p.i]; {
		case c == '\n':
			p.i++
		case c == '#':
			return p.comment()
		case c == 0: // As in Prometheus, whose lexer marks its end with one.
			return KindNone, io.EOF
		case c == '{' || isNameStart(c):
			p.start = p.i
			if err := p.lexKey(); err != nil {
				return KindNone, err
			}
			p.end = p.i
			p.hinted = false
			p.hash = maphash.Bytes(p.seed, p.b[p.start:p.end])
			p.skipBlanks()
			return p.suffix()
		default:
			return KindNone, p.expected("a metric name")
		}
	}
}

// Key returns the name and the labels of the present sample as they stand in the input,
// such as http_requests_total{code="200"}.
func (p *Parser) Key() []byte { return p.b[p.start:p.end] }

// Hinted reports whether the present sample has the key that was the hint of Next.
func (p *Parser) Hinted() bool { return p.hinted }

// Hash returns the hash of Key under the seed of Reset.
func (p *Parser) Hash() uint64 { return p.hash }

// Value returns the value of the present sample. Any NaN is the one NaN that does not mean
// staleness.
func (p *Parser) Value() float64 { return p.value }

// Time returns the timestamp that stands behind the present sample, in milliseconds since
// the Unix epoch; ok is false without one.
func (p *Parser) Time() (t int64, ok bool) { return p.time, p.hasTime }

// Type returns the type of the last TYPE comment, whatever metric it named: as in
// Prometheus, it decides how le and quantile are written.
func (p *Parser) Type() Type { return p.typ }

// Name returns the metric name of the present TYPE, HELP or UNIT, without quotes.
func (p *Parser) Name() []byte { return p.name }

// Help returns the text of the present HELP, with its escapes resolved.
func (p *Parser) Help() []byte { return p.help }

// Unit returns what the present UNIT states.
func (p *Parser) Unit() []byte { return p.unit }

// Start returns when the counting of the present sample began, in milliseconds since the Unix
// epoch, or 0. OpenMetrics has it with Options.Created only.
func (p *Parser) Start() int64 { return p.created }

// Histogram returns the present native histogram; one of both is nil. They are the caller's.
func (p *Parser) Histogram() (*histogram.Histogram, *histogram.FloatHistogram) { return nil, nil }

// Exemplar fills e with the next exemplar of the present sample or histogram and reports
// whether there was one. e.Labels is reused.
func (p *Parser) Exemplar(e *Exemplar) bool { return false }

// Exemplar is an example of what a sample counted.
type Exemplar struct {
	Labels  []model.Label // In the order of the input.
	Value   float64
	Time    int64 // Milliseconds since the Unix epoch.
	HasTime bool
}

// matches reports whether a sample with exactly the given key begins here, and if so goes
// to its value.
func (p *Parser) matches(h Hint) bool {
	end := p.i + h.Len
	if end >= len(p.b) || !isBlank(p.b[end]) || maphash.Bytes(p.seed, p.b[p.i:end]) != h.Hash {
		return false
	}
	v := end + 1
	for v < len(p.b) && isBlank(p.b[v]) {
		v++
	}
	if v < len(p.b) && p.b[v] == '{' {
		return false // The name alone matched.
	}
	p.start, p.end, p.i = p.i, end, v
	p.parts = p.parts[:0]
	p.hash, p.hinted = h.Hash, true
	return true
}

// lexKey reads a name and braces and records where the parts are.
func (p *Parser) lexKey() error {
	p.parts = append(p.parts[:0], -1, -1)
	from := p.i
	for p.i < len(p.b) && (isNameStart(p.b[p.i]) || p.i > from && isDigit(p.b[p.i])) {
		p.i++
	}
	if p.i > from {
		p.parts[0], p.parts[1] = from, p.i
		brace := p.i
		for brace < len(p.b) && isBlank(p.b[brace]) {
			brace++
		}
		if brace >= len(p.b) || p.b[brace] != '{' {
			return nil
		}
		p.i = brace
	}
	p.i++
	if err := p.lexLabels(); err != nil {
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
			if err := p.skipString(false); err != nil {
				return err
			}
			from, to = from+1, p.i-1
		case isLabelStart(c):
			for p.i < len(p.b) && (isLabelStart(p.b[p.i]) || isDigit(p.b[p.i])) {
				p.i++
			}
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
	if err := p.skipString(true); err != nil {
		return err
	}
	if !utf8.Valid(p.b[open+1 : p.i-1]) {
		return p.fail(open, "the value of label %q is no valid UTF-8", p.b[from:to])
	}
	p.parts = append(p.parts, from, to, open+1, p.i-1)
	return nil
}

// skipString reads a quoted string. Line ends may stand in it, though not escaped; zero
// bytes in label values only.
func (p *Parser) skipString(zeros bool) error {
	open := p.i
	for p.i++; p.i < len(p.b); p.i++ {
		switch p.b[p.i] {
		case '"':
			p.i++
			return nil
		case '\\':
			p.i++
			for zeros && p.i < len(p.b) && p.b[p.i] == 0 {
				p.i++
			}
			if p.i < len(p.b) && (p.b[p.i] == '\n' || p.b[p.i] == 0) {
				return p.fail(p.i-1, "expected a character after \\")
			}
		case 0:
			if !zeros {
				return p.fail(p.i, "a name holds a zero byte")
			}
		}
	}
	p.i = len(p.b)
	return p.fail(open, "expected a closing double quote")
}

// suffix reads the value and the timestamp of a sample and the end of its line.
func (p *Parser) suffix() (Kind, error) {
	if err := p.number(); err != nil {
		return KindNone, err
	}
	p.hasTime = false
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
	keyword := ""
	switch {
	case len(text) == len(line)-1 || len(text) < 5 || !isBlank(text[4]):
	case string(text[:4]) == "HELP":
		keyword = "HELP"
	case string(text[:4]) == "TYPE":
		keyword = "TYPE"
	}
	if keyword == "" {
		p.i += len(line) + 1
		return KindComment, nil
	}
	p.i += len(line) - len(text) + 4
	p.skipBlanks()
	return p.metadata(keyword)
}

// metadata reads what follows HELP or TYPE.
func (p *Parser) metadata(keyword string) (Kind, error) {
	from := p.i
	switch c := p.peek(); {
	case c == '"':
		if err := p.skipString(false); err != nil {
			return KindNone, err
		}
		p.name = p.b[from+1 : p.i-1]
	case isNameStart(c):
		for p.i < len(p.b) && (isNameStart(p.b[p.i]) || isDigit(p.b[p.i])) {
			p.i++
		}
		p.name = p.b[from:p.i]
	default:
		return KindNone, p.expected("a metric name after " + keyword)
	}
	from = p.i
	if end := bytes.IndexByte(p.b[p.i:], '\n'); end >= 0 {
		p.i += end
	} else {
		p.i = len(p.b)
	}
	text := p.b[from:p.i]
	if len(bytes.Trim(text, " \t")) == 0 {
		text = nil
	}
	if len(text) > 0 {
		text = text[1:] // What separates, which Prometheus does not look at.
	}
	if keyword == "HELP" {
		if p.help = text; !utf8.Valid(text) {
			return KindNone, p.fail(from, "the HELP text of %q is no valid UTF-8", p.name)
		}
		p.i++
		return KindHelp, nil
	}
	var ok bool
	if p.typ, ok = typeOf(text); !ok {
		return KindNone, p.fail(from, "expected counter, gauge, histogram, summary or untyped as type of %q, found %s", p.name, quote(text))
	}
	p.i++
	return KindType, nil
}

func typeOf(name []byte) (Type, bool) {
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

// peek returns the next byte, or a line end behind the last one: the input need not end in
// one.
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
