package kit

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if mode, ok := os.LookupEnv(fakeVariable); ok {
		os.Exit(fakeIngot(mode))
	}
	goleak.VerifyTestMain(m)
}

func TestCompareTellsEveryKindOfDifference(t *testing.T) {
	for _, tc := range []struct {
		name      string
		want, got []int
		report    Report
	}{
		{"same", []int{1, 2, 3}, []int{3, 1, 2}, Report{}},
		{"lost", []int{1, 2, 3}, []int{1, 3}, Report{Lost: []string{"2"}}},
		{"a repeat does not hide a loss", []int{1, 2, 3}, []int{1, 1, 3}, Report{Lost: []string{"2"}, Repeated: []string{"1"}}},
		{"corrupt", []int{1, 2}, []int{1, 7}, Report{Lost: []string{"2"}, Invented: []string{"7"}}},
		{"nothing arrived", []int{1}, nil, Report{Lost: []string{"1"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Compare(tc.want, tc.got)
			if diff := cmp.Diff(tc.report, got); diff != "" {
				t.Errorf("Compare(%v, %v) (-want +got):\n%s", tc.want, tc.got, diff)
			}
			if bad := len(tc.report.Lost)+len(tc.report.Invented) > 0; (got.Err() != nil) != bad {
				t.Errorf("Err() = %v, want an error: %v", got.Err(), bad)
			}
		})
	}
	if err := (Report{Disorder: []string{"x"}}).Err(); err == nil {
		t.Error("Err() = nil for a report with disorder")
	}
}

func TestSnappyDecodesWhatTheLibraryEncodes(t *testing.T) {
	for _, text := range []string{
		"", "a", strings.Repeat("a", 100_000), strings.Repeat("abcdefgh", 1000) + "tail",
		string(noise(100_000)), strings.Repeat(string(noise(300)), 400),
	} {
		got, err := DecodeSnappy(snappy.Encode(nil, []byte(text)))
		if err != nil || string(got) != text {
			t.Errorf("DecodeSnappy of %d bytes: %d bytes, %v", len(text), len(got), err)
		}
	}
}

func TestSnappyRefusesTheExtensionsOfS2(t *testing.T) {
	text := []byte(strings.Repeat("some text that repeats at one offset / "+string(noise(30)), 2000))
	encoded := s2.EncodeBest(nil, text)
	if _, err := s2.Decode(nil, encoded); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeSnappy(encoded); err == nil {
		t.Error("DecodeSnappy took an S2 block with repeat offsets")
	}
}

func TestSnappyRefusesCorruptInput(t *testing.T) {
	good := snappy.Encode(nil, []byte(strings.Repeat("abcdefgh", 1000)))
	for i := range good {
		if _, err := DecodeSnappy(good[:i]); err == nil {
			t.Errorf("DecodeSnappy took the first %d of %d bytes", i, len(good))
		}
	}
	for _, bad := range [][]byte{
		nil,
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, // a declared size of petabytes
		{4, 0x01, 0x00}, // a copy before any literal
		{1, 0xfc, 0xff}, // a literal length cut short
	} {
		if _, err := DecodeSnappy(bad); err == nil {
			t.Errorf("DecodeSnappy(%x) = nil error", bad)
		}
	}
}

func FuzzDecodeSnappyAgreesWithTheLibrary(f *testing.F) {
	f.Add(snappy.Encode(nil, []byte(strings.Repeat("abcdefgh", 100))))
	f.Add([]byte{4, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, in []byte) {
		if n, err := snappy.DecodedLen(in); err != nil || n > 1<<20 {
			return
		}
		got, err := DecodeSnappy(in)
		if err != nil {
			return // the library takes S2, too
		}
		want, err := snappy.Decode(nil, in)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("DecodeSnappy(%x) = %x, the library: %x, %v", in, got, want, err)
		}
	})
}

