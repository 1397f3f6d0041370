// Package parser_test compares how expositions are read here and by Prometheus.
package parser_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// entry is what both parsers must agree on.
type entry struct {
	Kind      string
	Key       string // Of the text formats, as it stands in the input.
	Text      string // Of metadata.
	Bits      uint64
	Time      string
	Start     int64
	Labels    string
	Histogram string
	Exemplars []string
}

// way is a format and options.
type way struct {
	name    string
	format  expfmt.Format
	content string
	options expfmt.Options
}

func (w way) wrapped() bool { return w.format == expfmt.Proto || w.options.ConvertClassic }

func ways() []way {
	const om, proto = "application/openmetrics-text", "application/vnd.google.protobuf"
	return []way{
		{"text", expfmt.Text004, "text/plain", expfmt.Options{}},
		{"text converted", expfmt.Text100, "text/plain", expfmt.Options{ConvertClassic: true}},
		{"text converted and kept", expfmt.Text100, "text/plain", expfmt.Options{ConvertClassic: true, KeepClassic: true}},
		{"OpenMetrics", expfmt.OpenMetrics100, om, expfmt.Options{}},
		{"OpenMetrics with start", expfmt.OpenMetrics100, om, expfmt.Options{Created: true}},
		{"OpenMetrics converted", expfmt.OpenMetrics100, om, expfmt.Options{Created: true, ConvertClassic: true}},
		{"protobuf", expfmt.Proto, proto, expfmt.Options{}},
		{"protobuf with both", expfmt.Proto, proto, expfmt.Options{KeepClassic: true}},
		{"protobuf classic", expfmt.Proto, proto, expfmt.Options{IgnoreNative: true}},
		{"protobuf converted", expfmt.Proto, proto, expfmt.Options{ConvertClassic: true}},
		{"protobuf converted and kept", expfmt.Proto, proto, expfmt.Options{ConvertClassic: true, KeepClassic: true}},
	}
}

func wayOf(t testing.TB, name string) way {
	t.Helper()
	for _, w := range ways() {
		if w.name == name {
			return w
		}
	}
	t.Fatalf("no way %q", name)
	return way{}
}

// stream gives a parser one window after the other, each in fresh memory; the old one is
// overwritten, so that nothing may point into it.
type stream struct {
	p    *expfmt.Parser
	rest []byte // Not yet fed.
	last []byte
	grow func() int
}

func (s *stream) feed() {
	unread := s.last[len(s.last)-s.p.Unread():]
	n := min(s.grow(), len(s.rest))
	window := append(bytes.Clone(unread), s.rest[:n]...)
	s.rest = s.rest[n:]
	for i := range s.last {
		s.last[i] = 0xff
	}
	s.last = window
	s.p.Feed(window, len(s.rest) == 0)
}

// ours reads b with this repository's parser through windows that grow by what grow says.
func ours(t *testing.T, w way, b []byte, grow func() int) (all []entry, failed error) {
	t.Helper()
	seed := maphash.MakeSeed()
	p := &expfmt.Parser{Options: w.options}
	var hints []expfmt.Hint
	read := func(expected []expfmt.Hint) (all []entry, failed error) {
		p.Reset(w.format, seed)
		s := &stream{p: p, rest: b, grow: grow}
		s.feed()
		n := 0
		for {
			var h expfmt.Hint
			if n < len(expected) {
				h = expected[n]
			}
			kind, err := p.Next(h)
			switch {
			case errors.Is(err, expfmt.ErrMore):
				if len(s.rest) == 0 {
					t.Fatalf("more wanted of the whole %q", b)
				}
				s.feed()
				continue
			case errors.Is(err, io.EOF):
				return all, nil
			case err != nil:
				return all, err
			}
			if kind == expfmt.KindSample || kind == expfmt.KindHistogram {
				n++
				if expected == nil {
					hints = append(hints, expfmt.Hint{Hash: p.Hash(), Len: len(p.Key())})
				}
				if p.Hash() != maphash.Bytes(seed, p.Key()) {
					t.Errorf("hash of %q is not that of its key", p.Key())
				}
			}
			all = append(all, entryOf(t, w, p, kind))
		}
	}
	all, failed = read(nil)
	again, failedAgain := read(hints)
	if diff := cmp.Diff(all, again, cmpopts.EquateEmpty()); diff != "" || (failed == nil) != (failedAgain == nil) {
		t.Errorf("hints change what is read of %q: %s\n%v\n%v", b, diff, failed, failedAgain)
	}
	p.Keys = known(hints)
	again, failedAgain = read([]expfmt.Hint{})
	if diff := cmp.Diff(all, again, cmpopts.EquateEmpty()); diff != "" || (failed == nil) != (failedAgain == nil) {
		t.Errorf("known keys change what is read of %q: %s\n%v\n%v", b, diff, failed, failedAgain)
	}
	return all, failed
}

