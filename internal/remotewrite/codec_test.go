package remotewrite

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

// request returns one request of random samples, and what has to arrive.
func request(t testing.TB, format byte, n int, seed uint64) (delivery.Block, []expected) {
	t.Helper()
	cfg := DefaultEndpointConfig()
	switch format {
	case Format2:
		cfg.ProtobufMessage = Message2
	case Format1Zstd:
		cfg.Compression = compressionZstd
	}
	r := &receiver{t: t}
	w := newTestWriter(t, prometheus.NewRegistry(), Endpoint{Name: "e", Config: cfg, Queue: r, Durable: true})
	s := &source{rand: rand.New(rand.NewPCG(seed, 9)), key: "k", now: 1_700_000_000_000}
	b, want := s.batch(n)
	if err := w.Push(b); err != nil {
		t.Fatal(err)
	}
	if len(r.blocks) != 1 {
		t.Fatalf("%d requests, want 1", len(r.blocks))
	}
	return r.blocks[0], want
}

func auto() *Codec {
	cfg := DefaultEndpointConfig()
	cfg.ProtobufMessage = MessageAuto
	return NewCodec(cfg)
}

func TestSplitHalvesDownToOneSampleAndLosesNothing(t *testing.T) {
	c := auto()
	var split func(format byte, body []byte, items int) []string
	split = func(format byte, body []byte, items int) []string {
		left, right, err := c.Split(format, body)
		if errors.Is(err, delivery.ErrWhole) {
			if items != 1 {
				t.Errorf("a body of %d samples cannot be split", items)
			}
			all, _ := decode(t, format, body)
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if left.Items+right.Items != items || left.Items == 0 || right.Items == 0 || left.Items-right.Items > 1 || right.Items-left.Items > 1 {
			t.Errorf("%d samples were split in %d and %d", items, left.Items, right.Items)
		}
		return append(split(format, left.Body, left.Items), split(format, right.Body, right.Items)...)
	}
	for _, format := range []byte{Format1, Format2, Format1Zstd} {
		b, _ := request(t, format, 57, 1)
		want, _ := decode(t, format, b.Body.AppendTo(nil))
		if diff := cmp.Diff(want, split(format, b.Body.AppendTo(nil), b.Items)); diff != "" {
			t.Errorf("format %d, samples after splitting (-want +got):\n%s", format, diff)
		}
	}
}

func TestFallbackKeepsAllThatRemoteWrite1Holds(t *testing.T) {
	b, samples := request(t, Format2, 500, 2)
	var want []string
	for _, s := range samples {
		if !s.custom {
			want = append(want, s.text)
		}
	}
	format, part, err := auto().Fallback(Format2, b.Body.AppendTo(nil))
	if err != nil || format != Format1 {
		t.Fatalf("Fallback = format %d, %v, want %d", format, err, Format1)
	}
	got, _ := decode(t, format, part.Body)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples by 1.0 (-want +got):\n%s", diff)
	}
	if len(want) == len(samples) || part.Items != len(want) {
		t.Errorf("part has %d items of %d, want %d and some left out", part.Items, len(samples), len(want))
	}
	for _, c := range []*Codec{auto(), NewCodec(DefaultEndpointConfig())} {
		if _, _, err := c.Fallback(Format1, nil); !errors.Is(err, delivery.ErrNoFallback) {
			t.Errorf("Fallback from 1.0 = %v, want none", err)
		}
	}
	cfg := DefaultEndpointConfig()
	cfg.ProtobufMessage = Message2
	if _, _, err := NewCodec(cfg).Fallback(Format2, b.Body.AppendTo(nil)); !errors.Is(err, delivery.ErrNoFallback) {
		t.Errorf("Fallback where 2.0 is configured = %v, want none", err)
	}
}

func TestWrittenIsWhatTheEndpointSays(t *testing.T) {
	configured := DefaultEndpointConfig()
	configured.ProtobufMessage = Message2
	f := func(c *Codec, format byte, samples, histograms string, accepted int, known bool) {
		t.Helper()
		h := http.Header{}
		if samples != "" {
			h.Set("X-Prometheus-Remote-Write-Samples-Written", samples)
		}
		if histograms != "" {
			h.Set("X-Prometheus-Remote-Write-Histograms-Written", histograms)
		}
		if n, ok := c.Written(h, format, 10); n != accepted || ok != known {
			t.Errorf("Written(%q, %q) = %d, %v, want %d, %v", samples, histograms, n, ok, accepted, known)
		}
	}
	f(auto(), Format1, "", "", 10, true)
	f(auto(), Format2, "7", "2", 9, true)
	f(auto(), Format2, "7", "", 7, true)
	f(auto(), Format2, "", "3", 3, true)
	f(auto(), Format2, "", "", 0, false)
	f(auto(), Format2, "-1", "", 0, false)
	f(auto(), Format2, "many", "", 0, false)
	f(auto(), Format2, "11", "5", 10, true)
	// As in Prometheus: who was told to use 2.0 and hears nothing has stored nothing.
	f(NewCodec(configured), Format2, "", "", 0, true)
}

