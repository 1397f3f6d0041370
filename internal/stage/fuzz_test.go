package stage

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// FuzzJSON compares the scanner with encoding/json: the same documents are JSON, and the same
// values stand under the same keys.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"b":{"c":"x\u00e9\ud83d\ude00\ud800"}}`, `{"a":[1,{"a":2}],"b":{"c":null}}`, `{"a":-0.5e+3,"a":true}`, ` null `, `[]`, `{"\u0061":"esc"}`,
		`{"b":{"c":1},"b":2}`, "{\"a\":\"\xff\"}", `{"a":1}}`, `{"a":{"b":[1 , "x y" ,{ }]}}`, `{"a":1e999}`, `{"a":12345678901234567890}`,
	} {
		f.Add([]byte(s))
	}
	list, err := load("- json: {expressions: {a: , c: b.c, d: 'b.c || a', e: 'a[].a'}}")
	if err != nil {
		f.Fatal(err)
	}
	prog, err := Compile(list)
	if err != nil {
		f.Fatal(err)
	}
	var tree jsonTree
	tree.add([]string{"a"}, 0)
	tree.add([]string{"b", "c"}, 1)
	r := prog.NewRunner(Deps{})
	f.Fuzz(func(t *testing.T, in []byte) {
		if !utf8.Valid(in) {
			return // Lines are.
		}
		var doc map[string]json.RawMessage
		want := json.Unmarshal(in, &doc) == nil
		found, got := r.json.scan(in, &tree, 2)
		if got && !want && bytes.ContainsFunc(in, unicode.IsControl) {
			return
		}
		if got != want && (got || !deep(in)) {
			t.Fatalf("%q is an object: %t, want %t", in, got, want)
		}
		if !got {
			return
		}
		if !bytes.Equal(found[0], bytes.Trim(doc["a"], " \t\r\n")) {
			t.Errorf("%q: a = %q, want %q", in, found[0], doc["a"])
		}
		var b map[string]json.RawMessage
		_ = json.Unmarshal(doc["b"], &b) // Where it is none, there is nothing in it.
		if !bytes.Equal(found[1], b["c"]) {
			t.Errorf("%q: b.c = %q, want %q", in, found[1], b["c"])
		}
		checkJSONText(t, r, found[0])
		e := Entry{Line: in}
		if r.NewPipeline().Apply(&e, start) != Keep || !bytes.Equal(e.Line, in) {
			t.Errorf("%q: the line changed", in)
		}
		r.Reset()
	})
}

// checkJSONText compares a text and a compacted value with encoding/json's.
func checkJSONText(t *testing.T, r *Runner, raw []byte) {
	t.Helper()
	switch {
	case len(raw) == 0:
	case raw[0] == '"':
		var want string
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		if got := string(appendUnescaped(nil, raw[1:len(raw)-1])); got != want {
			t.Errorf("%q is %q, want %q", raw, got, want)
		}
	case raw[0] == '{' || raw[0] == '[':
		var want bytes.Buffer
		if err := json.Compact(&want, raw); err != nil {
			t.Fatal(err)
		}
		if got := r.compact(raw); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%q is %q, want %q", raw, got, want.Bytes())
		}
	}
}

func deep(in []byte) bool {
	return bytes.Count(in, []byte("{"))+bytes.Count(in, []byte("[")) > maxDepth
}

// FuzzLogfmt checks that every pair is a part of the line, in order, and that it ends.
func FuzzLogfmt(f *testing.F) {
	for _, s := range []string{`a=1 b="x \"y\" \u00e9" c`, `a==`, `"`, "a=\"\n\"", "a=\xff \xff=1", `a="\'" b='x'`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		rest := in
		for range len(in) + 1 {
			key, value, escaped, after, ok := logfmtPair(rest)
			if !ok {
				return
			}
			if len(after) >= len(rest) || len(key) == 0 || !bytes.Contains(rest, key) || !bytes.Contains(rest, value) {
				t.Fatalf("%q gives %q=%q and leaves %q", rest, key, value, after)
			}
			if out := appendUnescaped(nil, value); escaped && utf8.Valid(value) && !utf8.Valid(out) {
				t.Fatalf("%q unescapes to %q", value, out)
			}
			rest = after
		}
		t.Fatalf("%q does not end", in)
	})
}

