package kit

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

func labelsOf(pairs ...string) labels.Labels { return labels.FromStrings(pairs...) }

func TestMetricsReceiverKeepsWhatItAccepted(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{RequireTenant: true})
	now := time.Now().UnixMilli()
	if status, text := push(t, r, "a", series(now, 1, "__name__", "up", "job", "x"), series(now, 2, "__name__", "up", "job", "y")); status != 200 {
		t.Fatalf("push = %d %s", status, text)
	}
	push(t, r, "a", series(now+1, stale(), "__name__", "up", "job", "x"))
	push(t, r, "b", series(now, 3, "__name__", "up", "job", "x"))

	if got := r.Series("a", "up"); len(got) != 2 || len(got[0].Samples) != 2 || !got[0].Samples[1].Stale() {
		t.Errorf("Series(a) = %v, want two, the first with a marker at its end", got)
	}
	if got, err := r.Last("b", `up{job="x"}`); err != nil || got != (Sample{T: now, V: 3}) {
		t.Errorf("Last(b) = %v, %v", got, err)
	}
	if _, err := r.Last("a", "up"); err == nil {
		t.Error("Last of two series = nil error")
	}
	if diff := cmp.Diff([]string{"a", "b"}, r.Tenants()); diff != "" {
		t.Errorf("Tenants (-want +got):\n%s", diff)
	}
	if got := r.IDs("", "up"); len(got) != 3 {
		t.Errorf("IDs = %v, want three without the marker", got)
	}
	if got := r.Refused(); len(got) > 0 {
		t.Errorf("Refused = %v", got)
	}
	if status, _ := push(t, r, "", series(now+2, 1, "__name__", "up")); status != http.StatusUnauthorized {
		t.Errorf("push without a tenant = %d, want 401", status)
	}
}

func TestMetricsReceiverRefusesWhatMimirRefuses(t *testing.T) {
	many := []string{"__name__", "up"}
	for i := range 30 {
		many = append(many, "l"+string(rune('A'+i%26))+strings.Repeat("x", i), "v")
	}
	now := time.Now().UnixMilli()
	for _, tc := range []struct {
		name   string
		pairs  []string
		reason string
	}{
		{"no name", []string{"job", "x"}, "err-mimir-missing-metric-name"},
		{"no labels", nil, "err-mimir-missing-metric-name"},
		{"bad metric name", []string{"__name__", "a b"}, "err-mimir-metric-name-invalid"},
		{"empty label name", []string{"", "x", "__name__", "up"}, "err-mimir-label-invalid"},
		{"empty label value", []string{"__name__", "up", "job", ""}, "err-mimir-label-invalid"},
		{"bad label name", []string{"__name__", "up", "a-b", "x"}, "err-mimir-label-invalid"},
		{"value not UTF-8", []string{"__name__", "up", "job", "\xff"}, "err-mimir-label-value-invalid"},
		{"unsorted", []string{"__name__", "up", "b", "x", "a", "x"}, "err-mimir-labels-not-sorted"},
		{"name after a capital", []string{"A", "x", "__name__", "up"}, ""},
		{"unsorted capital", []string{"__name__", "up", "A", "x"}, "err-mimir-labels-not-sorted"},
		{"twice", []string{"__name__", "up", "a", "x", "a", "y"}, "err-mimir-duplicate-label-names"},
		{"too many", many, "err-mimir-max-label-names-per-series"},
		{"long name", []string{"__name__", "up", strings.Repeat("a", 1025), "x"}, "err-mimir-label-name-too-long"},
		{"long value", []string{"__name__", "up", "a", strings.Repeat("x", 2049)}, "err-mimir-label-value-too-long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := StartMetrics(t, MetricsConfig{})
			status, text := push(t, r, "", series(now, 1, tc.pairs...), series(now, 1, "__name__", "good"))
			if tc.reason == "" {
				if status != 200 {
					t.Errorf("push = %d %s, want 200", status, text)
				}
				return
			}
			if status != 400 || !strings.Contains(text, tc.reason) {
				t.Errorf("push = %d %s, want 400 with %s", status, text, tc.reason)
			}
			if got := r.Series("", "{}"); len(got) != 1 || got[0].Labels.Get("__name__") != "good" {
				t.Errorf("stored %v, want the rest of the request and only that", got)
			}
		})
	}
}

