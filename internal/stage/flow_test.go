package stage

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// passes runs stages on a line and compares whether it comes out.
func passes(t *testing.T, stages, line string, want bool) {
	t.Helper()
	if got := newBench(t, stages).one(line) != nil; got != want {
		t.Errorf("%s\n%q comes out: %t, want %t", stages, line, got, want)
	}
}

func TestDropNeedsAllConditions(t *testing.T) {
	f := func(options, line string, want bool) {
		t.Helper()
		passes(t, "- logfmt: {mapping: {level: , app: , msg: , none: }}\n- drop: {"+options+"}", line, !want)
	}
	f("source: level, value: error", "level=error", true)
	f("source: level, value: error", "level=errors", false)
	f("source: level, value: ''", "x=1", true) // As in promtail, nothing is the empty text.
	f("source: level, expression: err.r", "level=an_error", true)
	f("source: level, expression: err.r", "level=info", false)
	f("source: level", "level=", true)
	f("source: level", "x=1", false)
	f("source: [level, msg]", "level=a msg=b", true)
	f("source: [level, msg]", "level=a", false)
	f("source: [level, msg], expression: '^error;x$'", "msg=x level=error", true)
	f("source: [level, msg], separator: '#', expression: '^error#x$'", "msg=x level=error", true)
	f("source: [level, none, msg], value: 'error;x'", "msg=x level=error", true)
	f("expression: '.*debug.*'", "a debug line", true)
	f("expression: '.*debug.*'", "another line", false)
	f("expression: ''", "x", true)
	f("longer_than: 8", "123456789", true)
	f("longer_than: 8", "12345678", false)
	f("longer_than: 1KB", strings.Repeat("x", 1024), false)
	f("longer_than: 8, expression: z", "123456789", false)
	f("longer_than: 8, expression: z", "12345678z", true)
	f("older_than: 24h", "now", false)

	b := newBench(t, "- drop: {older_than: 24h, drop_counter_reason: line_too_old}\n- drop: {expression: x}")
	e := b.line("old")
	e.T = b.now.Add(-25 * time.Hour).UnixNano()
	if b.p.Apply(e, b.now) != Drop {
		t.Error("a line of yesterday is kept")
	}
	b.one("x")
	if got, want := b.dropped(), (map[string]int{"line_too_old": 1, "drop_stage": 1}); !maps.Equal(got, want) {
		t.Errorf("dropped = %v, want %v", got, want)
	}
	if again := b.dropped(); len(again) != 0 {
		t.Errorf("counts are not taken: %v", again)
	}

	// JSON's null is no value, so that a line without the key is not dropped for having it.
	passes(t, "- json: {expressions: {secret: }}\n- drop: {source: secret}", `{"a":1}`, true)
	passes(t, "- json: {expressions: {secret: }}\n- drop: {source: secret}", `{"secret":1}`, false)
	passes(t, "- json: {expressions: {secret: }}\n- drop: {source: secret, expression: ''}", `{"a":1}`, true)
}

func TestMatchSelects(t *testing.T) {
	f := func(selector, line string, want bool) {
		t.Helper()
		passes(t, "- match: {selector: '"+selector+"', action: drop}", line, !want)
	}
	f(`{app="web"}`, "x", true)
	f(`{app="db"}`, "x", false)
	f(`{app!="db"}`, "x", true)
	f(`{app=~"we.|db"}`, "x", true)
	f(`{app=~"e"}`, "x", false) // Whole values.
	f(`{app!~"we.", namespace="shop"}`, "x", false)
	f(`{absent=""}`, "x", true)
	f(`{absent!=""}`, "x", false)
	f(`{app="web"} |= "err"`, "an error", true)
	f(`{app="web"} |= "err"`, "fine", false)
	f(`{app="web"} != "err"`, "an error", false)
	f("{app=\"web\"} |~ `err?or`", "an error", true)
	f(`{app="web"} !~ "err?or"`, "an error", false)
	f(`{app="web"}|="a"!="b"|~"c.e"`, "a cde", true)
	f(`{app="web"}|="a"!="b"|~"c.e"`, "ab cde", false)
	f(`{ app = "web" , namespace =~ "sh.*" }`, "x", true)
	f(`{}`, "x", true)

	for selector, want := range map[string]string{
		``:                   `expected { and labels, such as {app="nginx"} at the end`,
		`app="x"`:            `expected { and labels`,
		`{app="x"`:           `expected , or } at the end`,
		`{app}`:              `expected one of = != =~ !~ at character 5, before "}"`,
		`{="x"}`:             `expected the name of a label`,
		`{app=x}`:            `expected a text in quotes at character 6`,
		`{app='x'}`:          `expected a text in quotes`,
		`{app="x"} | "y"`:    `expected one of |= != |~ !~ at character 11`,
		`{app="x"} |= y`:     `expected a text in quotes`,
		`{app=~"("}`:         `the expression "(": error parsing regexp`,
		`{app="x"} |~ "("`:   `the expression "(": error parsing regexp`,
		`{app="x"} | json`:   `expected one of |= != |~ !~`,
		`{app="x" namespace`: `expected , or }`,
	} {
		if _, err := parseSelector(selector); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want %q", selector, err, want)
		}
	}
}

