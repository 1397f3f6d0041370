package stage

import (
	"strings"
	"testing"
	"time"
)

// unset stands for a value that is not extracted, or that is null.
const unset = "\x00"

// extracts runs one stage on a line and compares the values of names afterwards, given as
// name, value pairs.
func extracts(t *testing.T, stage, line string, want ...string) {
	t.Helper()
	b := newBench(t, stage)
	if e := b.one(line); e == nil || string(e.Line) != line {
		t.Errorf("%s\non %q: the line itself changed: %v", stage, line, e)
	}
	for i := 0; i < len(want); i += 2 {
		got, ok := b.value(want[i])
		if !ok {
			got = unset
		}
		if got != want[i+1] {
			t.Errorf("%s\non %q: %s = %q, want %q", stage, line, want[i], got, want[i+1])
		}
	}
}

func TestJSONExtractsWhatExpressionsName(t *testing.T) {
	f := func(expr, line, want string) {
		t.Helper()
		extracts(t, "- json: {expressions: {x: '"+expr+"'}}", line, "x", want)
	}
	line := `{"time":"2019-03-01T10:00:00Z","log":"hello\nworld","n":1.50,"big":12345678901234567890,"ok":true,"no":null,
		"user":{"name":"ada","tags":["a","b"],"a.b":1},"list":[{"id":1},{"id":2}],"e":1e3,"s":"","esc":"\u00e9\ud83d\ude00\"\/"}`
	f("time", line, "2019-03-01T10:00:00Z")
	f("log", line, "hello\nworld")
	f("n", line, "1.5")
	f("e", line, "1000")
	f("big", line, "12345678901234567890") // promtail makes 12345678901234567000 of it
	f("ok", line, "true")
	f("no", line, unset)
	f("missing", line, unset)
	f("s", line, "")
	f("esc", line, "é😀\"/")
	f("user", line, `{"name":"ada","tags":["a","b"],"a.b":1}`)
	f("user.name", line, "ada")
	f(`user."a.b"`, line, "1")
	f("user.name.deeper", line, unset)
	f("user.tags[1]", line, "b")
	f("list[0].id", line, "1")
	f("list[].id", line, "[1,2]")
	f("length(list)", line, "2")
	f("join(`\"-\"`, user.tags)", line, "a-b")
	f("ok && user.name", line, "ada")
	f("{a: user.name}", line, `{"a":"ada"}`)
	f("a", ` { "a" : { "b" : [ 1 , "x y" , "\" " ] } } `, `{"b":[1,"x y","\" "]}`)
	f("a", `{"a":1,"a":2}`, "2")
	f("a.b", `{"a":{"b":1},"a":{"c":2}}`, unset)
	f("{a: html}", `{"html":"<b>"}`, `{"a":"<b>"}`)
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	f("a.a", nested(3), `{"a":1}`)
	f("b || `1`", nested(maxDepth), "1")
	f("b || `1`", nested(maxDepth+1), unset)
	f("b || `1`", `{"a":`+strings.Repeat("[", maxDepth)+strings.Repeat("]", maxDepth)+`}`, unset)
	f("a", `null`, unset)
	f("a", "{\"a\":\"\t\x01\n\"}", "\t\x01\n")
	for _, bad := range []string{``, `plain text`, `[1]`, `"a"`, `{"a":1`, `{"a":1} x`, `{"a":1,}`, `{"a":01}`, `{a:1}`, `{"a":"\x"}`, strings.Repeat(`{"a":`, 600)} {
		f("a", bad, unset)
	}
}

func TestJSONStages(t *testing.T) {
	b := newBench(t, `
- json: {expressions: {output: log, stream: , extra: }}
- json: {expressions: {user: }, source: extra}
- labels: {stream: , user: }
`)
	e := b.one(`{"log":"log message\n","stream":"stderr","time":"2019-04-30T02:12:41.8443515Z","extra":"{\"user\":\"marco\"}"}`)
	if got, want := e.Labels.String(), `{app="web", namespace="shop", stream="stderr", user="marco"}`; got != want {
		t.Errorf("labels = %s, want %s", got, want)
	}
	b = newBench(t, "- json: {expressions: {a: }, drop_malformed: true}")
	if b.one("no json") != nil || b.one(`{}`) == nil || b.dropped()["malformed_json"] != 1 {
		t.Error("drop_malformed does not drop exactly what is no JSON object")
	}
}

