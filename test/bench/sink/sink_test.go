package sink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// appendSample appends a TimeSeries of one sample to a WriteRequest.
func appendSample(body []byte, at int64, value float64, pairs ...string) []byte {
	var series, sample []byte
	for i := 0; i < len(pairs); i += 2 {
		label := appendBytes(appendBytes(nil, 1, []byte(pairs[i])), 2, []byte(pairs[i+1]))
		series = appendBytes(series, 1, label)
	}
	sample = binary.LittleEndian.AppendUint64(append(sample, 1<<3|wireFixed), math.Float64bits(value))
	sample = binary.AppendUvarint(append(sample, 2<<3), uint64(at))
	return appendBytes(body, 1, appendBytes(series, 2, sample))
}

// appendLine appends a stream of one entry to a PushRequest.
func appendLine(body []byte, at time.Time, text []byte) []byte {
	stamp := binary.AppendUvarint([]byte{1 << 3}, uint64(at.Unix()))
	stamp = binary.AppendUvarint(append(stamp, 2<<3), uint64(at.Nanosecond()))
	entry := appendBytes(appendBytes(nil, 1, stamp), 2, text)
	return appendBytes(body, 1, appendBytes(appendBytes(nil, 1, []byte(`{a="b"}`)), 2, entry))
}

func appendBytes(msg []byte, id byte, b []byte) []byte {
	msg = binary.AppendUvarint(append(msg, id<<3|wireBytes), uint64(len(b)))
	return append(msg, b...)
}

// push sends a body that is compressed first and returns the status and the compressed size.
func push(t *testing.T, url string, body []byte) (status, size int) {
	t.Helper()
	wire := s2.EncodeSnappy(nil, body)
	return pushRaw(t, url, wire), len(wire)
}