func TestMatchRunsStagesOnSomeLines(t *testing.T) {
	stages := `
- json: {expressions: {msg: }}
- match:
    selector: '{app="web"} |~ "json"'
    stages:
      - labels: {via: msg}
      - match:
          selector: '{via="app1 log"}'
          action: drop
          drop_counter_reason: inner
      - output: {source: msg}
- static_labels: {after: "yes"}
`
	b := newBench(t, stages)
	for _, c := range []struct{ line, out, labels string }{
		{`{"msg":"a json log"}`, "a json log", `{after="yes", app="web", namespace="shop", via="a json log"}`},
		{`{"msg":"other"}`, `{"msg":"other"}`, `{after="yes", app="web", namespace="shop"}`},
	} {
		if e := b.one(c.line); string(e.Line) != c.out || e.Labels.String() != c.labels {
			t.Errorf("%s becomes %q %v, want %q %s", c.line, e.Line, e.Labels, c.out, c.labels)
		}
	}
	if b.one(`{"msg":"app1 log","as":"json"}`) != nil || b.dropped()["inner"] != 1 {
		t.Error("the inner match does not drop")
	}
	// The same pipeline sees other labels.
	e := b.line(`{"msg":"a json log"}`)
	e.Labels = ""
	if b.p.Apply(e, b.now); e.Labels.String() != `{after="yes"}` {
		t.Errorf("without labels: %v", e.Labels)
	}
	// The stages inside find the labels as they are now.
	labelled(t, "- static_labels: {app: new}\n- labels: {before: app}\n- match: {selector: '{app=\"new\"}', stages: [labels: {inside: app}]}", "x",
		`{app="new", before="web", inside="new", namespace="shop"}`, "{}")
	labelled(t, "- template: {source: app, template: t}\n- match: {selector: '{app=\"web\"}', stages: [labels: {inside: app}]}", "x",
		`{app="web", inside="web", namespace="shop"}`, "{}")
}

func TestLimitLetsTheRateThrough(t *testing.T) {
	b := newBench(t, "- limit: {rate: 10, burst: 5, drop: true}")
	count := func(n int) (kept int) {
		for range n {
			if b.one("x") != nil {
				kept++
			}
		}
		return kept
	}
	if n := count(20); n != 5 {
		t.Errorf("%d lines of a burst pass, want 5", n)
	}
	if b.now = b.now.Add(300 * time.Millisecond); count(20) != 3 {
		t.Error("0.3 s at 10 lines a second do not let 3 lines pass")
	}
	if b.now = b.now.Add(time.Hour); count(20) != 5 {
		t.Error("the burst is not the most")
	}
	if b.now = b.now.Add(-time.Hour); count(20) != 0 {
		t.Error("a clock that is set back lets lines pass")
	}
	if got := b.dropped()["ratelimit_drop_stage"]; got != 80-13 {
		t.Errorf("dropped %d, want 67", got)
	}
	// All streams of a runner share a limit.
	b = newBench(t, "- limit: {rate: 1, burst: 1, drop: true}")
	other := b.r.NewPipeline()
	if e := b.line("x"); b.one("x") == nil || other.Apply(e, b.now) != Drop {
		t.Error("a second stream has a limit of its own")
	}
}