// The library for expressions must not take the program down, whatever the line is.
func TestJSONExpressionsCannotPanic(t *testing.T) {
	b := newBench(t, "- json: {expressions: {a: 'max_by(list, &id)', b: 'sort_by(list, &id)[::-1]', c: 'list[?id > `1`] | [0]', d: 'not_null(x, y) || merge(a, b)'}}")
	for _, line := range []string{`{"list":[{"id":1},{"id":"x"},3]}`, `{"list":{}}`, `{"list":[]}`, `{"list":[null,null]}`, `{"a":1,"b":{}}`} {
		if b.one(line) == nil {
			t.Errorf("%s is gone", line)
		}
	}
}

func TestRegexExtractsNamedGroups(t *testing.T) {
	const stage = `- regex: {expression: '^(?s)(?P<time>\S+?) (?P<stream>stdout|stderr) (?P<flags>\S+?) (?P<content>.*)$'}`
	extracts(t, stage, "2019-01-01T01:00:00.000000001Z stderr P i'm a log message!",
		"time", "2019-01-01T01:00:00.000000001Z", "stream", "stderr", "flags", "P", "content", "i'm a log message!")
	extracts(t, stage, "no such line", "time", unset, "content", unset)
	extracts(t, `- regex: {expression: 'id=(?P<id>\d+)?(?P<rest>x)?$'}`, "id=x", "id", "", "rest", "x")

	b := newBench(t, `
- json: {expressions: {time: }}
- regex: {expression: '^(?P<year>\d+)', source: time}
- labels: {year: }
`)
	if got := b.one(`{"time":"2019-01-01T01:00:00Z"}`).Labels.Get("year"); got != "2019" {
		t.Errorf("year = %q from the extracted time, want 2019", got)
	}
	b = newBench(t, `- regex: {expression: 'level=(?P<level>\w+)', labels_from_groups: true}`)
	if got := b.one("level=warn").Labels.Get("level"); got != "warn" {
		t.Errorf("level = %q with labels_from_groups, want warn", got)
	}
}

