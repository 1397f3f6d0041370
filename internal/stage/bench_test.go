package stage

import (
	"strings"
	"testing"
)

// What the benchmarks run on: lines of about 290 bytes, as container logs have on average.
var (
	textLine   = `2026-03-04 05:06:07.123 INFO  [http-nio-8080-exec-7] com.acme.shop.OrderController - order 8127361 accepted for customer 4711 in 23 ms, 3 items, total 127.50 EUR, payment=card warehouse=ber1 trace=4bf92f3577b34da6a3ce929d0e0e4736 span=00f067aa0ba902b7 session=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b82`
	jsonLine   = `{"time":"2026-03-04T05:06:07.123456789Z","level":"INFO","logger":"com.acme.shop.OrderController","thread":"http-nio-8080-exec-7","message":"order 8127361 accepted for customer 4711","trace":{"id":"4bf92f3577b34da6a3ce929d0e0e4736","span":"00f067aa0ba902b7"},"duration_ms":23,"items":[1,2,3],"total":127.5}`
	logfmtLine = `time=2026-03-04T05:06:07.123456789Z level=info logger=com.acme.shop.OrderController thread=http-nio-8080-exec-7 msg="order 8127361 accepted for customer 4711" trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 duration_ms=23 items=3 total=127.5 payment=card warehouse=ber1 region=eu-central-1`
	accessLine = `10.1.2.3 - ada [04/Mar/2026:06:06:07 +0100] "GET /shop/orders/8127361?expand=items HTTP/1.1" 200 5120 "https://shop.example.com/account/orders" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36" 23 4bf92f3577b34da6a3ce929d0e0e4736 upstream=10.2.3.4:8080`
	criText    = `2026-03-04T05:06:07.123456789Z stdout F ` + textLine
	dockerText = `{"log":"` + strings.ReplaceAll(textLine, `"`, `\"`) + `\n","stream":"stdout","time":"2026-03-04T05:06:07.123456789Z"}`
)

// benchmark runs stages on one line after the other.
func benchmark(b *testing.B, stages, line string) {
	b.Helper()
	prog := compile(b, stages)
	m, err := NewMetrics(start.UTC, prog)
	if err != nil {
		b.Fatal(err)
	}
	r := prog.NewRunner(Deps{Metrics: m})
	p := r.NewPipeline()
	text := []byte(line)
	n := 0
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		e := Entry{T: 1, Line: text, Labels: base, Seq: int64(n)}
		p.Apply(&e, start)
		if n++; n%1024 == 0 {
			r.Reset()
		}
	}
}

func BenchmarkNone(b *testing.B) {
	r := (&Program{}).NewRunner(Deps{})
	p := r.NewPipeline()
	text := []byte(textLine)
	b.ReportAllocs()
	for b.Loop() {
		e := Entry{T: 1, Line: text, Labels: base}
		p.Apply(&e, start)
	}
}

func BenchmarkCRI(b *testing.B)    { benchmark(b, "- cri:", criText) }
func BenchmarkDocker(b *testing.B) { benchmark(b, "- docker:", dockerText) }

func BenchmarkRegex(b *testing.B) {
	const expr = `'^(?P<ip>\S+) - (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<method>\w+) (?P<path>\S+) [^"]*" (?P<status>\d{3})'`
	benchmark(b, "- regex: {expression: "+expr+"}", accessLine)
}

func BenchmarkRegexWithoutMatch(b *testing.B) {
	benchmark(b, `- regex: {expression: '(?P<method>GET|POST) (?P<path>\S+) HTTP/(?P<version>\S+)'}`, textLine)
}

func BenchmarkJSON(b *testing.B) {
	benchmark(b, "- json: {expressions: {level: , msg: message, trace: trace.id, took: duration_ms}}", jsonLine)
}

func BenchmarkJSONExpressions(b *testing.B) {
	benchmark(b, "- json: {expressions: {level: , first: 'items[0]'}}", jsonLine)
}

func BenchmarkJSONWithoutMatch(b *testing.B) {
	benchmark(b, "- json: {expressions: {level: }}", textLine)
}

