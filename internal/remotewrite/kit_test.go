package remotewrite

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// receiver is a queue that decodes what it is given with Prometheus' own types.
type receiver struct {
	t       testing.TB
	refused atomic.Bool // remote write 2.0
	behind  atomic.Bool

	mu       sync.Mutex
	blocks   []delivery.Block
	samples  map[string][]string // by the label key, in order
	metadata []prompb.MetricMetadata
	items    int
}

func (r *receiver) Refused(format byte) bool { return format == Format2 && r.refused.Load() }

func (r *receiver) Behind() bool { return r.behind.Load() }

func (r *receiver) Put(_ context.Context, b delivery.Block) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.samples == nil {
		r.samples = map[string][]string{}
	}
	r.blocks = append(r.blocks, b)
	r.items += b.Items
	got, metadata := decode(r.t, b.Format, b.Body.AppendTo(nil))
	if len(got) != b.Items {
		r.t.Errorf("a block of format %d has %d samples, Items is %d", b.Format, len(got), b.Items)
	}
	r.metadata = append(r.metadata, metadata...)
	for _, s := range got {
		_, key, _ := strings.Cut(s, `key="`)
		key, _, _ = strings.Cut(key, `"`)
		r.samples[key] = append(r.samples[key], s)
	}
	return nil
}

func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.blocks)
}

func (r *receiver) families() []prompb.MetricMetadata {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.metadata)
}

func unpack(t testing.TB, format byte, body []byte) []byte {
	t.Helper()
	if format == Format1Zstd {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer dec.Close()
		raw, err := dec.DecodeAll(body, nil)
		if err != nil {
			t.Errorf("zstd: %v", err)
		}
		return raw
	}
	raw, err := s2.Decode(nil, body)
	if err != nil {
		t.Errorf("snappy: %v", err)
	}
	return raw
}

// decode returns the samples of a request as text.
func decode(t testing.TB, format byte, body []byte) (all []string, metadata []prompb.MetricMetadata) {
	t.Helper()
	raw := unpack(t, format, body)
	if format != Format2 {
		var req prompb.WriteRequest
		if err := req.Unmarshal(raw); err != nil {
			t.Errorf("1.0: %v", err)
		}
		for _, s := range req.Timeseries {
			all = append(all, decoded1(s))
		}
		return all, req.Metadata
	}
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		t.Errorf("2.0: %v", err)
		return nil, nil
	}
	seen := map[string]bool{}
	for i, s := range req.Symbols {
		if seen[s] || i == 0 && s != "" {
			t.Errorf("symbol %d of %d, %q, is there twice or is the first and not empty", i, len(req.Symbols), s)
		}
		seen[s] = true
	}
	for _, s := range req.Timeseries {
		all = append(all, decoded2(req.Symbols, s))
	}
	return all, nil
}

func decoded1(s prompb.TimeSeries) string {
	var b strings.Builder
	text := func(ls []prompb.Label) string {
		var all []model.Label
		for _, l := range ls {
			all = append(all, model.Label{Name: l.Name, Value: l.Value})
		}
		return model.NewLabels(all...).String()
	}
	b.WriteString(text(s.Labels))
	for _, v := range s.Samples {
		fmt.Fprintf(&b, " %x@%d", math.Float64bits(v.Value), v.Timestamp)
	}
	for _, h := range s.Histograms {
		at := h.Timestamp
		h.Timestamp = 0
		fmt.Fprintf(&b, " hist %v@%d", h.String(), at)
	}
	for _, e := range s.Exemplars {
		fmt.Fprintf(&b, " # %s %x@%d", text(e.Labels), math.Float64bits(e.Value), e.Timestamp)
	}
	return b.String()
}

// decoded2 yields the text of decoded1, with start and metadata behind it.
func decoded2(symbols []string, s writev2.TimeSeries) string {
	labels := func(refs []uint32) (all []prompb.Label) {
		for i := 0; i+1 < len(refs); i += 2 {
			all = append(all, prompb.Label{Name: symbols[refs[i]], Value: symbols[refs[i+1]]})
		}
		return all
	}
	as1 := prompb.TimeSeries{Labels: labels(s.LabelsRefs)}
	var start int64
	for _, v := range s.Samples {
		as1.Samples = append(as1.Samples, prompb.Sample{Value: v.Value, Timestamp: v.Timestamp})
		start = v.StartTimestamp
	}
	for _, h := range s.Histograms {
		start, h.StartTimestamp = h.StartTimestamp, 0
		wire, err := h.Marshal()
		if err != nil {
			panic(err)
		}
		var same prompb.Histogram // The messages of 1.0 and 2.0 have the same fields.
		if err := same.Unmarshal(wire); err != nil {
			panic(err)
		}
		as1.Histograms = append(as1.Histograms, same)
	}
	for _, e := range s.Exemplars {
		as1.Exemplars = append(as1.Exemplars, prompb.Exemplar{Labels: labels(e.LabelsRefs), Value: e.Value, Timestamp: e.Timestamp})
	}
	out := decoded1(as1) + behind2(start, s.Metadata.Type.String(), symbols[s.Metadata.HelpRef], symbols[s.Metadata.UnitRef])
	return out
}