func TestLogfmtExtractsPairs(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		extracts(t, "- logfmt: {mapping: {x: }}", line, "x", want)
	}
	f(`time=2012-11-01T22:08:41+00:00 app=loki level=WARN x=125 message="this is a log line" extra="user=foo"`, "125")
	f(`x="a b" y=1`, "a b")
	f(`x="a \"b\" \u00e9\n" y=1`, "a \"b\" é\n")
	f(`x= y`, "")
	f(`x y`, "")
	f(`x=1 x=2`, "2")
	f(`y=1`, unset)
	f("y=\"\tz\" x=1", "1")
	f(`y="a`+"\n"+`" x=1`, unset)
	f("y=1\nx=2", "2")
	f(`x=1 "quoted`, "1")    // What came before the mistake counts.
	f(`"quoted" x=1`, unset) // And what comes after does not.
	f(`a==b x=1`, unset)
	f(`=b x=1`, unset)
	f(`y="\x" x=1`, unset)
	f(`x="it\'s"`, "it's")
	f(``, unset)

	b := newBench(t, `
- logfmt: {mapping: {timestamp: time, app: , duration: , unknown: , extra: }}
- logfmt: {mapping: {user: }, source: extra}
`)
	b.one(`time=2012-11-01T22:08:41+00:00 app=loki level=WARN duration=125 extra="user=foo"`)
	for name, want := range map[string]string{"timestamp": "2012-11-01T22:08:41+00:00", "app": "loki", "duration": "125", "user": "foo"} {
		if got, _ := b.value(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestCRITakesLinesApartAndJoinsParts(t *testing.T) {
	b := newBench(t, "- cri: {}\n- labels: {time: , flags: }")
	e := b.one("2019-04-30T02:12:41.844351500Z stderr F message")
	if string(e.Line) != "message" || e.T != time.Date(2019, 4, 30, 2, 12, 41, 844351500, time.UTC).UnixNano() {
		t.Errorf("line %q at %d", e.Line, e.T)
	}
	if got, want := e.Labels.String(), `{app="web", flags="F", namespace="shop", stream="stderr", time="2019-04-30T02:12:41.844351500Z"}`; got != want {
		t.Errorf("labels = %s, want %s", got, want)
	}
	e = b.one("not a line of a runtime")
	if string(e.Line) != "not a line of a runtime" || e.Labels != base {
		t.Errorf("another line became %q %v", e.Line, e.Labels)
	}

	// The parts of stdout and stderr come in between each other. The time and the extracted
	// values are those of the last part.
	b = newBench(t, "- cri: {}\n- labels: {flags: }")
	lines := []string{
		"2019-05-07T18:57:50.904275087+00:00 stdout P part one, ",
		"2019-05-07T18:57:51.904275087+00:00 stderr P err one, ",
		"2019-05-07T18:57:52.904275087+00:00 stdout P part two, ",
	}
	for _, l := range lines {
		if b.one(l) != nil {
			t.Fatalf("part %q goes on alone", l)
		}
	}
	if seq, _, ok := b.p.Held(); !ok || seq != 1 {
		t.Errorf("Held = %d, %t, want the first line", seq, ok)
	}
	e = b.one("2019-05-07T18:57:53.904275087+00:00 stdout F end")
	if string(e.Line) != "part one, part two, end" || e.T != time.Date(2019, 5, 7, 18, 57, 53, 904275087, time.UTC).UnixNano() || e.Seq != 1 {
		t.Errorf("joined = %q at %d from line %d", e.Line, e.T, e.Seq)
	}
	if got, want := e.Labels.String(), `{app="web", flags="F", namespace="shop", stream="stdout"}`; got != want {
		t.Errorf("labels = %s, want %s", got, want)
	}
	var rest Entry
	if b.p.Flush(&rest, b.now) {
		t.Error("a part is flushed at once")
	}
	if !b.p.Flush(&rest, b.now.Add(partialWait)) || string(rest.Line) != "err one, " || rest.Seq != 2 {
		t.Errorf("flushed %q from line %d, want the part of stderr", rest.Line, rest.Seq)
	}
	if c := b.r.Counts(func(string, int) {}); c.Joined != 2 {
		t.Errorf("joined %d lines, want 2", c.Joined)
	}

	b = newBench(t, "- cri: {max_partial_line_size: 10, max_partial_line_size_truncate: true}")
	if got := b.all("2019-05-07T18:57:50Z stdout P 1234567", "2019-05-07T18:57:50Z stdout P 89012", "2019-05-07T18:57:50Z stdout F x", "2019-05-07T18:57:50Z stdout F 12345678901"); len(got) != 2 || got[0] != "1234567890" || got[1] != "12345678901" {
		t.Errorf("cut lines = %q", got)
	}
}

func TestRuntimeStagesUseWhatTheCallerTookApart(t *testing.T) {
	for _, stage := range []string{"- cri: {}", "- docker: {}", "- cri:"} {
		b := newBench(t, stage+"\n- labels: {was: stream}\n- template: {source: x, template: '{{ .stream }}'}")
		e := b.line("2019-05-07T18:57:50Z stdout F a line of a program that runs containers")
		e.Stream = "stderr"
		text := string(e.Line)
		if b.p.Apply(e, b.now) != Keep || string(e.Line) != text || e.Labels.Get("stream") != "stderr" || e.Labels.Get("was") != "stderr" {
			t.Errorf("%s: %q %v", stage, e.Line, e.Labels)
		}
	}
}

func TestDockerTakesLinesApart(t *testing.T) {
	b := newBench(t, "- docker: {}\n- labels: {at: timestamp}")
	e := b.one(`{"log":"log \"message\"\n","stream":"stderr","time":"2019-04-30T02:12:41.8443515Z"}`)
	if string(e.Line) != `log "message"` || e.T != time.Date(2019, 4, 30, 2, 12, 41, 844351500, time.UTC).UnixNano() {
		t.Errorf("line %q at %d", e.Line, e.T)
	}
	if got, want := e.Labels.String(), `{app="web", at="2019-04-30T02:12:41.8443515Z", namespace="shop", stream="stderr"}`; got != want {
		t.Errorf("labels = %s, want %s", got, want)
	}
	for _, line := range []string{"plain", `{"stream":1}`, `{"log":null}`, `{}`} {
		if e := b.one(line); string(e.Line) != line || e.Labels != base {
			t.Errorf("%s became %q %v", line, e.Line, e.Labels)
		}
	}
}
