package stage

import (
	"encoding/json"
	"strings"
	"testing"
)

// becomes runs stages on a line and compares what comes out.
func becomes(t *testing.T, stages, line, want string) {
	t.Helper()
	b := newBench(t, stages)
	e := b.one(line)
	if e == nil {
		t.Errorf("%s\n%q does not come out", stages, line)
		return
	}
	if string(e.Line) != want {
		t.Errorf("%s\n%q\n   becomes %q\n   want    %q", stages, line, e.Line, want)
	}
}

func TestOutputReplacesTheLine(t *testing.T) {
	const stages = "- json: {expressions: {user: , message: }}\n- labels: {user: }\n- output: {source: message}"
	becomes(t, stages, `{"user": "alexis", "message": "hello, world!"}`, "hello, world!")
	becomes(t, stages, `{"user": "alexis"}`, `{"user": "alexis"}`)
	becomes(t, stages, `{"message": 1.50}`, "1.5")
	becomes(t, stages, `{"message": ""}`, "")
	becomes(t, "- output: {source: app}", "x", "web")
}

func TestTemplateChangesValues(t *testing.T) {
	f := func(tmpl, line, want string) {
		t.Helper()
		becomes(t, "- logfmt: {mapping: {app: , level: , n: , empty: }}\n- template: {source: x, template: '"+tmpl+"'}\n- output: {source: x}", line, want)
	}
	f("{{ .app }}-{{ .level }}", "app=loki level=WARN", "loki-WARN")
	f("{{ ToLower .level }}", "level=WARN", "warn")
	f("{{ ToUpper .level }}", "level=warn", "WARN")
	f(`{{ Replace .level "W" "w" 1 }}`, "level=WWW", "wWW")
	f(`{{ Trim .level "," }}`, "level=,a,", "a")
	f(`{{ TrimLeft .level "," }}{{ TrimRight .level "," }}`, "level=,a,", "a,,a")
	f(`{{ TrimPrefix .level "w" }}{{ TrimSuffix .level "w" }}`, "level=waw", "awwa")
	f(`{{ TrimSpace .level }}`, `level=" a "`, "a")
	f(`{{ Hash "salt" .level }}`, "level=a", "fa7355eddced2ec6cc2f8d8730b8563bec5f170cc796197d028b3b27b0969867")
	f(`{{ Sha2Hash "salt" .level }}`, "level=a", "c48e22d109fbdc9ea9d09115591b16133717abf8f0faad86b3656f23f0a8de5b")
	f(`{{ regexReplaceAll "(a*)bc" .level "${1}d" }}`, "level=aabc", "aad")
	f(`{{ regexReplaceAllLiteral "(ts=)" .level "timestamp=" }}`, `level="ts=1"`, "timestamp=1")
	f(`{{ regexReplaceAll "(" .level "" }}`, "level=a", "level=a") // A template that fails changes nothing.
	f("{{ .Entry }}!", "level=a", "level=a!")
	f("{{ .absent }}", "level=a", "<no value>")
	f("{{ if .absent }}a{{ else if eq .level \"b\" }}{{ .app }}{{ end }}", "level=b app=c", "c")
	f("{{ with .level }}{{ . }}{{ end }}", "level=b", "b")
	f("{{ range $k, $v := . }}{{ $k }}={{ $v }};{{ end }}", "level=b", "Entry=level=b;app=web;level=b;namespace=shop;")
	f("{{ $.level }}{{ len . }}", "level=b", "b4")
	f(`{{ .level | default "none" | upper }}`, "x", "NONE")
	f(`{{ default "none" .empty | upper }}`, "empty=", "NONE")
	f(`{{ if contains "rr" .level }}{{ .level | trunc 3 | quote }}{{ end }}`, "level=error", `"err"`)
	f(`{{ .level | replace "r" "l" | b64enc | b64dec }}`, "level=err", "ell")
	f(`{{ add .n 2 }} {{ div .n 2 }} {{ mod .n 2 }} {{ sub .n 1 }} {{ mul .n 3 }}`, "n=7", "9 3 1 6 21")
	f(`{{ div .n 0 }}`, "n=7", "n=7")
	f(`{{ ternary "a" "b" (hasPrefix "e" .level) }}{{ coalesce .empty .level }}{{ regexFind "r+" .level }}`, "level=err empty=", "aerrrr")
	f(`{{ trunc 1 .level }}`, "level=é", "\uFFFD")
	f("fixed", "x", "fixed")
	f("", "x", "x")

	// The value itself is .Value, and a template that yields nothing removes it.
	becomes(t, "- logfmt: {mapping: {app: }}\n- template: {source: app, template: '{{ ToUpper .Value }}'}\n- output: {source: app}", "app=loki", "LOKI")
	becomes(t, "- template: {source: app, template: '{{ if eq .Value \"web\" }}{{ end }}'}\n- output: {source: app}", "stays", "stays")
	becomes(t, "- template: {source: new, template: '{{ .Value }}'}\n- output: {source: new}", "x", "<no value>")
}