// behind2 is what only requests of 2.0 carry.
func behind2(start int64, kind, help, unit string) string {
	return fmt.Sprintf(" start %d meta %s %q %q", start, kind, help, unit)
}

// source makes random transactions of one key, and knows what has to arrive.
type source struct {
	rand *rand.Rand
	key  string
	now  int64
}

// expected is one sample as it has to arrive.
type expected struct {
	text      string // as decoded1 has it
	plain     string // without exemplars
	behind    string // as behind2 has it
	histogram bool
	custom    bool
}

// text2 returns what has to arrive by 2.0.
func (e expected) text2() string { return e.text + e.behind }

func (s *source) batch(n int, more ...model.Label) (*model.Batch, []expected) {
	b := &model.Batch{}
	kinds := []string{"counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"}
	for i := range s.rand.IntN(4) {
		b.Metadata = append(b.Metadata, model.Metadata{
			Family: fmt.Sprintf("family_%d", i), Type: kinds[s.rand.IntN(len(kinds))], Help: strings.Repeat("h", s.rand.IntN(3)*60), Unit: []string{"", "seconds"}[s.rand.IntN(2)],
		})
	}
	var want []expected
	for i := range n {
		s.now++
		want = append(want, s.sample(b, i, more))
	}
	return b, want
}

func (s *source) sample(b *model.Batch, i int, more []model.Label) expected {
	r := s.rand
	ls := append([]model.Label{{Name: "key", Value: s.key}, {Name: "__name__", Value: fmt.Sprintf("m_%d", i/50)}}, more...)
	for _, name := range []string{"Upper", "a", "instance", "le", "pod"} {
		if r.IntN(4) > 0 {
			ls = append(ls, model.Label{Name: name, Value: strings.Repeat("v", r.IntN(3)*40) + fmt.Sprint(r.IntN(20))})
		}
	}
	if r.IntN(1000) == 0 {
		ls = append(ls, model.Label{Name: "long", Value: strings.Repeat("x", r.IntN(200_000))})
	}
	labels := model.NewLabels(ls...)
	v := []float64{0, math.Copysign(0, -1), r.Float64(), float64(r.IntN(100)), math.NaN(), math.Float64frombits(0x7ff0000000000002)}[r.IntN(6)]
	b.Add(labels, s.now, v)
	sample := &b.Samples[len(b.Samples)-1]
	as1 := prompb.TimeSeries{}
	for _, l := range labels.All() {
		as1.Labels = append(as1.Labels, prompb.Label{Name: l.Name, Value: l.Value})
	}
	e := expected{}
	if r.IntN(5) == 0 {
		sample.Start = s.now - int64(r.IntN(1000)) - 1
	}
	if r.IntN(10) == 0 {
		h := histogram(r, r.IntN(3) == 0)
		wire, err := h.Marshal()
		if err != nil {
			panic(err)
		}
		sample.Histogram = s.put(b, wire)
		sample.Custom = h.Schema == -53
		e.histogram, e.custom = true, sample.Custom
		h.Timestamp = s.now
		as1.Histograms = []prompb.Histogram{h}
	} else {
		as1.Samples = []prompb.Sample{{Value: v, Timestamp: s.now}}
	}
	e.plain = decoded1(as1)
	for range r.IntN(20) / 18 * (1 + r.IntN(3)) {
		trace := []model.Label{{Name: "trace_id", Value: fmt.Sprint(r.IntN(100))}}[:r.IntN(2)]
		own := model.NewLabels(trace...)
		x := model.Exemplar{Sample: uint32(len(b.Samples) - 1), Labels: s.put(b, []byte(own)), T: s.now - 3, V: r.Float64()}
		b.Exemplars = append(b.Exemplars, x)
		pe := prompb.Exemplar{Value: x.V, Timestamp: x.T}
		for _, l := range own.All() {
			pe.Labels = append(pe.Labels, prompb.Label{Name: l.Name, Value: l.Value})
		}
		as1.Exemplars = append(as1.Exemplars, pe)
	}
	e.text = decoded1(as1)
	e.behind = behind2(sample.Start, "METRIC_TYPE_UNSPECIFIED", "", "")
	if n := len(b.Metadata); n > 0 && r.IntN(4) > 0 {
		place := r.IntN(n)
		sample.Family = uint32(place) + 1
		m := b.Metadata[place]
		kind := "METRIC_TYPE_" + strings.ToUpper(m.Type)
		if m.Type == "unknown" {
			kind = "METRIC_TYPE_UNSPECIFIED"
		}
		e.behind = behind2(sample.Start, kind, m.Help, m.Unit)
	}
	return e
}

// put adds bytes to a batch.
func (s *source) put(b *model.Batch, wire []byte) model.Span {
	from := uint32(len(b.Bytes))
	b.Bytes = append(b.Bytes, wire...)
	return model.Span{From: from, To: uint32(len(b.Bytes))}
}

