package loki

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeQueue has room for so many blocks.
type fakeQueue chan delivery.Block

func (q fakeQueue) Put(ctx context.Context, b delivery.Block) error {
	select {
	case q <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// single is one queue for all tenants.
type single struct{ q Queue }

func (s single) Queue(string) (Queue, *UnservedError) { return s.q, nil }

func newWriter(t testing.TB, cfg Config, external model.Labels, q Queue) (*Writer, *prometheus.Registry) {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	w, err := New(cfg, slog.New(slog.DiscardHandler), NewMetrics(reg), "loki", external, single{q})
	if err != nil {
		t.Fatal(err)
	}
	return w, reg
}

func labels(pairs ...string) model.Labels {
	var ls []model.Label
	for i := 0; i < len(pairs); i += 2 {
		ls = append(ls, model.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return model.NewLabels(ls...)
}

func stream(l, md model.Labels, lines ...string) model.Stream {
	s := model.Stream{Labels: l, Metadata: md}
	for i, line := range lines {
		s.Entries = append(s.Entries, model.Entry{T: 1_700_000_000_000_000_000 + int64(i), Line: []byte(line)})
	}
	return s
}

// pushed pushes batches, stops the writer and returns what the queue got.
func pushed(t *testing.T, external model.Labels, batches ...*model.LogBatch) []sent {
	t.Helper()
	q := make(fakeQueue, 100)
	w, _ := newWriter(t, DefaultConfig(), external, q)
	for _, b := range batches {
		if err := w.Push(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	close(q)
	var all []sent
	for b := range q {
		lines, _ := decode(t, b.Body.AppendTo(nil))
		if len(lines) != b.Items {
			t.Errorf("block says %d items and has %d", b.Items, len(lines))
		}
		all = append(all, lines...)
	}
	return all
}

func TestPushRequestHoldsLabelsTimesAndMetadata(t *testing.T) {
	b := &model.LogBatch{Streams: []model.Stream{
		{
			Labels:   labels("__tenant_id__", "x", "cluster", "own", "job", "a/b", "quoted", "\"\\\n\x00é"),
			Metadata: labels("pod", "p", "service_instance_id", "i"),
			Entries: []model.Entry{
				{T: 1_700_000_000_123_456_789, Line: []byte("text é")},
				{T: 1_700_000_000_000_000_000, Line: nil},
				{T: 5, Line: []byte("x")},
				{T: -1, Line: []byte("before the epoch")},
				{T: math.MinInt64, Line: []byte("y")},
			},
		},
		stream("", "", "no labels"),
		stream(labels("a", "b"), ""),
	}}
	const text = `{cluster="own", job="a/b", k8s_cluster_name="ext", quoted="\"\\\n\x00é"}`
	const md = `pod="p" service_instance_id="i" `
	want := []sent{ // The destination's own tenant first.
		{`{cluster="ext", k8s_cluster_name="ext"}`, 1_700_000_000, 0, "no labels", ""},
		{text, 1_700_000_000, 123_456_789, "text é", md},
		{text, 1_700_000_000, 0, "", md},
		{text, 0, 5, "x", md},
		{text, -1, 999_999_999, "before the epoch", md},
		{text, -9223372037, 145224192, "y", md},
	}
	got := pushed(t, labels("cluster", "ext", "k8s_cluster_name", "ext", "__hidden", "x"), b)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestLinesOfOneStreamShareItsLabels(t *testing.T) {
	q := make(fakeQueue, 1)
	w, _ := newWriter(t, DefaultConfig(), "", q)
	a, b := labels("s", "a"), labels("s", "b")
	for _, l := range []model.Labels{a, a, b, b, a} {
		if err := w.Push(t.Context(), &model.LogBatch{Streams: []model.Stream{stream(l, "", "1"), stream(l, labels("pod", "x"), "2")}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(t.Context(), w.own); err != nil {
		t.Fatal(err)
	}
	lines, streams := decode(t, (<-q).Body.AppendTo(nil))
	if streams != 3 || len(lines) != 10 {
		t.Errorf("%d lines in %d streams, want 10 in 3", len(lines), streams)
	}
	for i, l := range lines {
		if want := []string{"", `pod="x" `}[i%2]; l.Metadata != want {
			t.Errorf("metadata of line %d = %q, want %q", i, l.Metadata, want)
		}
	}
}

func TestBodiesEndAtTheirSizeAndAcksRunInOrder(t *testing.T) {
	q := make(fakeQueue, 1000)
	cfg := DefaultConfig()
	cfg.BatchSize = 64 * config.KiB
	w, reg := newWriter(t, cfg, "", q)
	var want []string
	var acked []int
	for i := range 50 {
		var lines []string
		for j := range 37 {
			lines = append(lines, fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", i*j%997)))
		}
		if i == 20 {
			lines = append(lines, strings.Repeat("y", 256<<10)) // more than a body on its own
		}
		if i == 30 {
			lines = nil
		}
		want = append(want, lines...)
		b := &model.LogBatch{Streams: []model.Stream{stream(labels("i", fmt.Sprint(i%3)), labels("pod", "p"), lines...)}, Ack: func() { acked = append(acked, i) }}
		if err := w.Push(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(t.Context(), w.own); err != nil {
		t.Fatal(err)
	}
	close(q)
	var got []string
	seen := 0
	for b := range q {
		lines, _ := decode(t, b.Body.AppendTo(nil))
		size := 0
		for _, l := range lines {
			got = append(got, l.Line)
			size += len(l.Line)
		}
		if limit := int(cfg.BatchSize); size > limit && len(lines) > 1 {
			t.Errorf("a body of %d lines has %d bytes, more than %d", len(lines), size, limit)
		}
		if b.Ack != nil {
			b.Ack()
		}
		// What is acknowledged now must have been in the bodies so far.
		for ; seen < len(acked); seen++ {
			if last := fmt.Sprintf("%d-36-", acked[seen]); acked[seen] != 30 && !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, last) }) {
				t.Errorf("batch %d was acknowledged before its last line was sent", acked[seen])
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%.2000s", diff)
	}
	if len(acked) != 50 || !slices.IsSorted(acked) {
		t.Errorf("acknowledged %v, want 0 to 49 in order", acked)
	}
	n, err := testutil.GatherAndCount(reg, "ingot_loki_lines_total")
	if err != nil || n != 1 || testutil.ToFloat64(w.m.lines) != float64(len(want)) {
		t.Errorf("lines counted: %v, want %d", testutil.ToFloat64(w.m.lines), len(want))
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func TestBodyEndsAfterBatchWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := make(fakeQueue, 10)
		w, _ := newWriter(t, DefaultConfig(), "", q)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		push := func() {
			if err := w.Push(ctx, &model.LogBatch{Streams: []model.Stream{stream(labels("a", "b"), "", "x")}}); err != nil {
				t.Error(err)
			}
		}
		for range 3 {
			time.Sleep(17 * time.Second)
			push()
			start := time.Now()
			time.Sleep(300 * time.Millisecond)
			push()
			b := <-q
			if got := time.Since(start); got != time.Second || b.Items != 2 || !b.Time.Equal(time.Now()) {
				t.Errorf("a body of %d lines after %v, want 2 after 1s", b.Items, got)
			}
		}
		push()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		if len(q) != 1 {
			t.Errorf("%d bodies after the stop, want the open one", len(q))
		}
	})
}

func TestPushBlocksWhileTheQueueIsFullAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := make(fakeQueue) // never has room unless someone takes
		cfg := DefaultConfig()
		cfg.BatchSize = 16 * config.KiB
		w, _ := newWriter(t, cfg, "", q)
		runCtx, stop := context.WithCancel(t.Context())
		runDone := make(chan error)
		go func() { runDone <- w.Run(runCtx) }()
		ctx, cancel := context.WithCancel(t.Context())
		acks := 0
		results := make(chan error)
		for range 3 {
			go func() {
				results <- w.Push(ctx, &model.LogBatch{
					Streams: []model.Stream{stream(labels("a", "b"), "", strings.Repeat("x", 10<<10), strings.Repeat("y", 10<<10))},
					Ack:     func() { acks++ },
				})
			}()
		}
		time.Sleep(time.Minute)
		select {
		case err := <-results:
			t.Fatalf("Push() = %v while the queue is full", err)
		default:
		}
		cancel()
		for range 3 {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("Push() = %v, want canceled", err)
			}
		}
		start := time.Now()
		stop()
		if err := <-runDone; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("the stop took %v with a full queue", d)
		}
		if acks != 0 {
			t.Errorf("%d batches were acknowledged, none was delivered", acks)
		}
	})
}

// What is not taken will be read again at the next start: none of it may be sent now.
func TestBatchThatWasNotTakenIsNotSentAtTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := make(fakeQueue, 1)
		q <- delivery.Block{} // no room
		cfg := DefaultConfig()
		cfg.BatchSize = 16 * config.KiB
		w, _ := newWriter(t, cfg, "", q)
		acked := 0
		push := func(ctx context.Context, lines ...string) error {
			return w.Push(ctx, &model.LogBatch{
				Streams: []model.Stream{stream(labels("a", "b"), "", lines[0]), stream(labels("a", "c"), "", lines[1:]...)},
				Ack:     func() { acked++ },
			})
		}
		if err := push(t.Context(), "one", "two"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := push(ctx, "three", "four", strings.Repeat("x", 16<<10)); err == nil {
			t.Fatal("Push() = nil while the queue is full")
		}
		<-q
		stopped, stop := context.WithCancel(t.Context())
		stop()
		if err := w.Run(stopped); err != nil {
			t.Fatal(err)
		}
		b := <-q
		lines, _ := decode(t, b.Body.AppendTo(nil))
		var got []string
		for _, l := range lines {
			got = append(got, l.Labels+l.Line)
		}
		if diff := cmp.Diff([]string{`{a="b"}one`, `{a="c"}two`}, got); diff != "" || b.Items != len(lines) {
			t.Errorf("%d lines, the block says %d (-want +got):\n%s", len(lines), b.Items, diff)
		}
		if b.Ack(); acked != 1 {
			t.Errorf("%d batches acknowledged, want the one that was taken", acked)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	c := Config{BatchSize: 1, BatchWait: 0, Spool: SpoolConfig{MaxBytes: 1, MaxAge: 0}}
	want := "batch_size: must be between 16KiB and 64MiB, is 1B\nbatch_wait: must be longer than 0s, is 0s\n" +
		"spool.max_bytes: must be 0, for no spool, or at least 1MiB, is 1B\nspool.max_age: must be longer than 0s, is 0s"
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("Validate() = %v, want %s", err, want)
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func BenchmarkPush(b *testing.B) {
	l := labels("container", "nginx", "job", "shop/nginx", "namespace", "shop", "service_name", "web", "service_namespace", "shop", "app_kubernetes_io_name", "web")
	md := labels("pod", "web-5d9c7b6f4-x2x7z", "service_instance_id", "shop.web-5d9c7b6f4-x2x7z.nginx")
	var batch model.LogBatch
	s := model.Stream{Labels: l, Metadata: md}
	size := 0
	for i := range 900 {
		line := fmt.Appendf(nil, `10.0.%d.%d - - [02/Jan/2026:03:04:%02d +0000] "GET /api/v1/items/%d?page=%d HTTP/1.1" 200 %d "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36" rt=0.%03d upstream=10.1.%d.%d:8080 trace=%x%x`,
			i%251, i%13, i%60, i*7919, i%17, i*31, i%997, i%19, i%23, i*2654435761, i*40503)
		size += len(line)
		s.Entries = append(s.Entries, model.Entry{T: 1_700_000_000_000_000_000 + int64(i)*1_000_003, Line: line})
	}
	batch.Streams = []model.Stream{s}
	w, _ := newWriter(b, DefaultConfig(), labels("cluster", "tiles", "k8s_cluster_name", "tiles"), discard{})
	b.SetBytes(int64(size))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := w.Push(b.Context(), &batch); err != nil {
			b.Fatal(err)
		}
		n += len(s.Entries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/line")
}

type discard struct{}

func (discard) Put(context.Context, delivery.Block) error { return nil }
