package stage

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// documented is what the pages of promtail's stages show, each with an example of the same
// shape. Labels and metadata are those that the example adds to app="web", namespace="shop".
var documented = []struct {
	name, stages string
	lines        []string // as they come
	want         []string // as they go on
	labels, meta string   // of the last one
	values       map[string]string
	at           string // the time of the last one
	dropped      map[string]int
}{
	{
		name: "cri", stages: `- cri: {}`,
		lines:  []string{"2024-04-30T02:12:41.8443515Z stdout P begin, ", "2024-04-30T02:12:42.8443515Z stdout F end"},
		want:   []string{"begin, end"},
		labels: `stream="stdout"`, at: "2024-04-30T02:12:42.8443515Z",
	}, {
		name: "docker", stages: `- docker: {}`,
		lines:  []string{`{"log":"a message\n","stream":"stderr","time":"2024-04-30T02:12:41.8443515Z"}`},
		want:   []string{"a message"},
		labels: `stream="stderr"`, at: "2024-04-30T02:12:41.8443515Z",
	}, {
		name: "decolorize", stages: `- decolorize:`,
		lines: []string{"[2024-11-04 22:17:57.811] \x1b[0;32mhttp\x1b[0m: GET /_health (\x1b[0;32m0 ms\x1b[0m) \x1b[1;32m204\x1b[0m"},
		want:  []string{"[2024-11-04 22:17:57.811] http: GET /_health (0 ms) 204"},
	}, {
		name: "drop a line by an expression", stages: `- drop: {expression: ".*debug.*"}`,
		lines: []string{"a debug line", "another"}, want: []string{"another"}, dropped: map[string]int{"drop_stage": 1},
	}, {
		name: "drop by joined sources",
		stages: `- json: {expressions: {level: , msg: }}
- drop: {source: [level, msg], separator: "#", expression: "(error|ERROR)#.*\\/api\\/push.*"}`,
		lines: []string{`{"level":"error","msg":"POST /api/push 200"}`, `{"level":"ERROR","msg":"POST /api/push 200"}`, `{"level":"info","msg":"POST /api/push 200"}`},
		want:  []string{`{"level":"info","msg":"POST /api/push 200"}`}, dropped: map[string]int{"drop_stage": 2},
	}, {
		name:   "drop by a value",
		stages: "- json: {expressions: {level: }}\n- drop: {source: level, value: error}",
		lines:  []string{`{"level":"error"}`, `{"level":"errors"}`}, want: []string{`{"level":"errors"}`}, dropped: map[string]int{"drop_stage": 1},
	}, {
		name:   "drop old lines",
		stages: "- json: {expressions: {time: }}\n- timestamp: {source: time, format: RFC3339}\n- drop: {older_than: 24h, drop_counter_reason: line_too_old}",
		lines:  []string{`{"time":"2026-03-03T04:06:07Z"}`, `{"time":"2026-03-03T06:06:07Z"}`},
		want:   []string{`{"time":"2026-03-03T06:06:07Z"}`}, at: "2026-03-03T06:06:07Z", dropped: map[string]int{"line_too_old": 1},
	}, {
		name: "drop long lines", stages: `- drop: {longer_than: 8kb, drop_counter_reason: line_too_long}`,
		lines: []string{strings.Repeat("x", 8193), "short"}, want: []string{"short"}, dropped: map[string]int{"line_too_long": 1},
	}, {
		name: "drop by an expression and the length", stages: `- drop: {expression: ".*debug.*", longer_than: 1kb}`,
		lines: []string{"debug" + strings.Repeat("x", 1024), "debug"}, want: []string{"debug"}, dropped: map[string]int{"drop_stage": 1},
	}, {
		name: "json", stages: `- json: {expressions: {output: log, stream: stream, timestamp: time}}`,
		lines:  []string{`{"log":"a message\n","stream":"stderr","time":"2024-04-30T02:12:41.8443515Z"}`},
		want:   []string{`{"log":"a message\n","stream":"stderr","time":"2024-04-30T02:12:41.8443515Z"}`},
		values: map[string]string{"output": "a message\n", "stream": "stderr", "timestamp": "2024-04-30T02:12:41.8443515Z"},
	}, {
		name:   "json of an extracted value",
		stages: "- json: {expressions: {extra: }}\n- json: {expressions: {user: }, source: extra}",
		lines:  []string{`{"extra":"{\"user\":\"ada\"}"}`}, want: []string{`{"extra":"{\"user\":\"ada\"}"}`},
		values: map[string]string{"extra": `{"user":"ada"}`, "user": "ada"},
	}, {
		name: "json with a quoted name", stages: `- json: {expressions: {stream: '"grpc.stream"'}}`,
		lines: []string{`{"grpc.stream":"stderr"}`}, want: []string{`{"grpc.stream":"stderr"}`}, values: map[string]string{"stream": "stderr"},
	}, {
		name: "labelallow", stages: "- static_labels: {zone: a}\n- labelallow: [namespace, zone]",
		lines: []string{"x"}, want: []string{"x"}, labels: `-app, zone="a"`,
	}, {
		name: "labeldrop", stages: "- static_labels: {zone: a}\n- labeldrop: [zone]",
		lines: []string{"x"}, want: []string{"x"},
	}, {
		name: "labels", stages: "- json: {expressions: {stream: }}\n- labels: {stream: }",
		lines: []string{`{"stream":"stderr"}`}, want: []string{`{"stream":"stderr"}`}, labels: `stream="stderr"`,
	}, {
		name: "limit", stages: `- limit: {rate: 10, burst: 2, drop: true}`,
		lines: []string{"1", "2", "3"}, want: []string{"1", "2"}, dropped: map[string]int{"ratelimit_drop_stage": 1},
	}, {
		name:   "limit by a label",
		stages: "- regex: {expression: '^(?P<who>\\w+)'}\n- labels: {who: }\n- limit: {rate: 1, burst: 1, drop: true, by_label_name: who}",
		lines:  []string{"a 1", "a 2", "b 1"}, want: []string{"a 1", "b 1"}, labels: `who="b"`, dropped: map[string]int{"ratelimit_drop_stage": 1},
	}, {
		name: "logfmt", stages: "- logfmt: {mapping: {timestamp: time, app: , duration: , unknown: , extra: }}\n- logfmt: {mapping: {user: }, source: extra}",
		lines:  []string{`time=2024-01-01T00:00:01Z app=shop level=WARN duration=125 message="a message" extra="user=ada"`},
		want:   []string{`time=2024-01-01T00:00:01Z app=shop level=WARN duration=125 message="a message" extra="user=ada"`},
		values: map[string]string{"timestamp": "2024-01-01T00:00:01Z", "app": "shop", "duration": "125", "extra": "user=ada", "user": "ada"},
	}, {
		name: "match",
		stages: `- json: {expressions: {app: }}
- labels: {app: }
- match: {selector: '{app="till"}', stages: [{json: {expressions: {msg: message}}}]}
- match: {pipeline_name: other, selector: '{app="stock"}', action: keep, stages: [{json: {expressions: {msg: msg}}}]}
- match: {selector: '{app="shelf"} |~ ".*noisy error.*"', action: drop, drop_counter_reason: noisy}
- output: {source: msg}`,
		lines: []string{`{"app":"till","message":"a till line","msg":"not this"}`, `{"app":"shelf","message":"a noisy error"}`},
		want:  []string{"a till line"}, labels: `app="till"`, dropped: map[string]int{"noisy": 1},
	}, {
		name:   "multiline",
		stages: `- multiline: {firstline: '^\[\d{4}-\d{2}-\d{2}\]', max_wait_time: 3s}` + "\n" + `- regex: {expression: '^(?P<time>\[\d{4}-\d{2}-\d{2}\]) (?P<message>(?s:.*))$'}` + "\n- output: {source: message}",
		lines:  []string{"[2024-12-03] GET /", "[2024-12-03] ERROR", "Traceback:", "  File x", "Exception: sorry", "[2024-12-04] GET /"},
		want:   []string{"GET /", "ERROR\nTraceback:\n  File x\nException: sorry", "GET /"},
	}, {
		name: "multiline by a character that cannot be seen", stages: `- multiline: {firstline: '^\x{200B}\['}`,
		lines: []string{"\u200b[a]", "at b", "\u200b[c]"}, want: []string{"\u200b[a]\nat b", "\u200b[c]"},
	}, {
		name: "output", stages: "- json: {expressions: {user: , message: }}\n- labels: {user: }\n- output: {source: message}",
		lines: []string{`{"user":"ada","message":"hello"}`}, want: []string{"hello"}, labels: `user="ada"`,
	}, {
		name: "pack", stages: "- static_labels: {container: myapp}\n- pack: {labels: [container]}",
		lines: []string{"original log message"}, want: []string{`{"container":"myapp","_entry":"original log message"}`}, at: "2026-03-04T05:06:07Z",
	}, {
		name: "regex", stages: `- regex: {expression: '^(?s)(?P<time>\S+?) (?P<stream>stdout|stderr) (?P<flags>\S+?) (?P<content>.*)$'}`,
		lines:  []string{"2024-01-01T01:00:00.000000001Z stderr P i'm a log message!"},
		want:   []string{"2024-01-01T01:00:00.000000001Z stderr P i'm a log message!"},
		values: map[string]string{"time": "2024-01-01T01:00:00.000000001Z", "stream": "stderr", "flags": "P", "content": "i'm a log message!"},
	}, {
		name:   "regex of an extracted value",
		stages: "- json: {expressions: {time: }}\n- regex: {expression: '^(?P<year>\\d+)', source: time}",
		lines:  []string{`{"time":"2024-01-01"}`}, want: []string{`{"time":"2024-01-01"}`}, values: map[string]string{"year": "2024"},
	}, {
		name: "replace", stages: `- replace: {expression: 'password (\S+)', replace: '****'}`,
		lines: []string{"sensitive, with password xyz! at the end"}, want: []string{"sensitive, with password **** at the end"},
	}, {
		name:   "replace in an extracted value",
		stages: "- json: {expressions: {msg: }}\n- replace: {expression: '\\S+ - POST (\\S+) .*', source: msg, replace: /api/v1/push}\n- output: {source: msg}",
		lines:  []string{`{"msg":"11.11.11.11 - POST /api/push/ HTTP/1.1"}`}, want: []string{"11.11.11.11 - POST /api/v1/push HTTP/1.1"},
	}, {
		name:   "replace by a template",
		stages: `- replace: {expression: '^(\S+) - (\S+) (\d{3}|-)$', replace: '{{ if eq .Value "200" }}{{ Replace .Value "200" "HttpStatusOk" -1 }}{{ else }}{{ .Value | ToUpper }}{{ end }}'}`,
		lines:  []string{"11.11.11.11 - frank 200"}, want: []string{"11.11.11.11 - FRANK HttpStatusOk"},
	}, {
		name: "replace with named groups", stages: `- replace: {expression: '^(?P<ip>\S+) (\S+) (?P<path>\S+)$', replace: '{{ .Value | ToUpper }}'}`,
		lines: []string{"11.11.11.11 frank /1986.js"}, want: []string{"11.11.11.11 FRANK /1986.JS"},
		values: map[string]string{"ip": "11.11.11.11", "path": "/1986.JS"},
	}, {
		name: "replace by nothing", stages: `- replace: {expression: '11.11.11.11 - (\S+\s)', replace: ''}`,
		lines: []string{"11.11.11.11 - frank [25/Jan/2000]"}, want: []string{"11.11.11.11 - [25/Jan/2000]"},
	}, {
		name: "sampling", stages: "- sampling: {rate: 0}", lines: []string{"a", "b"}, dropped: map[string]int{"sampling_stage": 2},
	}, {
		name: "static_labels", stages: "- static_labels: {custom_key: custom_val}",
		lines: []string{"x"}, want: []string{"x"}, labels: `custom_key="custom_val"`,
	}, {
		name:   "structured_metadata",
		stages: "- json: {expressions: {stream: stream, traceID: traceID}}\n- labels: {stream: }\n- structured_metadata: {traceID: }",
		lines:  []string{`{"stream":"stderr","traceID":"0242ac120002"}`}, want: []string{`{"stream":"stderr","traceID":"0242ac120002"}`},
		labels: `stream="stderr"`, meta: `{traceID="0242ac120002"}`,
	}, {
		name: "structured_metadata of labels", stages: "- structured_metadata: {app: }",
		lines: []string{"x"}, want: []string{"x"}, labels: "-app", meta: `{app="web"}`,
	}, {
		name: "template makes a value", stages: "- template: {source: new_key, template: 'hello world!'}\n- output: {source: new_key}",
		lines: []string{"x"}, want: []string{"hello world!"},
	}, {
		name: "template with a suffix", stages: "- template: {source: app, template: '{{ .Value }}_some_suffix'}",
		lines: []string{"x"}, want: []string{"x"}, values: map[string]string{"app": "web_some_suffix"},
	}, {
		name:   "template of several values",
		stages: "- logfmt: {mapping: {level: , module: , app: }}\n- template: {source: app, template: '{{ .level }} for app {{ ToUpper .Value }} in module {{.module}}'}",
		lines:  []string{"level=warn app=shop module=test"}, want: []string{"level=warn app=shop module=test"}, values: map[string]string{"app": "warn for app SHOP in module test"},
	}, {
		name:   "template replaces",
		stages: "- template: {source: app, template: '{{ Replace .Value \"web\" \"net\" 1 }}'}\n- template: {source: message, template: '{{.app }}: {{ .Entry }}'}\n- output: {source: message}",
		lines:  []string{"x"}, want: []string{"net: x"},
	}, {
		name: "template functions",
		stages: `- template: {source: a, template: '{{ Trim ",. x., " ",. " }}|{{ TrimSpace " y " }}|{{ TrimPrefix "--z" "--" }}|{{ regexReplaceAll "(a*)bc" "aabc" "${1}d" }}|{{ regexReplaceAllLiteral "(ts=)" "ts=1" "timestamp=" }}|{{ "11/08/2022" | substr 6 10 }}'}
- output: {source: a}`,
		lines: []string{"x"}, want: []string{"x|y|z|aad|timestamp=1|2022"},
	}, {
		name:   "tenant of a value",
		stages: "- json: {expressions: {customer_id: customer}}\n- tenant: {source: customer_id}",
		lines:  []string{`{"customer":"acme"}`}, want: []string{`{"customer":"acme"}`}, labels: `__tenant_id__="acme"`,
	}, {
		name: "tenant of a label", stages: "- tenant: {label: namespace}", lines: []string{"x"}, want: []string{"x"}, labels: `__tenant_id__="shop"`,
	}, {
		name:   "tenant where a selector matches",
		stages: `- tenant: {value: team-a}` + "\n" + `- match: {selector: '{app="web"}', stages: [{tenant: {value: team-b}}]}`,
		lines:  []string{"x"}, want: []string{"x"}, labels: `__tenant_id__="team-b"`,
	}, {
		name: "timestamp", stages: "- json: {expressions: {time: }}\n- timestamp: {source: time, format: RFC3339Nano}",
		lines: []string{`{"time":"2024-01-02T03:04:05.000000006Z"}`}, want: []string{`{"time":"2024-01-02T03:04:05.000000006Z"}`}, at: "2024-01-02T03:04:05.000000006Z",
	}, {
		name: "timestamp with a fraction", stages: "- regex: {expression: '^(?P<t>\\S+)'}\n- timestamp: {source: t, format: Unix}",
		lines: []string{"1562708916.000000123 x"}, want: []string{"1562708916.000000123 x"}, at: "2019-07-09T21:48:36.000000123Z",
	},
}