func TestHeadersAreWhatTheProtocolsAskFor(t *testing.T) {
	f := func(format byte, want http.Header) {
		t.Helper()
		if diff := cmp.Diff(want, auto().Header(format)); diff != "" {
			t.Errorf("Header(%d) (-want +got):\n%s", format, diff)
		}
	}
	f(Format1, http.Header{"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"snappy"}, "X-Prometheus-Remote-Write-Version": {"0.1.0"}})
	f(Format2, http.Header{"Content-Type": {"application/x-protobuf;proto=io.prometheus.write.v2.Request"}, "Content-Encoding": {"snappy"}, "X-Prometheus-Remote-Write-Version": {"2.0.0"}})
	f(Format1Zstd, http.Header{
		"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"zstd"}, "X-Prometheus-Remote-Write-Version": {"0.1.0"},
		http.CanonicalHeaderKey("X-VictoriaMetrics-Remote-Write-Version"): {"1"},
	})
	cfg := DefaultEndpointConfig()
	cfg.Headers = map[string]promconfig.Secret{"x-scope-orgid": "a"}
	if diff := cmp.Diff(http.Header{"User-Agent": {"ingot/1"}, "X-Scope-Orgid": {"a"}}, cfg.Header("ingot/1")); diff != "" {
		t.Errorf("Header (-want +got):\n%s", diff)
	}
}

// FuzzCodec gives the codec bodies that nobody wrote: it may refuse them and must not fail.
func FuzzCodec(f *testing.F) {
	for _, format := range []byte{Format1, Format2} {
		b, _ := request(f, format, 2, 3)
		f.Add(format == Format2, unpack(f, format, b.Body.AppendTo(nil)))
	}
	f.Add(true, []byte("\x22\x00\x22\x01a\x2a\x04\x0a\x02\x01\x01\x2a\x04\x0a\x02\x01\x05"))
	f.Fuzz(func(t *testing.T, modern bool, raw []byte) {
		format := Format1
		if modern {
			format = Format2
		}
		body, err := encodeBody(format, raw)
		if err != nil {
			t.Fatal(err)
		}
		c := auto()
		if left, right, err := c.Split(format, body); err == nil {
			for _, p := range []delivery.Part{left, right} {
				if _, _, err := c.Split(format, p.Body); err != nil && !errors.Is(err, delivery.ErrWhole) {
					t.Errorf("a half cannot be split: %v", err)
				}
			}
		}
		_, _, _ = c.Fallback(format, body)
		_, _, _ = c.Split(format, raw)
		_, _, _ = c.Fallback(format, raw)
	})
}

// Requests that were written with the labels before the sample, as other programs write them.
func TestOrderOfFieldsDoesNotMatter(t *testing.T) {
	message := func(tag byte, parts ...[]byte) (dst []byte) {
		body := slices.Concat(parts...)
		return append(binary.AppendUvarint(append(dst, tag), uint64(len(body))), body...)
	}
	var raw []byte
	for _, s := range []string{"", "__name__", "up", "job", "a"} {
		raw = append(raw, message(tagSymbols, []byte(s))...)
	}
	refs := message(tagRefs, []byte{1, 2, 3, 4})
	sample := message(tagSamples, append([]byte{tagValue}, make([]byte, 8)...), binary.AppendUvarint([]byte{tagTime}, 1000))
	meta := message(tagMetadata2, []byte{tagType, 1})
	raw = append(raw, message(tagSeries2, refs, sample, meta)...)
	raw = append(raw, message(tagSeries2, sample, refs, meta)...)
	want, _ := decode(t, Format2, s2.EncodeSnappy(nil, raw))
	left, right, err := auto().Split(Format2, s2.EncodeSnappy(nil, raw))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := decode(t, Format2, left.Body)
	second, _ := decode(t, Format2, right.Body)
	if diff := cmp.Diff(want, append(first, second...)); diff != "" || len(want) != 2 {
		t.Errorf("divided (-want +got):\n%s", diff)
	}
	for _, twice := range [][]byte{slices.Concat(refs, sample, refs), slices.Concat(sample, meta, refs)} {
		bad := slices.Concat(raw, message(tagSeries2, twice))
		if _, _, err := auto().Split(Format2, s2.EncodeSnappy(nil, bad)); !errors.Is(err, errForeign) {
			t.Errorf("labels in two places, or behind metadata: %v, want %v", err, errForeign)
		}
	}
}
