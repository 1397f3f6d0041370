package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves an empty store and returns its URL.
func start(t *testing.T, cfg Config) string {
	t.Helper()
	cfg.Dir = t.TempDir()
	s := New(cfg, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		srv.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv.URL
}

// call sends a request and returns the status and the body.
func call(t *testing.T, method, target, tenant string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if tenant != "" {
		req.Header.Set("X-Scope-OrgID", tenant)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// get queries and returns the status and the body.
func get(t *testing.T, base, path, tenant string, params ...string) (int, string) {
	t.Helper()
	v := url.Values{}
	for i := 0; i < len(params); i += 2 {
		v.Set(params[i], params[i+1])
	}
	return call(t, http.MethodGet, base+path+"?"+v.Encode(), tenant, nil)
}

// sameJSON compares an answer with what is wanted, whatever the space and order of keys.
func sameJSON(t *testing.T, what, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Errorf("%s: %v in %s", what, err, got)
		return
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// pushSamples stores values 1 s apart, the last at base.
func pushSamples(t *testing.T, at, tenant string, base time.Time, name, job string, values ...float64) (int, string) {
	t.Helper()
	ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: name}, {Name: "job", Value: job}}}
	for i, v := range values {
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: base.UnixMilli() - int64(len(values)-1-i)*1000, Value: v})
	}
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return call(t, http.MethodPost, at+"/api/v1/push", tenant, snappy.Encode(nil, raw))
}

func TestStoreAnswersPromQL(t *testing.T) {
	at := start(t, Config{})
	now := time.Now().Truncate(time.Second)
	sec := now.Unix()
	for _, s := range []struct {
		name, job string
		values    []float64
	}{{"up", "a", []float64{1, 1, 0}}, {"up", "b", []float64{1, 1, 1}}, {"c_total", "a", []float64{0, 10, 20}}} {
		if status, text := pushSamples(t, at, "tiles", now, s.name, s.job, s.values...); status != 200 {
			t.Fatalf("push = %d %s", status, text)
		}
	}
	for _, tc := range []struct {
		name, path string
		params     []string
		want       string
	}{
		{
			"vector", "/api/v1/query",
			[]string{"query", `up{job="a"}`, "time", fmt.Sprint(sec)},
			fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[%d,"0"]}]}}`, sec),
		},
		{
			"aggregation behind Mimir's prefix", "/prometheus/api/v1/query",
			[]string{"query", `sum by (job) (rate(c_total[2s]))`, "time", fmt.Sprint(sec)},
			fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"a"},"value":[%d,"10"]}]}}`, sec),
		},
		{
			"scalar", "/api/v1/query",
			[]string{"query", `1/0`, "time", fmt.Sprint(sec)},
			fmt.Sprintf(`{"status":"success","data":{"resultType":"scalar","result":[%d,"+Inf"]}}`, sec),
		},
		{
			"range", "/api/v1/query_range",
			[]string{"query", `min(up)`, "start", fmt.Sprint(sec - 2), "end", now.Format(time.RFC3339), "step", "1s"},
			fmt.Sprintf(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[%d,"1"],[%d,"1"],[%d,"0"]]}]}}`, sec-2, sec-1, sec),
		},
		{"nothing", "/api/v1/query", []string{"query", `nothing`}, `{"status":"success","data":{"resultType":"vector","result":[]}}`},
	} {
		status, got := get(t, at, tc.path, "tiles", tc.params...)
		if status != 200 {
			t.Errorf("%s: %d %s", tc.name, status, got)
			continue
		}
		sameJSON(t, tc.name, got, tc.want)
	}
	_, got := get(t, at, "/api/v1/query", "other", "query", "up")
	sameJSON(t, "another tenant", got, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	for _, bad := range [][]string{
		{"/api/v1/query", "query", "up{"},
		{"/api/v1/query", "query", "up", "time", "yesterday"},
		{"/api/v1/query_range", "query", "up", "start", "1", "end", "2"},
		{"/api/v1/query_range", "query", "up", "end", "2", "step", "1"},
		{"/api/v1/query_range", "query", "up", "start", "2", "end", "1", "step", "1"},
		{"/api/v1/query_range", "query", "up", "start", "1", "end", "1000000", "step", "1"},
		{"/api/v1/query_range", "query", "up", "start", "1", "end", "2", "step", "-1"},
	} {
		if status, text := get(t, at, bad[0], "tiles", bad[1:]...); status != 400 || !strings.Contains(text, `"status":"error"`) {
			t.Errorf("%v = %d %s, want 400", bad, status, text)
		}
	}
}

func TestStoreRefusesDisorderAndKeepsTheRest(t *testing.T) {
	at := start(t, Config{})
	now := time.Now()
	if status, text := pushSamples(t, at, "", now, "up", "a", 1); status != 200 {
		t.Fatalf("push = %d %s", status, text)
	}
	if status, text := pushSamples(t, at, "", now.Add(-time.Minute), "up", "a", 1); status != 400 || !strings.Contains(text, "out of order") {
		t.Errorf("an older sample = %d %s, want 400 out of order", status, text)
	}
	if status, text := pushSamples(t, at, "", now, "up", "a", 2); status != 400 {
		t.Errorf("another value = %d %s, want 400", status, text)
	}
	if status, text := pushSamples(t, at, "", now, "up", "a", 1); status != 200 {
		t.Errorf("the same sample = %d %s, want 200", status, text)
	}
	if status, text := pushSamples(t, at, "", now, "bad name", "a", 1); status != 400 || !strings.Contains(text, "err-mimir-metric-name-invalid") {
		t.Errorf("a bad name = %d %s, want 400", status, text)
	}
	if status, _ := call(t, http.MethodPost, at+"/api/v1/push", "", []byte("garbage")); status != 400 {
		t.Errorf("garbage = %d, want 400", status)
	}
}

func TestStoreBoundsTenants(t *testing.T) {
	at := start(t, Config{})
	for i := range maxTenants {
		if status, text := pushSamples(t, at, fmt.Sprintf("t%d/../x", i), time.Now(), "up", "a", 1); status != 200 {
			t.Fatalf("tenant %d: %d %s", i, status, text)
		}
	}
	if status, _ := pushSamples(t, at, "one more", time.Now(), "up", "a", 1); status != 429 {
		t.Errorf("one tenant too many = %d, want 429", status)
	}
}
