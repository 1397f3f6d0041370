package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"go.uber.org/goleak"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// queue keeps what it is given.
type queue struct {
	mu     sync.Mutex
	blocks []delivery.Block
	raw    [][]byte
	err    error
	delay  time.Duration
}

func (q *queue) Put(_ context.Context, b delivery.Block) error {
	time.Sleep(q.delay)
	raw, err := s2.Decode(nil, b.Body.AppendTo(nil))
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	q.blocks = append(q.blocks, b)
	q.raw = append(q.raw, raw)
	return nil
}

func (q *queue) Refused(byte) bool { return false }

func (q *queue) Behind() bool { return false }

func (q *queue) sizes() []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	var sizes []int
	for _, b := range q.blocks {
		sizes = append(sizes, b.Items)
	}
	return sizes
}

// series returns what was received as text, one element for each sample.
func (q *queue) series(t *testing.T) []string {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []string
	for i, raw := range q.raw {
		var req prompb.WriteRequest
		if err := req.Unmarshal(raw); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		if len(req.Timeseries) != q.blocks[i].Items {
			t.Errorf("block %d has %d series, Items is %d", i, len(req.Timeseries), q.blocks[i].Items)
		}
		for _, ts := range req.Timeseries {
			var ls []model.Label
			for _, l := range ts.Labels {
				ls = append(ls, model.Label{Name: l.Name, Value: l.Value})
			}
			for _, s := range ts.Samples {
				all = append(all, fmt.Sprintf("%v %x %d", model.NewLabels(ls...), math.Float64bits(s.Value), s.Timestamp))
			}
			// Sorted and without empty values, as receivers demand.
			for j, l := range ts.Labels {
				if l.Value == "" || j > 0 && ts.Labels[j-1].Name >= l.Name {
					t.Errorf("labels %v are not in order", ts.Labels)
				}
			}
		}
	}
	return all
}

func text(b *model.Batch, external model.Labels) []string {
	var all []string
	for _, s := range b.Samples {
		all = append(all, fmt.Sprintf("%v %x %d", model.Labels(model.Labels(b.At(s.Labels)).AppendWith(nil, external)), math.Float64bits(s.V), s.T))
	}
	return all
}

func batch(n int) *model.Batch {
	b := &model.Batch{}
	for i := range n {
		b.Add(model.NewLabels(model.Label{Name: "__name__", Value: "m"}, model.Label{Name: "i", Value: fmt.Sprint(i)}), 1_700_000_000_000, float64(i))
	}
	return b
}

func newWriter(t *testing.T, endpoints ...Endpoint) *Writer {
	t.Helper()
	return New(slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry(), endpoints)
}

func run(t *testing.T, w *Writer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
}

func TestRequestsAreWhatPrometheusDecodes(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	labels := []model.Labels{
		"",
		model.NewLabels(model.Label{Name: "a", Value: "b"}),
		model.NewLabels(model.Label{Name: "__name__", Value: "up"}, model.Label{Name: "job", Value: "api"}, model.Label{Name: "zone", Value: "ü\x00"}),
		model.NewLabels(model.Label{Name: "__name__", Value: "with_own"}, model.Label{Name: "cluster", Value: "own"}),
		model.NewLabels(model.Label{Name: "__name__", Value: "long"}, model.Label{Name: "v", Value: long}),
	}
	for size := 90; size < 130; size++ { // Around the size whose length needs a second byte.
		labels = append(labels, model.NewLabels(model.Label{Name: "pad", Value: strings.Repeat("p", size)}))
	}
	b := &model.Batch{}
	for i, l := range labels {
		for _, v := range []float64{0, math.Copysign(0, -1), 1.5, math.Inf(-1), math.NaN(), math.Float64frombits(value.StaleNaN), float64(i)} {
			for _, at := range []int64{0, 1, 1_700_000_000_000, -5, math.MaxInt64, math.MinInt64} {
				b.Add(l, at, v)
			}
		}
	}
	for _, external := range []model.Labels{"", model.NewLabels(model.Label{Name: "cluster", Value: "tiles"}, model.Label{Name: "k8s_cluster_name", Value: "tiles"})} {
		q := &queue{}
		w := newWriter(t, Endpoint{Name: "e", Config: DefaultEndpointConfig(), External: external, Durable: true, Queue: q})
		if err := w.Push(b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text(b, external), q.series(t)); diff != "" {
			t.Errorf("received with external labels %v (-want +got):\n%s", external, diff)
		}
	}
}

