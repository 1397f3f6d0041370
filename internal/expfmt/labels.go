package expfmt

import (
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// AppendLabels appends the labels of the present sample, first __name__, then the others
// in the order of the input, unescaped. It copies the key, so the result does not point into
// the input. As in Prometheus 3, le of histograms and quantile of summaries are written the way
// OpenMetrics writes numbers ("1" becomes "1.0"), according to [Parser.Type]. Names may
// repeat and values may be empty.
func (p *Parser) AppendLabels(dst []model.Label) []model.Label {
	if p.Whole() {
		return p.wrapped.appendLabels(dst)
	}
	if len(p.parts) == 0 {
		p.lexAgain()
	}
	key, from := string(p.b[p.start:p.end]), p.start // One string for all of them.
	escaped := strings.IndexByte(key, '\\') >= 0
	text := func(i int) string {
		s := key[p.parts[i]-from : p.parts[i+1]-from]
		if escaped {
			return unescape(s)
		}
		return s
	}
	dst = append(dst, model.Label{Name: "__name__", Value: text(0)})
	for i := 2; i < len(p.parts); i += 4 {
		name, value := text(i), text(i+2)
		if p.normalizes(name) {
			if f, err := strconv.ParseFloat(value, 64); err == nil {
				value = labels.FormatOpenMetricsFloat(f)
			}
		}
		dst = append(dst, model.Label{Name: name, Value: value})
	}
	return dst
}

// lexAgain finds the parts of a key that was not lexed because it was expected. There is
// no error: the same bytes were lexed before they were expected.
func (p *Parser) lexAgain() {
	at := p.i
	p.i = p.start
	_ = p.lexKey()
	p.i = at
}

// normalizes reports whether the present type makes a number of the named label's value.
func (p *Parser) normalizes(name string) bool {
	return p.typ == TypeHistogram && name == "le" || p.typ == TypeSummary && name == "quantile"
}

// unescape replaces \\, \" and \n; any other character after a backslash stands for itself,
// backslash included.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return string(appendUnescaped(nil, []byte(s), true))
}

// appendUnescaped does what [unescape] does; without quotes \" is no escape.
func appendUnescaped(dst, b []byte, quotes bool) []byte {
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			switch next := b[i+1]; {
			case next == '\\' || next == '"' && quotes:
				i++
			case next == 'n':
				i++
				dst = append(dst, '\n')
				continue
			}
		}
		dst = append(dst, b[i])
	}
	return dst
}