func TestReplaceReplacesGroups(t *testing.T) {
	f := func(options, line, want string) {
		t.Helper()
		becomes(t, "- replace: {"+options+"}", line, want)
	}
	const access = `11.11.11.11 - frank [25/Jan/2000:14:00:01 -0500] "GET /1986.js HTTP/1.1" 200 932`
	f(`expression: 'password (\S+)', replace: '****'`, "password hunter2 and password x", "password **** and password ****")
	f(`expression: '(\d{2}\.\d{2}\.\d{2}\.\d{2})', replace: '{{ .Value | Sha2Hash "salt" | trunc 8 }}'`, access,
		strings.Replace(access, "11.11.11.11", "5761b5a0", 1))
	f(`expression: '(\S+) - (\S+) \[', replace: '{{ .Value | ToUpper }}'`, "ip - frank [x] ip - bob [y]", "IP - FRANK [x] IP - BOB [y]")
	f(`expression: '(?P<outer>a(b)c)', replace: '<{{ .Value }}>'`, "abc abc", "<abc> <abc>")
	f(`expression: '(?:(a)|(b))', replace: '<{{ .Value }}>'`, "ab", "<a><b>")
	f(`expression: '()', replace: '.'`, "é", ".é.")
	f(`expression: 'level=(?P<level>\w+)'`, "level=info x", "level= x")
	f(`expression: 'nothing (like it)', replace: x`, "other", "other")
	f(`expression: '(a)', replace: '{{ .app }}'`, "a", "web")
	f(`expression: '(a)', replace: '{{ index .app 99 }}'`, "a", "a")

	// In an extracted value, and with the new values extracted under the groups' names.
	becomes(t, "- json: {expressions: {level: , msg: }}\n- replace: {expression: '\\S+ - \"POST (\\S+) .*', source: msg, replace: redacted_url}\n- output: {source: msg}",
		`{"level":"info", "msg":"11.11.11.11 - \"POST /loki/api/push/ HTTP/1.1\" 200 932 \"-\" \"Mozilla/5.0\""}`,
		`11.11.11.11 - "POST redacted_url HTTP/1.1" 200 932 "-" "Mozilla/5.0"`)
	becomes(t, "- replace: {expression: '(?P<ip>\\d+\\.\\d+) (?P<user>\\w+)', replace: '{{ if eq .Value \"1.2\" }}{{ .Value }}{{ else }}*{{ end }}'}\n- template: {source: x, template: '{{ .ip }}/{{ .user }}'}\n- output: {source: x}",
		"1.2 frank 3.4 bob", "1.2/*")
}

func TestDecolorizeRemovesEscapeSequences(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		becomes(t, "- decolorize:", line, want)
	}
	f("\x1b[2019-04-30", "\x1b[2019-04-30") // Not ended by a letter.
	f("\x1b[1;32mINFO\x1b[0m \x1b[38;5;208mtext\x1b[m", "INFO text")
	f("\u009b31mred\u009b0m é", "red é")
	f("\x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "link")
	f("\x1b(B\x1b[?25l\x1bMa\x1b=", "a")
	f("plain é \u009c", "plain é \u009c")
	f("\x1b", "\x1b")
	f("\x1b[", "\x1b[")
	f("\x1b]8;;", "\x1b]8;;")
	f("\x1b(", "\x1b(")
}

func TestPackPutsLabelsIntoTheLine(t *testing.T) {
	b := newBench(t, "- logfmt: {mapping: {pod: }}\n- static_labels: {extra: e}\n- pack: {labels: [namespace, pod, extra, absent], ingest_timestamp: false}")
	e := b.line("pod=p-1 \"quoted\" \x01\\")
	e.T = 42
	b.p.Apply(e, b.now)
	want := `{"extra":"e","namespace":"shop","pod":"p-1","_entry":"pod=p-1 \"quoted\" \u0001\\"}`
	if string(e.Line) != want || e.T != 42 {
		t.Errorf("packed %s at %d, want %s", e.Line, e.T, want)
	}
	if got := e.Labels.String(); got != `{app="web"}` {
		t.Errorf("labels = %s, want only app", got)
	}
	var back map[string]string
	if err := json.Unmarshal(e.Line, &back); err != nil || back["_entry"] != "pod=p-1 \"quoted\" \x01\\" {
		t.Errorf("unpacked %q, %v", back, err)
	}
	// A label behind a value that is null stays, as in promtail.
	labelled(t, "- json: {expressions: {app: }}\n- pack: {labels: [app, namespace]}", `{}`, `{app="web"}`, "{}")
	b = newBench(t, "- pack: {labels: [app]}")
	e = b.line("x")
	e.T = 42
	if b.p.Apply(e, b.now); e.T != b.now.UnixNano() {
		t.Errorf("time is %d, want the present", e.T)
	}
	e = b.line(strings.Repeat("\x01", maxText/4))
	if b.p.Apply(e, b.now); len(e.Line) > maxText || !json.Valid(e.Line) {
		t.Errorf("a huge line packs to %d bytes, valid JSON: %t", len(e.Line), json.Valid(e.Line))
	}
}

func TestTextsAreBounded(t *testing.T) {
	double := "- replace: {expression: '(.+)', replace: '{{ .Value }}{{ .Value }}'}\n"
	b := newBench(t, strings.Repeat(double, 30))
	e := b.one(strings.Repeat("é", 500))
	if len(e.Line) > maxText {
		t.Errorf("a line has grown to %d bytes", len(e.Line))
	}
	b = newBench(t, "- replace: {expression: '(x)', replace: "+strings.Repeat("y", 1000)+"}")
	if e = b.one(strings.Repeat("x", 200_000)); len(e.Line) > maxText || b.r.Counts(func(string, int) {}).Cut != 1 {
		t.Errorf("a line has grown to %d bytes", len(e.Line))
	}
	b = newBench(t, `- template: {source: x, template: '{{ Replace .Entry "" .Entry -1 }}'}`+"\n- output: {source: x}")
	if e = b.one(strings.Repeat("x", 200_000)); len(e.Line) != 200_000 {
		t.Errorf("a template that explodes made %d bytes of 200000", len(e.Line))
	}
}
