package stage

import (
	"bytes"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzPipeline runs lines through a list with every kind of stage. Whatever they are, each is
// accounted for, and what comes out is valid.
func FuzzPipeline(f *testing.F) {
	f.Add([]byte(`{"level":"INFO","time":"2026-03-04T01:02:03Z","message":"password=x","duration_ms":5}`+"\n\tat x\nplain\n"), false)
	f.Add([]byte("2026-03-04T01:02:03Z stdout P a\n2026-03-04T01:02:03Z stdout F b\n10.1.2.3 - ada [04/Mar/2026:06:06:07 +0100] \"GET / HTTP/1.1\" 404 12"), true)
	f.Add([]byte("level=error id=7 payload=\"{\\\"customer\\\":\\\"acme\\\"}\"\n\x1b[31mred\x1b[0m\nTraceback (most recent call last):\n  File"), true)
	lists := []*Program{compile(f, pasted), compile(f, `
- docker: {}
- multiline: {preset: python, max_lines: 3}
- multiline: {firstline: '^[a-m]', max_lines: 5}
- regex: {expression: '(?P<word>\w+)'}
- template: {source: new, template: '{{ .word | upper | trunc 3 }}{{ substr 1 2 .Entry }}'}
- labels: {new: }
- metrics: {seen: {type: gauge, source: word, config: {action: set}}}
- drop: {source: word, expression: '^x'}
- sampling: {rate: 0.9}
- limit: {rate: 5, burst: 3}
- redact:
- pack: {labels: [new]}
`)}
	f.Fuzz(func(t *testing.T, text []byte, worker bool) {
		for _, prog := range lists {
			r := prog.NewRunner(Deps{})
			p := r.NewPipeline()
			labels := base
			if worker {
				labels = labelsOf("app", "worker", "namespace", "shop")
			}
			in, out := 0, 0
			check := func(e *Entry) {
				out++
				if !utf8.Valid(e.Line) {
					t.Errorf("the line is not UTF-8: %q", e.Line)
				}
				for _, l := range append(e.Labels.All(), e.Metadata.All()...) {
					if !utf8.ValidString(l.Value) || !validLabel(l.Name) || l.Value == "" {
						t.Errorf("label %q is %q", l.Name, l.Value)
					}
				}
				if e.Seq < 1 || e.Seq > int64(in) {
					t.Errorf("seq %d of %d lines", e.Seq, in)
				}
			}
			now := start
			for line := range bytes.SplitSeq(bytes.ToValidUTF8(text, []byte("\uFFFD")), []byte("\n")) {
				in++
				now = now.Add(100 * time.Millisecond)
				e := Entry{T: now.UnixNano(), Line: line, Labels: labels, Seq: int64(in)}
				if p.Apply(&e, now) == Keep {
					check(&e)
				}
			}
			for e := (Entry{}); p.Drain(&e, now); {
				check(&e)
			}
			if _, _, held := p.Held(); held {
				t.Error("a line is held after Drain")
			}
			n := r.Counts(func(_ string, lines int) { out += lines })
			if out+n.Joined != in {
				t.Errorf("%d lines went in, %d are accounted for", in, out+n.Joined)
			}
			if r.Reset(); r.held != 0 {
				t.Errorf("%d bytes are held", r.held)
			}
		}
	})
}