func TestMetricsReceiverHasNoOutOfOrderWindow(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	now := time.Now().UnixMilli()
	sample := func(at int64, v float64) prompb.TimeSeries { return series(at, v, "__name__", "seq") }
	for _, step := range []struct {
		name   string
		ts     prompb.TimeSeries
		status int
		reason string
		known  bool
	}{
		{"first", sample(now-10_000, 1), 200, "", false},
		{"next", sample(now, 2), 200, "", false},
		{"the newest again", sample(now, 2), 200, "", false},
		{"the newest time, another value", sample(now, 3), 400, "err-mimir-sample-duplicate-timestamp", false},
		{"an old one again", sample(now-10_000, 1), 400, "err-mimir-sample-out-of-order", true},
		{"between", sample(now-5_000, 9), 400, "err-mimir-sample-out-of-order", false},
		{"far future", sample(now+3_600_000, 9), 400, "err-mimir-too-far-in-future", false},
		{"another series, far behind", series(now-2*3_600_000, 9, "__name__", "new"), 400, "err-mimir-sample-timestamp-too-old", false},
	} {
		before := len(r.Refused())
		status, text := push(t, r, "", step.ts)
		if status != step.status || !strings.Contains(text, step.reason) {
			t.Errorf("%s: push = %d %s, want %d %s", step.name, status, text, step.status, step.reason)
		}
		refused := r.Refused()[before:]
		if want := step.status != 200; want != (len(refused) == 1) || want && refused[0].Known != step.known {
			t.Errorf("%s: refused %+v, want known %v", step.name, refused, step.known)
		}
	}
	got := r.Series("", "seq")
	if len(got) != 1 || len(got[0].Samples) != 2 || len(got[0].Repeated) != 1 {
		t.Errorf("Series = %+v, want one with two samples and one repeat", got)
	}
	if got := len(r.Disorder()); got != 4 {
		t.Errorf("Disorder has %d, want 4: the known repeat is none", got)
	}
}

func TestMetricsReceiverChecksTheRequest(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{MaxBytes: 200})
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series(time.Now().UnixMilli(), 1, "__name__", "up")}}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body := snappy.Encode(nil, raw)
	big := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series(1, 1, "__name__", strings.Repeat("a", 300))}}
	bigRaw, err := big.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		header http.Header
		body   []byte
		status int
	}{
		{"content type", http.Header{"Content-Type": {"application/json"}}, body, 415},
		{"remote write 2.0", http.Header{"Content-Type": {"application/x-protobuf;proto=io.prometheus.write.v2.Request"}}, body, 415},
		{"encoding", http.Header{"Content-Encoding": {"gzip"}}, body, 415},
		{"no encoding", http.Header{"Content-Encoding": nil}, body, 415},
		{"version", http.Header{"X-Prometheus-Remote-Write-Version": {"2.0.0"}}, body, 400},
		{"no version", http.Header{"X-Prometheus-Remote-Write-Version": nil}, body, 400},
		{"no user agent", http.Header{"User-Agent": {""}}, body, 400},
		{"not snappy", nil, raw, 400},
		{"not protobuf", nil, snappy.Encode(nil, []byte("hello there")), 400},
		{"cut short", nil, body[:len(body)-1], 400},
		{"too big", nil, snappy.Encode(nil, bigRaw), 400},
	} {
		if status, text, err := postHeader(t.Context(), r.PushURL(), "", tc.body, tc.header); err != nil || status != tc.status {
			t.Errorf("%s: %d %s %v, want %d", tc.name, status, text, err, tc.status)
		}
	}
	if got := r.Series("", "{}"); len(got) > 0 {
		t.Fatalf("stored %v from bad requests", got)
	}
	if status, text, err := post(t.Context(), r.PushURL(), "", body); err != nil || status != 200 {
		t.Errorf("the good request: %d %s %v", status, text, err)
	}
	if status, _, err := post(t.Context(), r.URL()+"/push", "", body); err != nil || status != 404 {
		t.Errorf("another path: %d %v, want 404", status, err)
	}
	last := r.Requests()[len(r.Requests())-2]
	if last.Status != 200 || last.Items != 1 || last.Bytes != len(body) || last.Digest == "" {
		t.Errorf("recorded %+v", last)
	}
}