// TestStagesDoWhatTheirDocumentationShows covers every stage; metrics are below, and redact,
// which is our own, has its own tests.
func TestStagesDoWhatTheirDocumentationShows(t *testing.T) {
	shown := map[string]bool{"metrics": true, "redact": true}
	for _, c := range documented {
		t.Run(c.name, func(t *testing.T) {
			list, err := load(c.stages)
			if err != nil {
				t.Fatal(err)
			}
			for i := range list {
				list[i].each(func(name string, _ compilable) { shown[name] = true })
			}
			b := newBench(t, c.stages)
			var last Entry
			var got []string
			take := func(e *Entry) { last, got = *e, append(got, string(e.Line)) }
			for _, l := range c.lines {
				if e := b.one(l); e != nil {
					take(e)
				}
			}
			for name, want := range c.values {
				if v, ok := b.value(name); !ok || v != want {
					t.Errorf("value %s = %q, %t, want %q", name, v, ok, want)
				}
			}
			for e := (Entry{}); b.p.Drain(&e, b.now); {
				take(&e)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if got := b.dropped(); !maps.Equal(got, c.dropped) {
				t.Errorf("dropped = %v, want %v", got, c.dropped)
			}
			if len(got) == 0 {
				return
			}
			want := map[string]string{"app": "web", "namespace": "shop"}
			for pair := range strings.SplitSeq(c.labels, ", ") {
				if name, gone := strings.CutPrefix(pair, "-"); gone {
					delete(want, name)
				} else if name, value, ok := strings.Cut(pair, "="); ok {
					want[name] = strings.Trim(value, `"`)
				}
			}
			labels := map[string]string{}
			for _, l := range last.Labels.All() {
				labels[l.Name] = l.Value
			}
			if diff := cmp.Diff(want, labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			if got := last.Metadata.String(); c.meta != "" && got != c.meta {
				t.Errorf("metadata = %s, want %s", got, c.meta)
			}
			if at := time.Unix(0, last.T).UTC().Format(time.RFC3339Nano); c.at != "" && at != c.at {
				t.Errorf("time = %s, want %s", at, c.at)
			}
		})
	}
	for _, name := range stageNames() {
		if !shown[name] && !strings.HasPrefix(name, "label_") { // Which are labeldrop and labelallow.
			t.Errorf("the stage %s has no example", name)
		}
	}
}

func TestMetricsCountAsTheirDocumentationShows(t *testing.T) {
	b, m := counting(t, `
- regex: {expression: '^.* order_status=(?P<order_status>.*?) .*$'}
- regex: {expression: '^.* retries=(?P<retries>\d+) .*$'}
- regex: {expression: '^.* took=(?P<response_time>\S+)$'}
- metrics:
    log_lines_total: {type: Counter, description: "lines", prefix: my_custom_, max_idle_duration: 24h, config: {match_all: true, action: inc}}
    log_bytes_total: {type: Counter, description: "bytes", prefix: my_custom_, max_idle_duration: 24h, config: {match_all: true, count_entry_bytes: true, action: add}}
    successful_orders_total: {type: Counter, description: "successful", source: order_status, config: {value: success, action: inc}}
    failed_orders_total: {type: Counter, description: "failed", source: order_status, config: {value: fail, action: inc}}
    retries: {type: Gauge, description: "retries", config: {action: add}}
    response_time_seconds: {type: Histogram, description: "times", source: response_time, config: {buckets: [0.001, 0.01]}}
`)
	lines := []string{"a order_status=success retries=2 took=0.5ms", "a order_status=fail retries=3 took=5ms", "a order_status=success retries=1 took=0.25"}
	bytes := 0
	for _, l := range lines {
		bytes += len(l)
		b.one(l)
	}
	const labels = `{app="web",namespace="shop"}`
	want := `
# HELP ingot_custom_failed_orders_total failed
# TYPE ingot_custom_failed_orders_total counter
ingot_custom_failed_orders_total` + labels + ` 1
# HELP ingot_custom_response_time_seconds times
# TYPE ingot_custom_response_time_seconds histogram
ingot_custom_response_time_seconds_bucket{app="web",namespace="shop",le="0.001"} 1
ingot_custom_response_time_seconds_bucket{app="web",namespace="shop",le="0.01"} 2
ingot_custom_response_time_seconds_bucket{app="web",namespace="shop",le="+Inf"} 3
ingot_custom_response_time_seconds_sum` + labels + ` 0.2555
ingot_custom_response_time_seconds_count` + labels + ` 3
# HELP ingot_custom_retries retries
# TYPE ingot_custom_retries gauge
ingot_custom_retries` + labels + ` 6
# HELP ingot_custom_successful_orders_total successful
# TYPE ingot_custom_successful_orders_total counter
ingot_custom_successful_orders_total` + labels + ` 2
# HELP my_custom_log_bytes_total bytes
# TYPE my_custom_log_bytes_total counter
my_custom_log_bytes_total` + labels + ` 123
# HELP my_custom_log_lines_total lines
# TYPE my_custom_log_lines_total counter
my_custom_log_lines_total` + labels + ` 3
`
	if bytes != 123 {
		t.Fatalf("the lines have %d bytes", bytes)
	}
	if err := testutil.CollectAndCompare(m, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