func TestRequestsEndBySamplesAndByBytes(t *testing.T) {
	f := func(name string, cfg EndpointConfig, want int) {
		t.Helper()
		q := &queue{}
		w := newWriter(t, Endpoint{Name: "e", Config: cfg, Queue: q})
		stop := run(t, w)
		for range 3 {
			if err := w.Push(batch(1000)); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		sum := 0
		for i, n := range q.sizes() {
			sum += n
			if cfg.MaxSamplesPerSend > 0 && n > cfg.MaxSamplesPerSend || len(q.raw[i]) > int(cfg.MaxBytes) {
				t.Errorf("%s: request %d has %d samples and %d bytes, over the limit", name, i, n, len(q.raw[i]))
			}
		}
		if len(q.sizes()) > want || sum != 3000 {
			t.Errorf("%s: requests of %v samples, want at most %d requests and 3000 in all", name, q.sizes(), want)
		}
		var all []string
		for range 3 {
			all = append(all, text(batch(1000), "")...)
		}
		if diff := cmp.Diff(all, q.series(t)); diff != "" {
			t.Errorf("%s: order of samples (-want +got):\n%s", name, diff)
		}
	}
	cfg := DefaultEndpointConfig()
	cfg.BatchSendDeadline = config.Duration(time.Hour)
	f("one", cfg, 1)
	cfg.MaxSamplesPerSend = 2000
	f("samples", cfg, 2)
	cfg.MaxSamplesPerSend = 700
	f("fewer samples", cfg, 6)
	cfg.MaxSamplesPerSend = 1
	f("one each", cfg, 3000)
	cfg.MaxSamplesPerSend, cfg.MaxBytes = 10_000, 16*config.KiB
	f("bytes", cfg, 12)
}

func TestSampleLargerThanARequestGoesAlone(t *testing.T) {
	cfg := DefaultEndpointConfig()
	cfg.MaxBytes = 16 * config.KiB
	q := &queue{}
	w := newWriter(t, Endpoint{Name: "e", Config: cfg, Queue: q})
	b := batch(1)
	b.Add(model.NewLabels(model.Label{Name: "v", Value: strings.Repeat("x", 100_000)}), 1, 1)
	b.Add(model.NewLabels(model.Label{Name: "after", Value: "x"}), 1, 1)
	stop := run(t, w)
	if err := w.Push(b); err != nil {
		t.Fatal(err)
	}
	stop()
	if diff := cmp.Diff([]int{1, 1, 1}, q.sizes()); diff != "" {
		t.Errorf("samples by request (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(text(b, ""), q.series(t)); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
}

func TestRequestEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := DefaultEndpointConfig()
		slow.BatchSendDeadline = config.Duration(3 * time.Second)
		fastQueue, slowQueue := &queue{}, &queue{}
		w := newWriter(t, Endpoint{Name: "fast", Config: DefaultEndpointConfig(), Queue: fastQueue}, Endpoint{Name: "slow", Config: slow, Queue: slowQueue})
		stop := run(t, w)
		begin := time.Now()
		for range 4 { // At 0, 0.4, 0.8 and 1.2 s: the fourth opens a second request.
			if err := w.Push(batch(10)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(400 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		check := func(q *queue, sizes []int, at ...time.Duration) {
			t.Helper()
			if diff := cmp.Diff(sizes, q.sizes()); diff != "" {
				t.Errorf("samples by request (-want +got):\n%s", diff)
				return
			}
			for i, want := range at {
				if got := q.blocks[i].Time.Sub(begin); got != want {
					t.Errorf("request %d after %s, want %s", i, got, want)
				}
			}
		}
		check(fastQueue, []int{30, 10}, time.Second, 2200*time.Millisecond)
		check(slowQueue, []int{40}, 3*time.Second)
		if err := w.Push(batch(5)); err != nil {
			t.Fatal(err)
		}
		stop()
		check(fastQueue, []int{30, 10, 5})
		check(slowQueue, []int{40, 5})
	})
}

func TestDurablePushReturnsWhenTheQueueHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{delay: 10 * time.Millisecond}
		w := newWriter(t, Endpoint{Name: "e", Config: DefaultEndpointConfig(), Durable: true, Queue: q})
		for i := range 5 {
			if err := w.Push(batch(3)); err != nil {
				t.Fatal(err)
			}
			if got := len(q.sizes()); got != i+1 {
				t.Errorf("after Push %d the queue has %d requests", i, got)
			}
		}
	})
}