// FuzzTimestamp checks that times are within what can be counted and agree with package time.
func FuzzTimestamp(f *testing.F) {
	f.Add("2026-03-04T05:06:07.5+01:00")
	f.Add("1562708916.414")
	f.Add("-1.999999999999")
	f.Add("Mar  4 05:06:07")
	f.Add("9999-12-31T23:59:59Z")
	formats := []string{"RFC3339", "Unix", "UnixMs", "UnixUs", "UnixNs", "Jan _2 15:04:05", "2006-01-02 15:04:05", "RFC822", "ANSIC"}
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range formats {
			l := newLayout(format)
			got, ok := l.parse([]byte(text), time.UTC, start)
			if l.rfc3339 {
				want, err := time.Parse(time.RFC3339Nano, text)
				if ok != (err == nil && want.Year() >= 1678 && want.Year() <= 2261) || ok && got != want.UnixNano() {
					t.Errorf("%q is %d, %t, want %v", text, got, ok, want)
				}
			}
		}
	})
}

// FuzzRegex checks that a text which is said to be required is, and that stages with such
// expressions keep lines valid.
func FuzzRegex(f *testing.F) {
	f.Add(`(?P<a>\w+)=(?P<b>.*)`, "k=v")
	f.Add(`(x|(?P<y>yy+)){2,3}lit`, "xyylit")
	f.Add(`(?i)level(?P<l>é)?`, "LEVELé")
	f.Add(`()`, "é")
	f.Fuzz(func(t *testing.T, expr, line string) {
		if len(expr) > 100 || len(line) > 1000 || !utf8.ValidString(line) {
			return
		}
		list := []Config{
			{Regex: &RegexConfig{Expression: expr, LabelsFromGroups: true}},
			{Replace: &ReplaceConfig{Expression: expr, Replace: "<{{ .Value }}>"}},
			{Redact: &RedactConfig{Expressions: map[string]string{"x": expr}, RedactWith: "*", PartialMask: 1}},
		}
		for i := range list {
			prog, err := Compile(list[i : i+1])
			if err != nil {
				continue
			}
			r := prog.NewRunner(Deps{})
			e := Entry{Line: []byte(line), Labels: base}
			if r.NewPipeline().Apply(&e, start) != Keep || !utf8.Valid(e.Line) {
				t.Errorf("%q on %q gives %q", expr, line, e.Line)
			}
			if s, ok := prog.steps[0].(*regexStep); ok && s.re.MatchString(line) && !s.re.may([]byte(line)) {
				t.Errorf("%q matches %q without %q", expr, line, s.re.must)
			}
		}
	})
}

