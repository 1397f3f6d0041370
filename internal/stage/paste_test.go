package stage

import (
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// pasted is a list as it stands in promtail's configuration of a shop, in promtail's spelling.
const pasted = `
- cri: {}
- decolorize:
- multiline:
    firstline: '^(\d{4}-\d{2}-\d{2}|\{|level=|\d+\.)'
    max_wait_time: 3s
    max_lines: 64
- drop:
    source: ""
    expression: "GET /(healthz|readyz|metrics)"
    drop_counter_reason: probes
- match:
    pipeline_name: json
    selector: '{app="api"} |~ "^\\{"'
    stages:
      - json:
          expressions:
            level: level
            ts: time
            msg: message
            trace: trace.id
            first: items[0].sku
            took: duration_ms
            status:
          drop_malformed: true
      - timestamp:
          source: ts
          format: RFC3339Nano
          fallback_formats:
            - UnixMs
            - "2006-01-02 15:04:05.000"
          location: Etc/UTC
          action_on_failure: fudge
      - template:
          source: level
          template: '{{ if eq .Value "warning" }}warn{{ else }}{{ ToLower .Value }}{{ end }}'
      - labels:
          level:
          status_code: status
      - structured_metadata:
          trace_id: trace
          pod:
      - metrics:
          request_duration_ms:
            type: Histogram
            description: "how long requests take"
            source: took
            config:
              buckets: [10, 100, 1000]
          lines_total:
            type: Counter
            description: "lines of the API"
            max_idle_duration: 24h
            config:
              match_all: true
              action: inc
      - output:
          source: msg
- match:
    selector: '{app="nginx"}'
    stages:
      - regex:
          expression: '^(?P<remote_addr>[\d.]+) - (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+)'
      - timestamp:
          source: time
          format: 02/Jan/2006:15:04:05 -0700
      - replace:
          expression: '^(\d+\.\d+\.\d+\.\d+)'
          replace: '{{ .Value | Sha2Hash "pepper" | trunc 10 }}'
      - labels:
          status:
- match:
    selector: '{app="worker"}'
    stages:
      - logfmt:
          mapping:
            level:
            job_id: id
            payload:
      - json:
          source: payload
          expressions:
            customer:
      - tenant:
          source: customer
      - labels:
          level:
      - sampling:
          rate: 1
- match:
    selector: '{namespace="noise"}'
    action: drop
    drop_counter_reason: noisy
- replace:
    expression: 'password=(\S+)'
    replace: '****'
- limit:
    rate: 1000
    burst: 2000
    drop: true
- static_labels:
    cluster: tiles
- labeldrop:
    - filename
    - pod
- labelallow: [app, namespace, level, status, status_code, cluster, stream, __tenant_id__]
- pack:
    labels: [stream]
    ingest_timestamp: false
`

func TestPromtailsListCanBePasted(t *testing.T) {
	// promtail takes an empty source of drop for one that is there; here it is none.
	b, m := counting(t, pasted)
	run := func(app, text string) *Entry {
		e := b.line("2026-03-04T05:06:07.000000001Z stdout F " + text)
		e.Labels = labelsOf("app", app, "namespace", "shop", "pod", app+"-1", "filename", "/var/log/x.log")
		if b.p.Apply(e, b.now) == Keep {
			t.Fatalf("%s: %q is not held", app, text)
		}
		if !b.p.Drain(e, b.now) {
			return nil
		}
		return e
	}
	f := func(app, text, line, labels, metadata, at string) {
		t.Helper()
		e := run(app, text)
		if e == nil {
			if line != "" {
				t.Errorf("%s: %q is dropped", app, text)
			}
			return
		}
		if got := string(e.Line); got != line {
			t.Errorf("%s: line = %s, want %s", app, got, line)
		}
		if got := e.Labels.String(); got != labels {
			t.Errorf("%s: labels = %s, want %s", app, got, labels)
		}
		if got := e.Metadata.String(); got != metadata {
			t.Errorf("%s: metadata = %s, want %s", app, got, metadata)
		}
		if got := time.Unix(0, e.T).UTC().Format(time.RFC3339Nano); got != at {
			t.Errorf("%s: time = %s, want %s", app, got, at)
		}
	}
	f("api", `{"level":"WARNING","time":"2026-03-04T01:02:03.5Z","message":"slow \"buy\" password=hunter2","trace":{"id":"abc"},"items":[{"sku":"s1"}],"duration_ms":250,"status":200}`,
		`{"stream":"stdout","_entry":"slow \"buy\" password=****"}`,
		`{app="api", cluster="tiles", level="warning", namespace="shop", status_code="200"}`, `{pod="api-1", trace_id="abc"}`, "2026-03-04T01:02:03.5Z")
	f("api", `{"level":"info","message":"no time","duration_ms":5}`,
		`{"stream":"stdout","_entry":"no time"}`, `{app="api", cluster="tiles", level="info", namespace="shop"}`, `{pod="api-1"}`, "2026-03-04T01:02:03.500000001Z")
	f("api", `{"level":"info"`, "", "", "", "")
	f("api", "GET /healthz 200", "", "", "", "")
	f("nginx", `10.1.2.3 - ada [04/Mar/2026:06:06:07 +0100] "GET / HTTP/1.1" 404 12`,
		`{"stream":"stdout","_entry":"127ef7719a - ada [04/Mar/2026:06:06:07 +0100] \"GET / HTTP/1.1\" 404 12"}`,
		`{app="nginx", cluster="tiles", namespace="shop", status="404"}`, "{}", "2026-03-04T05:06:07Z")
	f("worker", `level=error id=7 payload="{\"customer\":\"acme\"}" msg=failed`,
		`{"stream":"stdout","_entry":"level=error id=7 payload=\"{\\\"customer\\\":\\\"acme\\\"}\" msg=failed"}`,
		`{__tenant_id__="acme", app="worker", cluster="tiles", level="error", namespace="shop"}`, "{}", "2026-03-04T05:06:07.000000001Z")
	f("db", "2026-03-04 \x1b[31mred\x1b[0m", `{"stream":"stdout","_entry":"2026-03-04 red"}`, `{app="db", cluster="tiles", namespace="shop"}`, "{}", "2026-03-04T05:06:07.000000001Z")

	if got, want := b.dropped(), (map[string]int{"malformed_json": 1, "probes": 1}); !maps.Equal(got, want) {
		t.Errorf("dropped = %v, want %v", got, want)
	}
	if n := testutil.CollectAndCount(m, "ingot_custom_lines_total", "ingot_custom_request_duration_ms"); n != 4 {
		t.Errorf("%d series, want two of each metric", n)
	}
}