func TestLimitWithoutDropAsksForPauses(t *testing.T) {
	b := newBench(t, "- limit: {rate: 10, burst: 2}")
	var delays []time.Duration
	for range 4 {
		e := b.one("x")
		if e == nil {
			t.Fatal("a line is dropped")
		}
		delays = append(delays, e.Delay)
	}
	if got, want := fmt.Sprint(delays), "[0s 0s 100ms 200ms]"; got != want {
		t.Errorf("pauses = %s, want %s", got, want)
	}
	b.now = b.now.Add(200 * time.Millisecond)
	if e := b.one("x"); e.Delay != 100*time.Millisecond {
		t.Errorf("after the pause the next line asks for %s, want 100ms", e.Delay)
	}
}

func TestLimitByLabelIsBounded(t *testing.T) {
	b := newBench(t, "- logfmt: {mapping: {ns: }}\n- labels: {ns: }\n- limit: {rate: 1, burst: 1, drop: true, by_label_name: ns}")
	if b.one("ns=a") == nil || b.one("ns=b") == nil || b.one("ns=a") != nil || b.one("none") == nil || b.one("none") == nil {
		t.Error("values of the label are not limited on their own")
	}
	for i := range 5 * minDistinctLabels {
		b.one(fmt.Sprintf("ns=%d", i))
		if i%1000 == 0 && b.one("ns=a") != nil {
			t.Fatalf("after %d other values a busy one is forgotten", i)
		}
	}
	if l := &b.r.limits[0]; len(l.byLabel)+len(l.old) > 2*minDistinctLabels {
		t.Errorf("%d values are kept", len(l.byLabel)+len(l.old))
	}
}

func TestSamplingLetsAShareThrough(t *testing.T) {
	f := func(rate string, least, most int) {
		t.Helper()
		b := newBench(t, "- sampling: {rate: "+rate+"}")
		n := 0
		for range 10_000 {
			if b.one("x") != nil {
				n++
			}
		}
		if n < least || n > most || b.dropped()["sampling_stage"] != 10_000-n {
			t.Errorf("%d of 10000 pass at %s, want %d to %d", n, rate, least, most)
		}
	}
	f("0", 0, 0)
	f("0.25", 2300, 2700)
	f("1", 10_000, 10_000)
}

func TestNothingHappensWithoutStages(t *testing.T) {
	prog, err := Compile(nil)
	if err != nil || !prog.Empty() {
		t.Fatalf("Compile(nil) = %v, %v", prog, err)
	}
	e := &Entry{T: 1, Line: []byte("x"), Labels: base, Seq: 9}
	p := prog.NewRunner(Deps{}).NewPipeline()
	if p.Apply(e, start) != Keep || e.T != 1 || string(e.Line) != "x" || e.Labels != base || e.Seq != 9 {
		t.Errorf("the line became %+v", e)
	}
	if _, _, ok := p.Held(); ok || p.Drain(e, start) {
		t.Error("something is held")
	}
}

func TestStreamsPutLinesTogether(t *testing.T) {
	var s Streams
	for round := range 3 {
		for i, text := range []string{"a1", "a2", "b1", "a3", "c1", "b2"} {
			e := &Entry{T: int64(i), Line: []byte(text), Labels: base}
			if text[0] == 'b' {
				e.Labels = ""
			}
			if text[0] == 'c' {
				e.Metadata = base
			}
			s.Add(e)
		}
		var got []string
		for _, stream := range s.List() {
			var lines []string
			for _, e := range stream.Entries {
				lines = append(lines, string(e.Line))
			}
			got = append(got, fmt.Sprintf("%v%v%v", stream.Labels, stream.Metadata, lines))
		}
		want := fmt.Sprintf("[%v{}[a1 a2 a3] {}{}[b1 b2] %v%v[c1]]", base, base, base)
		if fmt.Sprint(got) != want {
			t.Errorf("round %d: %v, want %v", round, got, want)
		}
		s.Reset()
		if len(s.List()) != 0 {
			t.Error("Reset leaves streams")
		}
	}
}