func TestConcurrentBatchesAreNotInterleaved(t *testing.T) {
	q := &queue{}
	cfg := DefaultEndpointConfig()
	cfg.MaxSamplesPerSend = 37
	w := newWriter(t, Endpoint{Name: "e", Config: cfg, Queue: q})
	stop := run(t, w)
	var wg sync.WaitGroup
	for src := range 4 {
		wg.Go(func() {
			for i := range 50 {
				b := &model.Batch{}
				for n := range 20 {
					b.Add(model.NewLabels(model.Label{Name: "src", Value: fmt.Sprint(src)}), int64(i), float64(n))
				}
				if err := w.Push(b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	got := q.series(t)
	if len(got) != 4*50*20 {
		t.Fatalf("%d samples received, want %d", len(got), 4*50*20)
	}
	next := map[string]int{}
	for i := 0; i < len(got); i += 20 {
		src := got[i][:strings.Index(got[i], "}")+1]
		for n := range 20 {
			if want := fmt.Sprintf("%s %x %d", src, math.Float64bits(float64(n)), next[src]); got[i+n] != want {
				t.Fatalf("sample %d is %s, want %s", i+n, got[i+n], want)
			}
		}
		next[src]++
	}
}

func TestQueueThatRefusesIsReportedAndOthersAreServed(t *testing.T) {
	bad, good := &queue{err: errors.New("closed for the test")}, &queue{}
	cfg := DefaultEndpointConfig()
	cfg.MaxSamplesPerSend = 10
	reg := prometheus.NewRegistry()
	w := New(slog.New(slog.NewTextHandler(t.Output(), nil)), reg, []Endpoint{{Name: "bad", Config: cfg, Queue: bad}, {Name: "good", Config: cfg, Queue: good}})
	err := w.Push(batch(25))
	if err == nil || !strings.Contains(err.Error(), "hand 10 samples to the queue of bad: closed for the test") {
		t.Errorf("Push = %v, want the error of the queue that refuses", err)
	}
	if diff := cmp.Diff([]int{10, 10}, good.sizes()); diff != "" {
		t.Errorf("requests to the other queue (-want +got):\n%s", diff)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[strings.TrimPrefix(f.GetName(), "ingot_remotewrite_")+" "+m.GetLabel()[0].GetValue()] += m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{"samples_total bad": 25, "samples_total good": 25, "dropped_samples_total bad": 20, "dropped_samples_total good": 0, "requests_total bad": 0, "requests_total good": 2} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
}

func TestBatchMayBeReusedAfterPush(t *testing.T) {
	q := &queue{}
	w := newWriter(t, Endpoint{Name: "e", Config: DefaultEndpointConfig(), Queue: q})
	stop := run(t, w)
	b := batch(5)
	want := text(b, "")
	if err := w.Push(b); err != nil {
		t.Fatal(err)
	}
	clear(b.Samples)
	clear(b.Bytes)
	stop()
	if diff := cmp.Diff(want, q.series(t)); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
}

func TestConfigSaysEverythingThatIsWrong(t *testing.T) {
	if err := DefaultEndpointConfig().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	err := EndpointConfig{
		MaxSamplesPerSend: -1, MaxBytes: 100, Compression: "zstd", MetadataConfig: MetadataConfig{Send: true},
		WriteRelabelConfigs: []*relabel.Config{nil, {Action: relabel.Replace}},
		Headers:             map[string]promconfig.Secret{"content-type": "text/plain", "X-Own": "ok"},
	}.Validate()
	want := `max_samples_per_send: must be 0 or more, is -1
max_bytes: must be between 16KiB and 64MiB, is 100B
batch_send_deadline: must be longer than 0s, is 0s
protobuf_message: must be prometheus.WriteRequest, io.prometheus.write.v2.Request or auto, is ""
compression: zstd goes with protobuf_message prometheus.WriteRequest only
metadata_config.send_interval: must be longer than 0s, is 0s
metadata_config.max_samples_per_send: must be at least 1, is 0
write_relabel_configs[0]: must not be empty
write_relabel_configs[1]: relabel configuration for replace action requires 'target_label' value
headers.content-type: is set by the program itself, remove it; authentication has keys of its own`
	if err == nil || err.Error() != want {
		t.Errorf("Validate = %v, want:\n%s", err, want)
	}
}