// known is keys that were read before.
type known []expfmt.Hint

func (k known) Knows(hash uint64, size int) bool {
	return slices.Contains(k, expfmt.Hint{Hash: hash, Len: size})
}

func entryOf(t *testing.T, w way, p *expfmt.Parser, kind expfmt.Kind) entry {
	t.Helper()
	switch kind {
	case expfmt.KindType:
		return entry{Kind: "type", Key: string(p.Name()), Text: p.Type().String()}
	case expfmt.KindHelp:
		return entry{Kind: "help", Key: string(p.Name()), Text: string(p.Help())}
	case expfmt.KindUnit:
		return entry{Kind: "unit", Key: string(p.Name()), Text: string(p.Unit())}
	case expfmt.KindComment:
		return entry{Kind: "comment"}
	}
	e := entry{Kind: "sample", Labels: show(p.AppendLabels(nil)), Start: p.Start()}
	if at, ok := p.Time(); ok {
		e.Time = fmt.Sprint(at)
	}
	if kind == expfmt.KindHistogram {
		e.Kind = "histogram"
		h, fh := p.Histogram()
		e.Histogram = showHistogram(h, fh)
	} else {
		e.Bits = math.Float64bits(p.Value())
	}
	var x expfmt.Exemplar
	for p.Exemplar(&x) {
		e.Exemplars = append(e.Exemplars, fmt.Sprintf("%s %v %d %v", show(model.Labels(x.Labels).All()), x.Value, x.Time, x.HasTime))
	}
	if w.wrapped() {
		checkKey(t, p.Key(), e.Labels)
	} else {
		e.Key = string(p.Key())
	}
	return e
}

// checkKey reads a key that was made as text, which has no way to write a zero byte.
func checkKey(t *testing.T, key []byte, want string) {
	t.Helper()
	if bytes.IndexByte(key, 0) >= 0 {
		return
	}
	var p expfmt.Parser
	p.Reset(expfmt.Text004, maphash.MakeSeed())
	p.Feed([]byte(string(key)+" 1"), true)
	kind, err := p.Next(expfmt.Hint{})
	if err != nil || kind != expfmt.KindSample || string(p.Key()) != string(key) || show(p.AppendLabels(nil)) != want {
		t.Errorf("key %q of %s reads as %s (%v)", key, want, p.Key(), err)
	}
}

func show(ls []model.Label) string {
	b := labels.NewScratchBuilder(len(ls))
	for _, l := range ls {
		b.Add(l.Name, l.Value)
	}
	b.Sort()
	return b.Labels().String()
}

func showHistogram(h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	if h != nil {
		return fmt.Sprintf("integer %d %v %+v", h.CounterResetHint, h.CustomValues, h)
	}
	return fmt.Sprintf("float %d %v %+v", fh.CounterResetHint, fh.CustomValues, fh)
}

// theirs reads b with Prometheus' parser. ok is false when it panics.
func theirs(w way, b []byte) (all []entry, failed error, ok bool) {
	defer func() {
		if recover() != nil {
			all, failed, ok = nil, nil, false
		}
	}()
	p, err := textparse.New(bytes.Clone(b), w.content, nil, textparse.ParserOptions{
		IgnoreNativeHistograms:                  w.options.IgnoreNative,
		ConvertClassicHistogramsToNHCB:          w.options.ConvertClassic,
		KeepClassicOnClassicAndNativeHistograms: w.options.KeepClassic,
		OpenMetricsSkipSTSeries:                 w.options.Created,
	})
	if err != nil {
		return nil, err, true
	}
	for {
		kind, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all, nil, true
		}
		if err != nil {
			return all, err, true
		}
		all = append(all, theirEntry(w, p, kind))
	}
}