// FuzzMultiline runs a text through every way of joining, with pauses, and checks that no
// byte is lost, that the order stays and that what is held is bounded and accounted for.
func FuzzMultiline(f *testing.F) {
	f.Add("S a\n b\nS c", uint64(1), uint8(0), uint8(3))
	f.Add("x\npanic: y\n\ngoroutine 1 [running]:\nmain.main()\nz", uint64(2), uint8(1), uint8(100))
	f.Add("2026-03-04T05:06:07Z stdout P a\n2026-03-04T05:06:07Z stdout F b", uint64(3), uint8(4), uint8(1))
	options := []string{
		"- multiline: {firstline: ^S, trim_newlines: false", "- multiline: {preset: go, trim_newlines: false",
		"- multiline: {preset: java, trim_newlines: false", "- multiline: {preset: python, trim_newlines: false",
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64, which, most uint8) {
		lines := bytes.Split([]byte(text), []byte{'\n'})
		var b *bench
		joins := int(which) < len(options)
		if joins {
			b = newBench(t, options[which]+", max_lines: "+string('1'+rune(most%9))+"}")
		} else {
			b = newBench(t, "- cri: {}\n- multiline: {preset: python}\n- multiline: {preset: go}")
		}
		rnd := rand.New(rand.NewPCG(seed, 0))
		var out [][]byte
		given, kept, last := 0, 0, int64(0)
		take := func(e *Entry) {
			if joins && e.Seq < last {
				t.Errorf("line %d comes after %d", e.Seq, last)
			}
			last = e.Seq
			out = append(out, bytes.Clone(e.Line))
			kept++
		}
		for _, l := range lines {
			e := b.line(string(l))
			given++
			if b.p.Apply(e, b.now) == Keep {
				take(e)
			}
			if rnd.IntN(4) == 0 {
				b.now = b.now.Add(2 * time.Second)
				for b.p.Flush(e, b.now) {
					take(e)
				}
			}
			if rnd.IntN(4) == 0 {
				b.r.Reset()
			}
		}
		var e Entry
		for b.p.Drain(&e, b.now) {
			take(&e)
		}
		if joins && !bytes.Equal(bytes.Join(out, []byte{'\n'}), []byte(text)) {
			t.Errorf("%q became %q", text, out)
		}
		if c := b.r.Counts(func(string, int) {}); given != kept+c.Joined || b.r.held != 0 {
			t.Errorf("%d lines given, %d kept, %d joined, %d bytes held", given, kept, c.Joined, b.r.held)
		}
		if _, _, ok := b.p.Held(); ok {
			t.Error("something is still held")
		}
	})
}

// FuzzSelector checks that a selector which is read can be used.
func FuzzSelector(f *testing.F) {
	f.Add(`{app="web", x=~"a.*"} |= "e" !~ "f"`, "line")
	f.Add("{a!=`b`}", "")
	f.Fuzz(func(_ *testing.T, text, line string) {
		s, err := parseSelector(text)
		if err != nil {
			return
		}
		var set labelSet
		set.begin(base)
		s.stream(&set)
		s.line([]byte(line))
	})
}

// FuzzText runs lines through the stages that rewrite texts and checks that they stay valid
// and bounded.
func FuzzText(f *testing.F) {
	f.Add("plain \x1b[31mred\x1b[0m token=abcdefgh")
	f.Add(`{"log":"x\n","stream":"stderr","time":"2026-03-04T05:06:07Z"}`)
	f.Add("https://u:p@h/ eyJ -----BEGIN PRIVATE KEY-----")
	list, err := load(`
- docker: {}
- cri: {}
- decolorize:
- redact: {include_generic: true, partial_mask: 2}
- logfmt: {mapping: {token: , a: }}
- labels: {token: , a: }
- structured_metadata: {a: }
- template: {source: t, template: '{{ .Entry | trunc 5 }}{{ .token }}'}
- labels: {t: }
- pack: {labels: [t]}
`)
	if err != nil {
		f.Fatal(err)
	}
	prog, err := Compile(list)
	if err != nil {
		f.Fatal(err)
	}
	r := prog.NewRunner(Deps{})
	f.Fuzz(func(t *testing.T, line string) {
		if !utf8.ValidString(line) {
			return
		}
		p := r.NewPipeline()
		e := Entry{Line: []byte(line), Labels: base}
		if p.Apply(&e, start) != Keep && !p.Drain(&e, start) {
			t.Fatalf("%q is gone", line)
		}
		if !json.Valid(e.Line) || !utf8.Valid(e.Line) || len(e.Line) > maxText {
			t.Errorf("%q becomes %q", line, e.Line)
		}
		for _, l := range append(e.Labels.All(), e.Metadata.All()...) {
			if !utf8.ValidString(l.Value) || l.Value == "" {
				t.Errorf("%q gives the label %s=%q", line, l.Name, l.Value)
			}
		}
		r.Reset()
	})
}
