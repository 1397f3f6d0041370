package expfmt

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	commonmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// wrapped is one of Prometheus' parsers, which read an exposition as a whole, and what its
// present entry is.
type wrapped struct {
	body   []byte
	parser textparse.Parser

	key []byte
	ls  labels.Labels
	h   *histogram.Histogram
	fh  *histogram.FloatHistogram
}

func (w *wrapped) unread() int {
	if w.parser != nil {
		return 0
	}
	return len(w.body)
}

// readWrapped reads the next entry with Prometheus' parser. That has been seen to panic, for
// which nobody but the target is to blame.
func (p *Parser) readWrapped(h Hint) (kind Kind, err error) {
	defer func() {
		if r := recover(); r != nil {
			kind, err = KindNone, fmt.Errorf("reading the exposition panicked: %v", r)
		}
	}()
	w := &p.wrapped
	if w.parser == nil {
		if !p.final {
			return KindNone, ErrMore
		}
		if err = p.guard(); err != nil {
			return KindNone, err
		}
		w.parser = p.newWrapped()
	}
	entry, err := w.parser.Next()
	if errors.Is(err, io.EOF) {
		return KindNone, io.EOF
	}
	if err != nil {
		return KindNone, err
	}
	w.h, w.fh = nil, nil
	var at *int64
	switch entry {
	case textparse.EntrySeries:
		kind = KindSample
		_, at, p.value = w.parser.Series()
	case textparse.EntryHistogram:
		kind = KindHistogram
		_, at, w.h, w.fh = w.parser.Histogram()
	default:
		return p.wrappedMetadata(entry), nil
	}
	p.time, p.hasTime = 0, at != nil
	if at != nil {
		p.time = *at
	}
	w.parser.Labels(&w.ls)
	w.key = appendKey(w.key[:0], w.ls)
	p.hash = maphash.Bytes(p.seed, w.key)
	p.hinted = p.hash == h.Hash && len(w.key) == h.Len
	p.created.start = 0
	if p.Options.Created || p.format == Proto {
		p.created.start = w.parser.StartTimestamp()
	}
	return kind, nil
}

// newWrapped returns the parser that the format and the options ask for. The one of the text
// format writes a line end behind the body, so it gets a copy.
func (p *Parser) newWrapped() textparse.Parser {
	o, b, st := p.Options, p.wrapped.body, labels.NewSymbolTable()
	switch p.format {
	case Proto:
		return textparse.NewProtobufParser(b, o.IgnoreNative, o.KeepClassic, o.ConvertClassic, false, st)
	case OpenMetrics100:
		var opts []textparse.OpenMetricsOption
		if o.Created {
			opts = append(opts, textparse.WithOMParserSTSeriesSkipped())
		}
		return textparse.NewNHCBParser(textparse.NewOpenMetricsParser(b, st, opts...), st, o.KeepClassic)
	default:
		return textparse.NewNHCBParser(textparse.NewPromParser(slices.Clip(b), st, false), st, o.KeepClassic)
	}
}

func (p *Parser) wrappedMetadata(entry textparse.Entry) Kind {
	w := &p.wrapped
	switch entry {
	case textparse.EntryType:
		var typ commonmodel.MetricType
		p.name, typ = w.parser.Type()
		p.typ, _ = strictType([]byte(typ))
		return KindType
	case textparse.EntryHelp:
		p.name, p.help = w.parser.Help()
		return KindHelp
	case textparse.EntryUnit:
		p.name, p.unit = w.parser.Unit()
		return KindUnit
	default:
		return KindComment
	}
}

func (w *wrapped) appendLabels(dst []model.Label) []model.Label {
	from := len(dst)
	dst = append(dst, model.Label{Name: commonmodel.MetricNameLabel})
	w.ls.Range(func(l labels.Label) {
		if l.Name == commonmodel.MetricNameLabel && dst[from].Value == "" {
			dst[from].Value = l.Value
			return
		}
		dst = append(dst, model.Label(l))
	})
	return dst
}

func (w *wrapped) exemplar(e *Exemplar) bool {
	var x exemplar.Exemplar
	if !w.parser.Exemplar(&x) {
		return false
	}
	*e = Exemplar{Labels: e.Labels[:0], Value: x.Value, Time: x.Ts, HasTime: x.HasTs}
	x.Labels.Range(func(l labels.Label) { e.Labels = model.AppendLabel(e.Labels, l.Name, l.Value) })
	return true
}

// appendKey appends a label set in the text format, in the form that the parser of this
// package takes without a stop: name{a="b",c="d"}, or with the name inside the braces where
// it needs quotes.
func appendKey(dst []byte, ls labels.Labels) []byte {
	name := ls.Get(commonmodel.MetricNameLabel)
	open := false
	if isLegacyName(name) {
		dst = append(dst, name...)
	} else {
		dst = appendQuoted(append(dst, '{'), name)
		open = true
	}
	separator := byte('{')
	if open {
		separator = ','
	}
	ls.Range(func(l labels.Label) {
		if l.Name == commonmodel.MetricNameLabel && l.Value == name {
			return
		}
		dst = append(dst, separator)
		separator, open = ',', true
		if isLegacyLabel(l.Name) {
			dst = append(dst, l.Name...)
		} else {
			dst = appendQuoted(dst, l.Name)
		}
		dst = appendQuoted(append(dst, '='), l.Value)
	})
	if open {
		dst = append(dst, '}')
	}
	return dst
}

// appendQuoted appends s in quotes, with the escapes of label values.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\n':
			dst = append(dst, '\\', 'n')
		case '"', '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func isLegacyName(s string) bool {
	for i := range len(s) {
		if !isNameStart(s[i]) && (i == 0 || !isDigit(s[i])) {
			return false
		}
	}
	return s != ""
}

func isLegacyLabel(s string) bool { return isLegacyName(s) && strings.IndexByte(s, ':') < 0 }
