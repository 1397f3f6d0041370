package kit

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// header2 are the headers of remote write 2.0.
func header2() http.Header {
	return http.Header{
		"Content-Type":                      {"application/x-protobuf;proto=io.prometheus.write.v2.Request"},
		"X-Prometheus-Remote-Write-Version": {"2.0.0"},
	}
}

// request2 is a good request of two series, one of them a histogram with an exemplar.
func request2(now int64) *writev2.Request {
	h := &histogram.Histogram{Count: 3, Sum: 6, Schema: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []int64{1, 1}}
	proto := writev2.FromIntHistogram(now, h)
	proto.StartTimestamp = now - 5
	return &writev2.Request{
		Symbols: []string{"", "__name__", "requests_total", "job", "x", "duration_seconds", "trace_id", "abc", "How many.", "seconds"},
		Timeseries: []writev2.TimeSeries{
			{
				LabelsRefs: []uint32{1, 2, 3, 4},
				Samples:    []writev2.Sample{{Value: 7, Timestamp: now, StartTimestamp: now - 5}},
				Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: 8},
			},
			{
				LabelsRefs: []uint32{1, 5, 3, 4},
				Histograms: []writev2.Histogram{proto},
				Exemplars:  []writev2.Exemplar{{LabelsRefs: []uint32{6, 7}, Value: 2, Timestamp: now}},
				Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM, UnitRef: 9},
			},
		},
	}
}

func encode2(t *testing.T, req *writev2.Request) []byte {
	t.Helper()
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

func TestMetricsReceiverKeepsAllOfVersion2(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{Messages: []Message{Message2}, Histograms: true})
	now := time.Now().UnixMilli()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.PushURL(), strings.NewReader(string(encode2(t, request2(now)))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header2()
	req.Header.Set("Content-Encoding", "snappy")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	var written []string
	for _, kind := range []string{"Samples", "Histograms", "Exemplars"} {
		written = append(written, resp.Header.Get("X-Prometheus-Remote-Write-"+kind+"-Written"))
	}
	if resp.StatusCode != http.StatusOK || strings.Join(written, " ") != "1 1 1" {
		t.Errorf("%s, written %q, want 200 and one of each", resp.Status, written)
	}
	counter, duration := r.Series("", "requests_total"), r.Series("", "duration_seconds")
	if len(counter) != 1 || len(duration) != 1 {
		t.Fatalf("stored %v", r.Series("", "{}"))
	}
	if diff := cmp.Diff([]Sample{{now, 7, now - 5}}, counter[0].Samples); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if want := (Metadata{Type: "counter", Help: "How many."}); counter[0].Metadata != want {
		t.Errorf("metadata = %+v, want %+v", counter[0].Metadata, want)
	}
	d := duration[0]
	if len(d.Histograms) != 1 || d.Histograms[0].Start != now-5 || d.Histograms[0].Count() != 3 || d.Metadata.Unit != "seconds" {
		t.Errorf("histogram series = %+v", d)
	}
	if len(d.Exemplars) != 1 || d.Exemplars[0].Labels.Get("trace_id") != "abc" {
		t.Errorf("exemplars = %+v", d.Exemplars)
	}
}

func TestMetricsReceiverRefusesWhatVersion2Forbids(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, tc := range []struct {
		name, reason string
		change       func(*writev2.Request)
	}{
		{"good", "", func(*writev2.Request) {}},
		{"no empty symbol", "do not begin with the empty one", func(r *writev2.Request) { r.Symbols[0] = "a" }},
		{"a symbol twice", "occurs twice", func(r *writev2.Request) { r.Symbols = append(r.Symbols, "job") }},
		{"an unused symbol", "nothing refers to symbol 10", func(r *writev2.Request) { r.Symbols = append(r.Symbols, "spare") }},
		{"a symbol not UTF-8", "not valid UTF-8", func(r *writev2.Request) { r.Symbols[4] = "\xff" }},
		{"a reference to nowhere", "reference 99", func(r *writev2.Request) { r.Timeseries[0].LabelsRefs[1] = 99 }},
		{"half a pair", "no pairs", func(r *writev2.Request) { r.Timeseries[0].LabelsRefs = r.Timeseries[0].LabelsRefs[:3] }},
		{"no samples", "neither samples nor histograms", func(r *writev2.Request) { r.Timeseries[0].Samples = nil }},
		{"both kinds", "both samples and histograms", func(r *writev2.Request) { r.Timeseries[0].Histograms = r.Timeseries[1].Histograms }},
		{"a start in the future", "starts later", func(r *writev2.Request) { r.Timeseries[0].Samples[0].StartTimestamp = now + 1 }},
		{"unsorted", "err-mimir-labels-not-sorted", func(r *writev2.Request) { r.Timeseries[0].LabelsRefs = []uint32{3, 4, 1, 2} }},
		{"no series", "no series", func(r *writev2.Request) { r.Timeseries = nil }},
		{"an exemplar without a time", "err-mimir-exemplar-timestamp-invalid", func(r *writev2.Request) { r.Timeseries[1].Exemplars[0].Timestamp = 0 }},
		{"an exemplar without labels", "err-mimir-exemplar-labels-missing", func(r *writev2.Request) {
			r.Timeseries[1].Exemplars[0].LabelsRefs = nil
			r.Symbols[6], r.Symbols[7] = "le", "y"
			r.Timeseries[1].LabelsRefs = append(r.Timeseries[1].LabelsRefs, 6, 7)
		}},
		{"a bad histogram", "observations found in buckets", func(r *writev2.Request) {
			r.Timeseries[1].Histograms[0].Count = &writev2.Histogram_CountInt{CountInt: 1}
		}},
	} {
		r := StartMetrics(t, MetricsConfig{Messages: []Message{Message1, Message2}, Histograms: true})
		req := request2(now)
		tc.change(req)
		status, text, err := postHeader(t.Context(), r.PushURL(), "", encode2(t, req), header2())
		want := 400
		if tc.reason == "" {
			want = 200
		}
		if err != nil || status != want || !strings.Contains(text, tc.reason) {
			t.Errorf("%s: %d %s (%v), want %d with %q", tc.name, status, text, err, want, tc.reason)
		}
	}
	r := StartMetrics(t, MetricsConfig{Messages: []Message{Message2}})
	h := header2()
	h.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if status, text, err := postHeader(t.Context(), r.PushURL(), "", encode2(t, request2(now)), h); err != nil || status != 400 {
		t.Errorf("version 0.1.0 with the message of 2.0: %d %s (%v)", status, text, err)
	}
	if status, _, err := postHeader(t.Context(), r.PushURL(), "", encode2(t, request2(now)), header2()); err != nil || status != 400 {
		t.Errorf("histograms where they are not taken: %d (%v)", status, err)
	}
	if status, _ := push(t, r, "", series(now, 1, "__name__", "up")); status != 415 {
		t.Errorf("version 1.0 where only 2.0 is taken: %d", status)
	}
}

func TestMetricsReceiverKeepsHistogramsAndMetadataOfVersion1(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{Histograms: true})
	now := time.Now().UnixMilli()
	h := &histogram.Histogram{Count: 3, Sum: 6, Schema: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []int64{1, 1}}
	ts := series(now, 0, "__name__", "d")
	ts.Samples, ts.Histograms = nil, []prompb.Histogram{prompb.FromIntHistogram(now, h)}
	for i, want := range []int{200, 200, 400} {
		if i == 2 {
			ts.Histograms[0].Timestamp-- // out of order
		}
		if status, text := push(t, r, "", ts); status != want {
			t.Errorf("push %d: %d %s, want %d", i, status, text, want)
		}
	}
	if got := r.Series("", "d"); len(got) != 1 || len(got[0].Histograms) != 1 || got[0].Histograms[0].Count() != 3 {
		t.Errorf("stored %+v", got)
	}
	req := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "d", Help: "h", Unit: "u"}}}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := post(t.Context(), r.PushURL(), "", snappy.Encode(nil, raw)); err != nil || status != 200 {
		t.Errorf("metadata: %d (%v)", status, err)
	}
	if diff := cmp.Diff(map[string]Metadata{"d": {Type: "gauge", Help: "h", Unit: "u"}}, r.Families(AnonymousTenant)); diff != "" {
		t.Errorf("Families (-want +got):\n%s", diff)
	}
}