func BenchmarkLogfmt(b *testing.B) {
	benchmark(b, "- logfmt: {mapping: {level: , msg: , trace_id: , took: duration_ms}}", logfmtLine)
}

func BenchmarkLabels(b *testing.B) {
	benchmark(b, "- logfmt: {mapping: {level: }}\n- labels: {level: }", logfmtLine)
}

func BenchmarkStaticLabels(b *testing.B) {
	benchmark(b, "- static_labels: {cluster: tiles, zone: a}", textLine)
}

func BenchmarkLabelDrop(b *testing.B) { benchmark(b, "- label_drop: [app]", textLine) }
func BenchmarkLabelKeep(b *testing.B) { benchmark(b, "- label_keep: [app]", textLine) }

func BenchmarkStructuredMetadata(b *testing.B) {
	benchmark(b, "- logfmt: {mapping: {trace_id: }}\n- structured_metadata: {trace_id: , namespace: }", logfmtLine)
}

func BenchmarkTimestampRFC3339(b *testing.B) {
	benchmark(b, "- logfmt: {mapping: {time: }}\n- timestamp: {source: time, format: RFC3339Nano}", logfmtLine)
}

func BenchmarkTimestampLayout(b *testing.B) {
	benchmark(b, "- regex: {expression: '^(?P<time>.{23})'}\n- timestamp: {source: time, format: '2006-01-02 15:04:05.000'}", textLine)
}

func BenchmarkOutput(b *testing.B) {
	benchmark(b, "- json: {expressions: {message: }}\n- output: {source: message}", jsonLine)
}

func BenchmarkTemplate(b *testing.B) {
	benchmark(b, "- template: {source: app, template: '{{ ToUpper .Value }}-{{ .namespace }}'}", textLine)
}

func BenchmarkReplace(b *testing.B) {
	benchmark(b, `- replace: {expression: 'customer (\d+)', replace: '***'}`, textLine)
}

func BenchmarkReplaceTemplate(b *testing.B) {
	benchmark(b, `- replace: {expression: 'customer (\d+)', replace: '{{ .Value | Sha2Hash "salt" }}'}`, textLine)
}

func BenchmarkReplaceWithoutMatch(b *testing.B) {
	benchmark(b, `- replace: {expression: '.*password=(\S+)', replace: '***'}`, textLine)
}

func BenchmarkMatch(b *testing.B) {
	benchmark(b, `- match: {selector: '{app=~"web|api"} |= "accepted"', stages: [static_labels: {a: b}]}`, textLine)
}

func BenchmarkMatchWithoutMatch(b *testing.B) {
	benchmark(b, `- match: {selector: '{app=~"db|cache"}', stages: [static_labels: {a: b}]}`, textLine)
}

func BenchmarkDrop(b *testing.B) {
	benchmark(b, "- drop: {expression: 'order \\d+ accepted'}", textLine)
}

func BenchmarkDropWithoutMatch(b *testing.B) {
	benchmark(b, "- drop: {expression: '.*GET /(healthz|readyz).*'}\n- drop: {older_than: 24h, longer_than: 8KB}", textLine)
}

func BenchmarkLimit(b *testing.B) {
	benchmark(b, "- limit: {rate: 1e9, burst: 1000000000, drop: true}", textLine)
}

func BenchmarkLimitByLabel(b *testing.B) {
	benchmark(b, "- limit: {rate: 1, burst: 1, drop: true, by_label_name: namespace}", textLine)
}

func BenchmarkSampling(b *testing.B)   { benchmark(b, "- sampling: {rate: 0.5}", textLine) }
func BenchmarkDecolorize(b *testing.B) { benchmark(b, "- decolorize:", textLine) }

func BenchmarkDecolorizeColors(b *testing.B) {
	benchmark(b, "- decolorize:", "\x1b[32m"+textLine+"\x1b[0m")
}

func BenchmarkPack(b *testing.B) { benchmark(b, "- pack: {labels: [app]}", textLine) }

func BenchmarkMultiline(b *testing.B) {
	benchmark(b, `- multiline: {firstline: '^\d{4}-\d{2}-\d{2} '}`, textLine)
}

func BenchmarkMultilineJoined(b *testing.B) {
	benchmark(b, `- multiline: {firstline: '^\d{4}-\d{2}-\d{2} ', max_lines: 32}`, "\tat "+textLine)
}