func theirEntry(w way, p textparse.Parser, kind textparse.Entry) entry {
	switch kind {
	case textparse.EntryType:
		name, typ := p.Type()
		return entry{Kind: "type", Key: string(name), Text: string(typ)}
	case textparse.EntryHelp:
		name, text := p.Help()
		return entry{Kind: "help", Key: string(name), Text: string(text)}
	case textparse.EntryUnit:
		name, text := p.Unit()
		return entry{Kind: "unit", Key: string(name), Text: string(text)}
	case textparse.EntryComment:
		return entry{Kind: "comment"}
	}
	e := entry{Kind: "sample"}
	var key []byte
	var at *int64
	if kind == textparse.EntryHistogram {
		var h *histogram.Histogram
		var fh *histogram.FloatHistogram
		key, at, h, fh = p.Histogram()
		e.Kind, e.Histogram = "histogram", showHistogram(h, fh)
	} else {
		var v float64
		key, at, v = p.Series()
		e.Bits = math.Float64bits(v)
	}
	if at != nil {
		e.Time = fmt.Sprint(*at)
	}
	if !w.wrapped() {
		e.Key = strings.TrimLeft(string(key), " \t")
	}
	var ls labels.Labels
	p.Labels(&ls)
	e.Labels = ls.String()
	if w.format == expfmt.Text004 && !w.wrapped() {
		e.Labels = withoutBlanks(ls, key)
	}
	if w.options.Created || w.format == expfmt.Proto {
		e.Start = p.StartTimestamp()
	}
	for {
		var x exemplar.Exemplar
		if !p.Exemplar(&x) {
			return e
		}
		e.Exemplars = append(e.Exemplars, fmt.Sprintf("%s %v %d %v", x.Labels, x.Value, x.Ts, x.HasTs))
	}
}

// withoutBlanks writes a label set without the blanks before the line, which Prometheus takes
// for a part of the name.
func withoutBlanks(ls labels.Labels, key []byte) string {
	b := labels.NewScratchBuilder(0)
	ls.Range(func(l labels.Label) {
		if l.Name == "__name__" && !strings.HasPrefix(strings.TrimLeft(string(key), " \t"), "{") {
			l.Value = strings.TrimLeft(l.Value, " \t")
		}
		b.Add(l.Name, l.Value)
	})
	b.Sort()
	return b.Labels().String()
}

// compare reads b in both parsers, in ours whole and through windows.
func compare(t *testing.T, w way, b []byte) {
	t.Helper()
	if w.format == expfmt.OpenMetrics100 && (w.options.Created || w.options.ConvertClassic) {
		// Their search for start timestamps does not end on some malformed exemplars.
		if _, err, _ := theirs(wayOf(t, "OpenMetrics"), b); err != nil {
			if _, failed := ours(t, w, b, func() int { return len(b) }); failed == nil {
				t.Errorf("verdict on %q as %s: none, Prometheus: %v", b, w.name, err)
			}
			return
		}
	}
	want, wantErr, ok := theirs(w, b)
	if !ok {
		_, _ = ours(t, w, b, func() int { return len(b) })
		return
	}
	random := rand.New(rand.NewPCG(uint64(len(b)), 1))
	grows := []func() int{
		func() int { return len(b) },
		func() int { return 1 + random.IntN(1+len(b)/3) },
	}
	if len(b) < 500 {
		grows = append(grows, func() int { return 1 })
	}
	for i, grow := range grows {
		got, gotErr := ours(t, w, b, grow)
		if (gotErr == nil) != (wantErr == nil) {
			t.Errorf("verdict on %q as %s: %v, Prometheus: %v", b, w.name, gotErr, wantErr)
			return
		}
		expected := want
		if wantErr != nil { // Ours may notice earlier that a line is wrong.
			n := min(len(got), len(want))
			got, expected = got[:n], want[:n]
		}
		if diff := cmp.Diff(expected, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("entries of %.500q as %s in windows of kind %d differ from Prometheus (-theirs +ours):\n%s", b, w.name, i, diff)
			return
		}
	}
}