func histogram(r *rand.Rand, custom bool) prompb.Histogram {
	h := prompb.Histogram{
		Count: &prompb.Histogram_CountInt{CountInt: r.Uint64N(1000)}, Sum: r.Float64(), Schema: int32(r.IntN(9)),
		ZeroThreshold: 1e-128, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 1},
		PositiveSpans: []prompb.BucketSpan{{Offset: -2, Length: 2}}, PositiveDeltas: []int64{3, -1},
	}
	if custom {
		h.Schema, h.CustomValues, h.ZeroThreshold, h.ZeroCount = -53, []float64{1, 2}, 0, nil
	}
	return h
}

// cAdvisor yields lines as cAdvisor does, about 450 bytes each before compression: for each of
// the families every container, n samples in all.
func cAdvisor(n int) *model.Batch {
	const families = 40
	return many(n, func(i int) []model.Label {
		container := i % max(1, n/families)
		family := i / max(1, n/families)
		return []model.Label{
			{Name: "__name__", Value: fmt.Sprintf("container_%s_bytes_total_%d", []string{"network_receive", "fs_reads", "memory_working_set", "cpu_cfs_throttled"}[family%4], family)},
			{Name: "container", Value: []string{"store-gateway", "ingester", "POD", "exporter"}[container%4]},
			{Name: "id", Value: fmt.Sprintf("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod%08x_5f5f_4b0e_9f0e_%012x.slice/cri-containerd-%016x%016x.scope", container*2654435761, container, uint64(container)*0x9E3779B97F4A7C15, uint64(container)*0xC2B2AE3D27D4EB4F)},
			{Name: "image", Value: fmt.Sprintf("registry.example.org/mimir/mimir:2.14.%d", container%7)},
			{Name: "instance", Value: "node-17.example.org"},
			{Name: "job", Value: "integrations/kubernetes/cadvisor"},
			{Name: "name", Value: fmt.Sprintf("%016x%016x", uint64(container)*0x9E3779B97F4A7C15, uint64(container)*0xC2B2AE3D27D4EB4F)},
			{Name: "namespace", Value: fmt.Sprintf("mimir-%d", container%5)},
			{Name: "pod", Value: fmt.Sprintf("mimir-store-gateway-%d", container)},
		}
	})
}

// stateMetrics yields lines as kube-state-metrics does: several of each object in turn.
func stateMetrics(n int) *model.Batch {
	return many(n, func(i int) []model.Label {
		return []model.Label{
			{Name: "__name__", Value: []string{"kube_pod_status_phase", "kube_pod_container_status_waiting_reason", "kube_pod_tolerations"}[i/4000%3]},
			{Name: "instance", Value: "10.0.3.17:8080"},
			{Name: "job", Value: "integrations/kubernetes/kube-state-metrics"},
			{Name: "namespace", Value: fmt.Sprintf("namespace-%d", i/400)},
			{Name: "phase", Value: []string{"Pending", "Succeeded", "Failed", "Unknown", "Running"}[i%5]},
			{Name: "pod", Value: fmt.Sprintf("deployment-%d-%08x-%05x", i/60, i/5*2654435761, i/5*40503)},
			{Name: "uid", Value: fmt.Sprintf("%08x-1c2d-4e5f-8a9b-%012x", i/5*2246822519, i/5*3266489917)},
		}
	})
}

// node yields lines as node_exporter does: short ones.
func node(n int) *model.Batch {
	return many(n, func(i int) []model.Label {
		ls := []model.Label{
			{Name: "__name__", Value: fmt.Sprintf("node_family_%d_total", i/16)},
			{Name: "instance", Value: "node-17.example.org:9100"},
			{Name: "job", Value: "integrations/node_exporter"},
		}
		switch i / 16 % 3 {
		case 0:
			ls = append(ls, model.Label{Name: "cpu", Value: fmt.Sprint(i % 16 / 8)}, model.Label{Name: "mode", Value: []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}[i%8]})
		case 1:
			ls = append(ls, model.Label{Name: "device", Value: fmt.Sprintf("nvme%dn1", i%16)})
		}
		return ls
	})
}

func many(n int, labels func(i int) []model.Label) *model.Batch {
	b := &model.Batch{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		ls := append(labels(i), model.Label{Name: "cluster", Value: "tiles"}, model.Label{Name: "k8s_cluster_name", Value: "tiles"})
		v := float64(r.IntN(4) * r.IntN(1_000_000))
		b.Add(model.NewLabels(ls...), 1_700_000_000_000, v)
	}
	return b
}

func newTestWriter(t testing.TB, reg prometheus.Registerer, endpoints ...Endpoint) *Writer {
	t.Helper()
	return New(slog.New(slog.NewTextHandler(t.Output(), nil)), reg, endpoints)
}

// Push is a transaction of one batch.
func (w *Writer) Push(b *model.Batch) error {
	a := w.Appender(0)
	a.Append(b)
	return a.Commit()
}