func BenchmarkMultilineJava(b *testing.B) { benchmark(b, "- multiline: {preset: java}", textLine) }
func BenchmarkMultilineGo(b *testing.B)   { benchmark(b, "- multiline: {preset: go}", textLine) }
func BenchmarkTenant(b *testing.B)        { benchmark(b, "- tenant: {label: namespace}", textLine) }
func BenchmarkRedact(b *testing.B) {
	benchmark(b, "- redact:", textLine+" gh"+"p_"+strings.Repeat("Ab3", 12))
}
func BenchmarkRedactNothing(b *testing.B) { benchmark(b, "- redact:", textLine) }
func BenchmarkMetricsCounter(b *testing.B) {
	benchmark(b, "- metrics: {lines: {type: counter, config: {match_all: true, action: inc}}}", textLine)
}

func BenchmarkMetricsHistogram(b *testing.B) {
	benchmark(b, "- logfmt: {mapping: {took: duration_ms}}\n- metrics: {took: {type: histogram}}", logfmtLine)
}

// BenchmarkPasted runs the long list of the paste test on a line of each kind.
func BenchmarkPasted(b *testing.B) {
	prog := compile(b, pasted)
	r := prog.NewRunner(Deps{})
	p := r.NewPipeline()
	apps := []string{"api", "nginx", "worker", "db"}
	var lines [][]byte
	for _, l := range []string{jsonLine, accessLine, logfmtLine, textLine} {
		lines = append(lines, []byte("2026-03-04T05:06:07.123456789Z stdout F "+l))
	}
	sets := make([]Entry, len(apps))
	for i, app := range apps {
		sets[i].Labels = labelsOf("app", app, "namespace", "shop", "pod", app+"-1", "filename", "/var/log/x.log")
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		e := sets[n%4]
		e.Line = lines[n%4]
		p.Apply(&e, start)
		if n++; n%1024 == 0 {
			r.Reset()
		}
	}
}

// TestPassingLinesTakeNoMemory holds what the package promises: where nothing matches,
// nothing is allocated, and mostly not even where something does.
func TestPassingLinesTakeNoMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes the pools of package regexp forget")
	}
	f := func(stages, line string) {
		t.Helper()
		r := compile(t, stages).NewRunner(Deps{})
		p := r.NewPipeline()
		text := []byte(line)
		run := func() {
			e := Entry{T: 1, Line: text, Labels: base}
			p.Apply(&e, start)
			r.Reset()
		}
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s\nallocates %v times a line", stages, n)
		}
	}
	f("- cri:", criText)
	f("- docker:", dockerText)
	f("- regex: {expression: 'nothing (?P<a>like) it'}", textLine)
	f("- json: {expressions: {level: , trace: trace.id}, drop_malformed: true}\n- labels: {level: }\n- structured_metadata: {trace: }\n- output: {source: trace}", jsonLine)
	f("- json: {expressions: {level: 'x[0]'}}", textLine)
	f("- logfmt: {mapping: {level: , time: , msg: }}\n- labels: {level: }\n- timestamp: {source: time, format: RFC3339Nano}\n- output: {source: msg}", logfmtLine)
	f("- static_labels: {a: b}\n- label_drop: [app]\n- label_keep: [a]\n- tenant: {value: t}", textLine)
	f("- replace: {expression: 'nothing (like) it', replace: x}\n- drop: {expression: '.*healthz.*'}\n- drop: {source: a, value: b}\n- decolorize:", textLine)
	f("- match: {selector: '{app=\"web\"} |= \"accepted\" !~ \"nothing\"', stages: [static_labels: {a: b}]}\n- match: {selector: '{app=\"db\"}', action: drop}", textLine)
	f("- limit: {rate: 1, burst: 1, drop: true, by_label_name: app}\n- sampling: {rate: 0.5}", textLine)
	f("- pack: {labels: [app]}", textLine)
	f("- redact:", textLine)
	f("- multiline: {firstline: ^2026}", textLine)
	f("- multiline: {preset: java}", textLine)
	f("- multiline: {preset: go}", textLine)
}