func pushRaw(t *testing.T, url string, wire []byte) int {
	t.Helper()
	resp, err := http.Post(url, "application/x-protobuf", bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func startMetrics(t *testing.T, verify bool) *Metrics {
	t.Helper()
	m, err := StartMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	m.Reset(verify)
	return m
}

func TestSamplesAreCountedByKind(t *testing.T) {
	m := startMetrics(t, false)
	stale := math.Float64frombits(staleBits)
	body := appendSample(nil, 1000, 1.5, "__name__", "a", "job", "x")
	body = appendSample(body, 1000, 2.5, "A", "upper case sorts first", "__name__", "b")
	body = appendSample(body, 1000, stale, "__name__", "a", "job", "x")
	body = appendSample(body, 1000, 1, "__name__", "up", "job", "x")
	body = appendSample(body, 1000, 0, "__name__", "up", "job", "y")
	body = appendSample(body, 1000, 0, "__name__", "scrape_duration_seconds", "job", "x")
	body = appendSample(body, 1000, 0, "__name__", "upload", "job", "x")
	body = appendBytes(body, 3, []byte("metadata is passed over"))
	status, size := push(t, m.URL(), body)
	if status != http.StatusNoContent {
		t.Fatalf("status %d, %v", status, m.Err())
	}
	want := MetricsCounts{
		Requests: 1, Wire: int64(size), Samples: 3, Reports: 3, Stale: 1, Failed: 1,
		Bits: math.Float64bits(1.5) + math.Float64bits(2.5),
	}
	if diff := cmp.Diff(want, m.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(MetricsCounts{}, m.Counts().Sub(want)); diff != "" {
		t.Errorf("counts less themselves:\n%s", diff)
	}
}

// message2Body makes a request of remote write 2.0 with one series. Its symbols stand behind it,
// as protobuf allows.
func message2Body(packed bool, symbols []string, refs []uint64, fields ...[]byte) []byte {
	var series, list []byte
	for _, ref := range refs {
		if packed {
			list = binary.AppendUvarint(list, ref)
		} else {
			series = binary.AppendUvarint(append(series, 1<<3), ref)
		}
	}
	for _, f := range fields {
		series = append(series, f...)
	}
	if packed {
		series = appendBytes(series, 1, list)
	}
	body := appendBytes(nil, 5, series)
	for _, s := range symbols {
		body = appendBytes(body, 4, []byte(s))
	}
	return body
}

// appendValue appends a message Sample or Histogram whose value and timestamp have these ids.
func appendValue(msg []byte, id, valueID, timeID byte, value float64, at int64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{valueID<<3 | wireFixed}, math.Float64bits(value))
	return appendBytes(msg, id, binary.AppendUvarint(append(b, timeID<<3), uint64(at)))
}

// push2 sends a request of remote write 2.0 and returns the status and the headers of the answer.
func push2(t *testing.T, url, encoding string, wire []byte) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf;"+message2)
	req.Header.Set("Content-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func TestSecondVersionIsCountedAndAnsweredLikeTheFirst(t *testing.T) {
	m := startMetrics(t, true)
	stale := math.Float64frombits(staleBits)
	symbols := []string{"", "__name__", "a", "up", "job", "x"}
	fields := [][]byte{
		appendValue(nil, 2, 1, 2, 1.5, 1000), appendValue(nil, 2, 1, 2, 2.5, 2000),
		appendValue(nil, 3, 3, 15, 3.5, 3000), appendBytes(nil, 4, nil), appendBytes(nil, 4, nil),
		appendValue(nil, 3, 3, 15, stale, 4000),
	}
	status, header := push2(t, m.URL(), "snappy", s2.EncodeSnappy(nil, message2Body(true, symbols, []uint64{1, 2, 4, 5}, fields...)))
	if status != http.StatusNoContent {
		t.Fatal(m.Err())
	}
	for kind, want := range map[string]string{"Samples": "2", "Histograms": "2", "Exemplars": "2"} {
		if got := header.Get("X-Prometheus-Remote-Write-" + kind + "-Written"); got != want {
			t.Errorf("%s written: %q, want %q", kind, got, want)
		}
	}
	push2(t, m.URL(), "snappy", s2.EncodeSnappy(nil, message2Body(false, symbols, []uint64{1, 3, 4, 5}, fields[0])))
	// The same series in the first version continues it: one repeat.
	body := appendSample(nil, 4000, 1, "__name__", "a", "job", "x")
	if status, _ := push(t, m.URL(), body); status != http.StatusNoContent {
		t.Fatal(m.Err())
	}
	got := m.Counts()
	got.Wire = 0
	want := MetricsCounts{
		Requests: 3, Requests2: 2, Samples: 3, Histograms: 1, Exemplars: 2, Reports: 1, StaleHistograms: 1,
		Bits: math.Float64bits(1.5) + math.Float64bits(2.5) + math.Float64bits(3.5) + math.Float64bits(1),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Verdict{Series: 1, Repeats: 1, Open: 1}, m.Verdict()); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

func TestSecondVersionThatCannotBeReadIsRefused(t *testing.T) {
	m := startMetrics(t, false)
	symbols := []string{"", "__name__", "a"}
	for name, body := range map[string][]byte{
		"reference too high":    message2Body(true, symbols, []uint64{1, 3}),
		"half a label":          message2Body(true, symbols, []uint64{1}),
		"no label":              message2Body(true, symbols, nil),
		"no empty first symbol": message2Body(true, symbols[1:], []uint64{0, 1}),
		"cut reference":         appendBytes(nil, 5, appendBytes(nil, 1, []byte{0x80})),
		"not the message":       {1<<3 | 3},
	} {
		if status, _ := push2(t, m.URL(), "snappy", s2.EncodeSnappy(nil, body)); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if m.Counts() != (MetricsCounts{}) {
		t.Errorf("counts %+v", m.Counts())
	}
}

func TestZstdIsReadAndOtherEncodingsAreRefused(t *testing.T) {
	m := startMetrics(t, false)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	body := message2Body(true, []string{"", "__name__", "a"}, []uint64{1, 2}, appendValue(nil, 2, 1, 2, 1.5, 1000))
	half := len(body) / 2
	// Frames that follow each other are one body.
	wire := encoder.EncodeAll(body[half:], encoder.EncodeAll(body[:half], nil))
	if status, _ := push2(t, m.URL(), "zstd", wire); status != http.StatusNoContent || m.Counts().Samples != 1 {
		t.Errorf("status %d, counts %+v, error %v", status, m.Counts(), m.Err())
	}
	for _, encoding := range []string{"gzip", "zstd"} {
		if status, _ := push2(t, m.URL(), encoding, body); status != http.StatusBadRequest {
			t.Errorf("%s that is none: status %d", encoding, status)
		}
	}
}

func TestReceiverThatIsAwayTakesNothing(t *testing.T) {
	m := startMetrics(t, false)
	body := appendSample(nil, 1000, 1.5, "__name__", "a")
	m.Away(true)
	if status, _ := push(t, m.URL(), body); status != http.StatusServiceUnavailable || m.Counts() != (MetricsCounts{}) {
		t.Errorf("status %d while away, counts %+v", status, m.Counts())
	}
	m.Away(false)
	if status, _ := push(t, m.URL(), body); status != http.StatusNoContent || m.Counts().Samples != 1 || m.Err() != nil {
		t.Errorf("status %d when back, counts %+v, error %v", status, m.Counts(), m.Err())
	}
}

func TestVerifyingFindsRepeatsDisorderAndOpenSeries(t *testing.T) {
	m := startMetrics(t, true)
	stale := math.Float64frombits(staleBits)
	var body []byte
	for _, s := range []struct {
		name  string
		at    int64
		value float64
	}{
		{"closed", 1, 7},
		{"closed", 2, 7},
		{"closed", 3, stale},
		{"open", 1, 7},
		{"open", 3, 7},
		{"open", 3, 7},
		{"open", 2, 7},
		{"open", 3, 7},
		{"back", 1, 7},
		{"back", 2, stale},
		{"back", 3, 7},
		{"up", 1, 1},
		{"up", 1, 1},
	} {
		body = appendSample(body, s.at, s.value, "__name__", s.name)
	}
	if status, _ := push(t, m.URL(), body); status != http.StatusNoContent {
		t.Fatal(m.Err())
	}
	want := Verdict{Series: 3, Repeats: 2, Disorder: 1, Open: 2}
	if diff := cmp.Diff(want, m.Verdict()); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	m.Reset(true)
	if diff := cmp.Diff(Verdict{}, m.Verdict()); diff != "" {
		t.Errorf("verdict after Reset:\n%s", diff)
	}
}

func TestBodiesThatCannotBeReadAreRefusedAndNotCounted(t *testing.T) {
	m := startMetrics(t, false)
	good := appendSample(nil, 1000, 1.5, "__name__", "a")
	for name, wire := range map[string][]byte{
		"not compressed": good,
		"cut":            s2.EncodeSnappy(nil, good)[:10],
		"cut protobuf":   s2.EncodeSnappy(nil, good[:len(good)-1]),
		"group":          s2.EncodeSnappy(nil, []byte{1<<3 | 3}),
		"empty":          nil,
	} {
		if status := pushRaw(t, m.URL(), wire); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if m.Err() == nil || m.Counts() != (MetricsCounts{}) {
		t.Errorf("error %v, counts %+v", m.Err(), m.Counts())
	}
}

func TestLinesAreKnownByTheirNumbers(t *testing.T) {
	l, err := StartLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	l.Watch(true)
	var body []byte
	size := 0
	for _, line := range []struct {
		file   int
		stderr bool
		seq    int64
	}{{0, false, 0}, {0, true, 1}, {0, false, 3}, {0, false, 2}, {0, false, 3}, {9999, true, 1234567890}} {
		text := append(AppendLineID(nil, line.file, line.stderr, line.seq), `,"msg":"hello"}`...)
		size += len(text)
		body = appendLine(body, time.Now().Add(-500*time.Millisecond), text)
	}
	status, wire := push(t, l.URL(), body)
	if status != http.StatusNoContent {
		t.Fatal(l.Err())
	}
	want := LogsCounts{Requests: 1, Wire: int64(wire), Lines: 5, Repeats: 1, Disorder: 1, Bytes: int64(size)}
	if diff := cmp.Diff(want, l.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if p99 := l.Latency(0.99); p99 < 500*time.Millisecond {
		t.Errorf("lines of half a second ago took %s", p99)
	}
	l.Reset()
	if l.Counts() != (LogsCounts{}) || l.Latency(1) != 0 {
		t.Errorf("after Reset: %+v, %s", l.Counts(), l.Latency(1))
	}
	for _, text := range []string{"", "hello", linePrefix, linePrefix + "00000o00000000000000", linePrefix + "0000o000000000x\""} {
		if status, _ := push(t, l.URL(), appendLine(nil, time.Now(), []byte(text))); status != http.StatusBadRequest {
			t.Errorf("line %q: status %d", text, status)
		}
	}
	if l.Err() == nil || !strings.Contains(l.Err().Error(), "line") {
		t.Errorf("error %v", l.Err())
	}
}

func TestLineIDsHaveOneLength(t *testing.T) {
	for _, c := range []struct {
		file int
		seq  int64
		want string
	}{{0, 0, `{"id":"0000o0000000000"`}, {1, 42, `{"id":"0001o0000000042"`}, {12345, 12345678901, `{"id":"2345o2345678901"`}} {
		if got := string(AppendLineID(nil, c.file, false, c.seq)); got != c.want {
			t.Errorf("file %d, line %d: %s, want %s", c.file, c.seq, got, c.want)
		}
	}
}

func TestLatencyBoundsHoldTheirClasses(t *testing.T) {
	before := time.Duration(-1)
	for d := time.Duration(0); d < time.Hour; d = d*11/10 + time.Millisecond {
		class := latencyClass(d)
		if class == latencySteps-1 {
			break // All that is longer.
		}
		bound := latencyBound(class)
		if d >= bound || d > 10*time.Millisecond && bound > d*5/4+5*time.Millisecond || bound < before {
			t.Errorf("%s is in class %d, below %s", d, class, bound)
		}
		before = bound
	}
	if longest := latencyBound(latencySteps - 1); longest < time.Hour {
		t.Errorf("delays over %s are not told apart", longest)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, verify := range []bool{false, true} {
		b.Run(fmt.Sprintf("verify=%v", verify), func(b *testing.B) {
			m, err := StartMetrics(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			m.Reset(verify)
			var body []byte
			for i := range 2000 {
				body = appendSample(body, 1, 1, "__name__", "container_cpu_usage_seconds_total", "pod", fmt.Sprint(i), "namespace", "default")
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := m.take(request{body: body}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
