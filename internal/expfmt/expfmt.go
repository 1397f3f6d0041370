// Package expfmt reads expositions: a [Parser] walks over the bytes of one response, through a
// window if the caller likes, and yields entry by entry.
//
// It reads the text formats and OpenMetrics itself, in place and without allocating, and
// leaves protobuf, and the conversion of classic histograms, to Prometheus' parsers. It
// accepts and refuses what Prometheus accepts and refuses in the same format, oddities
// included (in the text format a value may follow a name directly, commas between labels may
// be missing, a line ends with \n only, a zero byte before an entry ends the input).
//
// The key of a sample, its name and braces as they stand in the response, identifies a series
// to a caller that has seen it before. Such a caller says which key it expects next, and which
// it knows, and a line that has it is not lexed: its key is hashed and its value is read.
//
// The package checks no limits and does not judge label names: whether a label set may be
// stored is decided where it is finished.
package expfmt

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"

	"github.com/prometheus/prometheus/model/histogram"
)

// Kind is what an entry of an exposition is.
type Kind uint8

// The kinds of entries.
const (
	KindNone Kind = iota
	// KindSample is a sample: [Parser.Key], [Parser.Value], [Parser.Time], [Parser.Start],
	// [Parser.Exemplar], [Parser.AppendLabels].
	KindSample
	// KindType is a TYPE comment: [Parser.Name], [Parser.Type].
	KindType
	// KindHelp is a HELP comment: [Parser.Name], [Parser.Help].
	KindHelp
	// KindUnit is a UNIT comment: [Parser.Name], [Parser.Unit].
	KindUnit
	// KindComment is any other comment.
	KindComment
	// KindHistogram is a native histogram: a sample with [Parser.Histogram] as the value.
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

// The metric types; the text formats have the first five only.
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

// String returns the word that Prometheus uses in metadata.
func (t Type) String() string {
	return [...]string{"unknown", "counter", "gauge", "histogram", "summary", "gaugehistogram", "info", "stateset"}[t]
}

// Hint is the key that is expected next, by its hash under the seed of [Parser.Reset] and its
// length in bytes. The zero Hint expects nothing.
type Hint struct {
	Hash uint64
	Len  int
}

// Options say how an exposition is read. The zero value is right for the text formats.
type Options struct {
	// Created takes the _created lines of OpenMetrics for start timestamps, [Parser.Start].
	// Without it they are series.
	Created bool
	// IgnoreNative reads the classic buckets of protobuf histograms and nothing else of them.
	IgnoreNative bool
	// KeepClassic yields the classic series of a histogram in addition to the native one,
	// where it has one or is turned into one.
	KeepClassic bool
	// ConvertClassic makes native histograms with custom buckets of classic histograms, in
	// every format.
	ConvertClassic bool
}

// Keys says which keys are known: those that a Parser with the same seed returned before.
type Keys interface {
	// Knows reports whether a key of that hash and length is known.
	Knows(hash uint64, size int) bool
}

// ErrMore means that the window ends before the next entry does. The caller moves the unread
// bytes to the front of its buffer, reads more behind them and calls [Parser.Feed].
var ErrMore = errors.New("expfmt: the window ends inside an entry")

// Parser reads one exposition at a time: [Parser.Reset] begins one, [Parser.Feed] gives it
// bytes. What its methods return points into those bytes or into memory of the Parser, and is
// valid until Next or Feed. A Parser can be used for any number of expositions.
type Parser struct {
	Options Options // Read by Reset.
	// Keys spares lines that are known, but not expected, from being lexed. It may be nil.
	Keys Keys

	format Format
	seed   maphash.Seed
	final  bool
	b      []byte // The window.
	i      int    // Next byte to read.
	base   int    // Bytes of the exposition before b.
	line   int    // Line ends before b.

	typ        Type // Of the last TYPE comment.
	name, help []byte
	again      bool // The name is one without quotes and stands in the window.
	unit       []byte
	text       []byte // Memory for help without escapes.

	start, end int // The key of the present sample.
	hash       uint64
	hinted     bool
	parts      []int // Offsets of its name, then of each label's name and value: from, to.
	value      float64
	time       int64
	hasTime    bool
	exemplar   example

	created created
	wrapped wrapped
}

// Reset begins an exposition of the given format. Keys are hashed with seed.
func (p *Parser) Reset(f Format, seed maphash.Seed) {
	*p = Parser{
		Options: p.Options, Keys: p.Keys, format: f, seed: seed,
		text: p.text[:0], parts: p.parts[:0], exemplar: example{parts: p.exemplar.parts[:0]},
		created: p.created.empty(), wrapped: wrapped{key: p.wrapped.key[:0]},
	}
	p.created.wanted = p.Options.Created && f == OpenMetrics100
}

// Feed gives the window. It begins with the first byte that was not read, so that
// [Parser.Unread] bytes of it have been in the last one. final says that the exposition ends
// with it. The Parser does not change b.
func (p *Parser) Feed(b []byte, final bool) {
	if p.Whole() {
		p.wrapped.body, p.final = b, final
		return
	}
	read := min(p.i, len(p.b))
	p.base += read
	p.line += bytes.Count(p.b[:read], []byte{'\n'})
	p.b, p.i, p.final = b, 0, final
	p.name, p.again = nil, false
}

// Unread returns how many bytes at the end of the window were not read.
func (p *Parser) Unread() int {
	if p.Whole() {
		return p.wrapped.unread()
	}
	return len(p.b) - min(p.i, len(p.b))
}

// Whole reports whether the exposition is read as a whole only, so that Next returns ErrMore
// until its end was fed: protobuf is, and whatever has classic histograms to convert.
func (p *Parser) Whole() bool { return p.format == Proto || p.Options.ConvertClassic }

// Next reads the next entry. It returns io.EOF at the end of the exposition, ErrMore when the
// window ends before, and otherwise an [*Error] at the first byte that the format does not
// allow or the error of Prometheus' parser. After an error other than ErrMore it must not be
// called again before Reset.
//
// h is the key that the caller expects next, one that a Parser with the same seed returned
// before. It changes nothing but the time taken.
func (p *Parser) Next(h Hint) (Kind, error) {
	for {
		from := p.i
		var kind Kind
		var err error
		switch {
		case p.matches(h), p.Keys != nil && p.recalls():
			if !p.created.wanted && p.plain() {
				return KindSample, nil
			}
			kind, err = p.sample()
		case p.Whole():
			return p.readWrapped(h)
		case p.format == OpenMetrics100:
			kind, err = p.readOpenMetrics()
		default:
			kind, err = p.readText()
		}
		if !p.final && (p.i > len(p.b) || err != nil && p.cut(from, err)) {
			p.i = from
			return KindNone, ErrMore
		}
		if kind != KindNone || err != nil {
			return kind, err
		}
	}
}

// matches reports whether a sample with the expected key begins here, and if so goes behind
// the key.
func (p *Parser) matches(h Hint) bool {
	end := p.i + h.Len
	if h.Len == 0 || end >= len(p.b) || !isBlank(p.b[end]) || maphash.Bytes(p.seed, p.b[p.i:end]) != h.Hash {
		return false
	}
	return p.isKey(end, h.Hash, true)
}

// recalls does what matches does for any key that is known. What it takes for the key are the
// bytes up to the first brace that closes before a blank, or up to a blank.
func (p *Parser) recalls() bool {
	if p.Whole() || p.i >= len(p.b) || !isNameStart(p.b[p.i]) {
		return false
	}
	n := bytes.IndexByte(p.b[p.i:], '\n')
	if n < 0 {
		return false
	}
	line := p.b[p.i : p.i+n]
	size := 0
	for brace := 0; size == 0; {
		i := bytes.IndexByte(line[brace:], '}')
		switch brace += i + 1; {
		case i < 0:
			if size = bytes.IndexByte(line, ' '); size < 0 {
				return false
			}
		case brace < len(line) && isBlank(line[brace]):
			size = brace
		}
	}
	hash := maphash.Bytes(p.seed, line[:size])
	return p.Keys.Knows(hash, size) && p.isKey(p.i+size, hash, false)
}

// isKey makes what stands before end the key of a sample that needs no lexing, and goes there,
// unless only the name was that of one.
func (p *Parser) isKey(end int, hash uint64, hinted bool) bool {
	next := end
	for next < len(p.b) && isBlank(p.b[next]) {
		next++
	}
	if next < len(p.b) && p.b[next] == '{' {
		return false
	}
	p.start, p.end, p.i = p.i, end, end
	p.hash, p.hinted = hash, hinted
	p.parts = p.parts[:0]
	p.exemplar.has = false
	return true
}

// plain reads the rest of a line that has a blank and a plain number, in the text format
// perhaps a blank and a timestamp, and its end. Otherwise it leaves p where it was.
func (p *Parser) plain() bool {
	v, n, ok := exactDecimal(p.b[p.i+1:])
	i := p.i + 1 + n
	if !ok || i >= len(p.b) {
		return false
	}
	p.value, p.hasTime = v, false
	if p.b[i] == ' ' && p.format != OpenMetrics100 {
		const most = 18 // Digits that cannot overflow.
		t, end := digits(p.b, i+1, 0)
		if end == i+1 || end-i > most || end >= len(p.b) {
			return false
		}
		p.time, p.hasTime = int64(t), true
		i = end
	}
	if p.b[i] != '\n' {
		return false
	}
	p.i = i + 1
	return true
}

// sample reads what follows a key, up to the end of the line.
func (p *Parser) sample() (Kind, error) {
	if p.format == OpenMetrics100 {
		return p.openMetricsSample()
	}
	return p.textSample()
}

// cut reports whether err, or the end, may be the window's and not the exposition's: all
// that errors depend on stands before the next line end.
func (p *Parser) cut(from int, err error) bool {
	const enough = 64 // What the text of an error shows of bytes that begin nothing.
	rest := p.b[min(p.i, len(p.b)):]
	if errors.Is(err, ErrMore) {
		return true
	}
	if errors.Is(err, io.EOF) {
		return len(rest) == 0 // Otherwise a zero byte ended the input.
	}
	if p.i == from && len(rest) >= enough {
		return false
	}
	return bytes.IndexByte(rest, '\n') < 0
}

// Key returns the name and the labels of the present sample as they stand in the input, such
// as http_requests_total{code="200"}; what was no text is written like it.
func (p *Parser) Key() []byte {
	if p.Whole() {
		return p.wrapped.key
	}
	return p.b[p.start:p.end]
}

// Hash returns the hash of Key under the seed of Reset.
func (p *Parser) Hash() uint64 { return p.hash }

// Hinted reports whether the present sample has the key that was expected.
func (p *Parser) Hinted() bool { return p.hinted }

// Value returns the value of the present sample. Any NaN is the one NaN that does not mean
// staleness.
func (p *Parser) Value() float64 { return p.value }

// Time returns the timestamp that stands behind the present sample, in milliseconds since
// the Unix epoch; ok is false without one.
func (p *Parser) Time() (t int64, ok bool) { return p.time, p.hasTime }

// Start returns when the counting of the present sample began, in milliseconds since the Unix
// epoch, or 0. OpenMetrics has it with Options.Created only.
func (p *Parser) Start() int64 { return p.created.start }

// Histogram returns the present native histogram; one of both is nil. They are the caller's.
func (p *Parser) Histogram() (*histogram.Histogram, *histogram.FloatHistogram) {
	return p.wrapped.h, p.wrapped.fh
}

// Type returns the type of the last TYPE comment, whatever metric it named: as in
// Prometheus, it decides how le and quantile are written.
func (p *Parser) Type() Type { return p.typ }

// Name returns the metric name of the present TYPE, HELP or UNIT, without quotes.
func (p *Parser) Name() []byte { return p.name }

// Help returns the text of the present HELP, its escapes resolved.
func (p *Parser) Help() []byte {
	if p.Whole() || bytes.IndexByte(p.help, '\\') < 0 {
		return p.help
	}
	p.text = appendUnescaped(p.text[:0], p.help, p.format == OpenMetrics100)
	return p.text
}

// Unit returns what the present UNIT states, which is nothing or how Name ends.
func (p *Parser) Unit() []byte { return p.unit }