func TestFaultsAnswerAnything(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	r.Faults.Script(
		Fault{Success: 204},
		Fault{Early: 103},
		Fault{Status: 999},
		Fault{Status: 500, Fill: -1},
		Fault{Status: 500, Fill: 1 << 20},
		Fault{Status: 307, Location: "http://elsewhere.invalid/"},
		Fault{Status: 400, Written: &Written{Samples: 2}},
	)
	n := 0
	r.Faults.Choose(func(*http.Request) (Fault, bool) {
		n++
		return Fault{Status: 418}, n == 1
	})
	for i, want := range []struct {
		status, least, most int
	}{{418, 1, 100}, {204, 0, 0}, {200, 0, 0}, {999, 1, 100}, {500, 0, 0}, {500, 1 << 20, 1<<20 + 1}, {307, 1, 100}, {400, 1, 100}, {200, 0, 0}} {
		status, text, err := post(t.Context(), r.PushURL(), "", seqBody(t, int64(i)))
		if err != nil || status != want.status || len(text) < want.least || len(text) > want.most {
			t.Errorf("request %d: %d with %d bytes (%v), want %+v", i, status, len(text), err, want)
		}
	}
	if got := fmt.Sprint(r.IDs("", "seq")); got != "[1 2 8]" {
		t.Errorf("stored %s, want what was answered with success", got)
	}
	if last := r.Requests()[8]; last.Beside != 1 {
		t.Errorf("Beside = %d, want 1", last.Beside)
	}
}