func FuzzDecodePushNeverPanics(f *testing.F) {
	f.Add(encodePush(pushStream(`{a="b"}`, PushEntry{T: 1, Line: "x", Metadata: []Pair{{"k", "v"}}})))
	f.Fuzz(func(_ *testing.T, in []byte) {
		h := http.Header{"Content-Type": {"application/x-protobuf"}}
		_, _ = DecodePush(h, snappy.Encode(nil, in))
	})
}

func TestSelectorsMatchAsPromQLDoes(t *testing.T) {
	for _, bad := range []string{"", "{", "{a}", `{a=b}`, `{a="b"`, `{a="b" c="d"}`, `{1a="b"}`, `{a=="b"}`, `{a=~"("}`, `up{a="b"} x`, `{a='b'}`} {
		if _, err := ParseSelector(bad); err == nil {
			t.Errorf("ParseSelector(%q) = nil error", bad)
		}
	}
	lset := labelsOf("__name__", "up", "job", "a", "instance", `x"y`)
	for sel, want := range map[string]bool{
		"up": true, "down": false, `{job="a"}`: true, `up{job="b"}`: false, `up{job!="b",}`: true,
		`{job=~"a|b"}`: true, `{job=~"."}`: true, `{job!~"a.*"}`: false, `{missing=""}`: true,
		`{instance="x\"y"}`: true, "{instance=`x\"y`}": true, `{ job = "a" , instance =~ ".+" }`: true, "{}": true,
	} {
		if got := matches(lset, mustSelector(sel)); got != want {
			t.Errorf("%s matches %s = %v, want %v", sel, lset, got, want)
		}
	}
}

// noise returns bytes that do not compress, the same every time.
func noise(n int) []byte {
	out, x := make([]byte, n), uint32(1)
	for i := range out {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = byte(x)
	}
	return out
}

// series builds a series with one sample, its labels given as name, value, ... pairs.
func series(t int64, v float64, pairs ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: t, Value: v}}}
	for pair := range slices.Chunk(pairs, 2) {
		ts.Labels = append(ts.Labels, prompb.Label{Name: pair[0], Value: pair[1]})
	}
	return ts
}

// push sends a remote write and returns the status and the answer.
func push(t *testing.T, r *MetricsReceiver, tenant string, all ...prompb.TimeSeries) (int, string) {
	t.Helper()
	req := prompb.WriteRequest{Timeseries: all}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	status, text, err := post(t.Context(), r.PushURL(), tenant, snappy.Encode(nil, raw))
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}

// post sends a body with the headers of remote write, which suit Loki as well.
func post(ctx context.Context, url, tenant string, body []byte) (int, string, error) {
	return postHeader(ctx, url, tenant, body, nil)
}

func postHeader(ctx context.Context, url, tenant string, body []byte, change http.Header) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if tenant != "" {
		req.Header.Set("X-Scope-OrgID", tenant)
	}
	maps.Copy(req.Header, change)
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// pushStream is a stream of a Loki push.
func pushStream(labels string, entries ...PushEntry) PushStream {
	return PushStream{Labels: labels, Entries: entries}
}

// encodePush writes logproto.PushRequest.
func encodePush(streams ...PushStream) []byte {
	var out []byte
	for _, s := range streams {
		msg := appendBytes(nil, 1, []byte(s.Labels))
		for _, e := range s.Entries {
			stamp := binary.AppendUvarint([]byte{1 << 3}, uint64(e.T/1e9))
			stamp = binary.AppendUvarint(append(stamp, 2<<3), uint64(e.T%1e9))
			entry := appendBytes(nil, 1, stamp)
			entry = appendBytes(entry, 2, []byte(e.Line))
			for _, p := range e.Metadata {
				entry = appendBytes(entry, 3, appendBytes(appendBytes(nil, 1, []byte(p.Name)), 2, []byte(p.Value)))
			}
			msg = appendBytes(msg, 2, entry)
		}
		out = appendBytes(out, 1, msg)
	}
	return out
}

func appendBytes(dst []byte, num byte, b []byte) []byte {
	return append(binary.AppendUvarint(append(dst, num<<3|wireBytes), uint64(len(b))), b...)
}

// stale is Prometheus' staleness marker.
func stale() float64 { return math.Float64frombits(staleNaN) }
