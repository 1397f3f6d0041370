package remotewrite

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func rules(t *testing.T, text string) (all []*relabel.Config) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWriteRelabellingSeesExternalLabelsAndIsRemembered(t *testing.T) {
	cfg := DefaultEndpointConfig()
	cfg.WriteRelabelConfigs = rules(t, `
- {source_labels: [__name__], regex: secret, action: drop}
- {regex: uid, action: labeldrop}
- {source_labels: [cluster], target_label: zone, replacement: "$1-zone"}
- {source_labels: [pod], regex: rename-(.+), target_label: pod}
- {source_labels: [__name__], regex: gone, target_label: __name__, replacement: ""}
`)
	for _, message := range []string{Message1, Message2} {
		cfg.ProtobufMessage = message
		r := &receiver{t: t}
		w := newWriter(t, Endpoint{Name: "e", Config: cfg, Queue: r, Durable: true, External: model.NewLabels(model.Label{Name: "cluster", Value: "c"})})
		var want []string
		for range 2 { // The second time all is remembered.
			b := &model.Batch{}
			add := func(text string, ls ...model.Label) {
				ls = append(ls, model.Label{Name: "key", Value: "k"})
				b.Add(model.NewLabels(ls...), 5, 1)
				if text == "" {
					return
				}
				text += " 3ff0000000000000@5"
				if message == Message2 {
					text += behind2(0, "METRIC_TYPE_UNSPECIFIED", "", "")
				}
				want = append(want, text)
			}
			add(`{__name__="m", cluster="c", key="k", pod="p", zone="c-zone"}`, model.Label{Name: "__name__", Value: "m"}, model.Label{Name: "pod", Value: "p"}, model.Label{Name: "uid", Value: "u"})
			add("", model.Label{Name: "__name__", Value: "secret"})
			add(`{__name__="m", cluster="own", key="k", pod="x", zone="own-zone"}`, model.Label{Name: "__name__", Value: "m"}, model.Label{Name: "cluster", Value: "own"}, model.Label{Name: "pod", Value: "rename-x"})
			add(`{cluster="c", key="k", zone="c-zone"}`, model.Label{Name: "__name__", Value: "gone"})
			add(`{__name__="same", cluster="c", key="k", zone="c-zone"}`, model.Label{Name: "__name__", Value: "same"}, model.Label{Name: "zone", Value: "c-zone"})
			if err := w.Push(b); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, r.samples["k"]); diff != "" {
			t.Errorf("%s: received (-want +got):\n%s", message, diff)
		}
		if got := testutil.ToFloat64(w.streams[0].metrics.dropped[reasonRelabel]); got != 2 {
			t.Errorf("%s: %v samples counted as dropped by relabelling, want 2", message, got)
		}
		known := 0
		for _, h := range w.streams[0].shards {
			known += len(h.relabel.current)
		}
		if known != 5 {
			t.Errorf("%s: %d label sets are remembered, want 5", message, known)
		}
	}
}

func TestWriteRelabellingForgetsWhatDoesNotComeAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelabeler(rules(t, "[{regex: uid, action: labeldrop}]"), maphash.MakeSeed())
		see := func(i int) {
			set := model.NewLabels(model.Label{Name: "i", Value: fmt.Sprint(i)}, model.Label{Name: "uid", Value: "u"})
			r.begin()
			defer r.end()
			got, keep := r.apply(nil, []byte(set))
			if want := model.NewLabels(model.Label{Name: "i", Value: fmt.Sprint(i)}); model.Labels(got) != want || !keep {
				t.Errorf("apply(%v) = %v, %v, want %v", set, model.Labels(got), keep, want)
			}
		}
		for i := range 1000 {
			see(i)
		}
		if len(r.edits) != 1 {
			t.Errorf("%d edits for sets that are all changed the same way", len(r.edits))
		}
		for range 2 {
			time.Sleep(generation)
			see(0)
		}
		if n := len(r.current) + len(r.past); n != 2 {
			t.Errorf("%d label sets remembered, want one in both generations", n)
		}
	})
}

func TestMetadataGoesInRequestsOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultEndpointConfig()
		cfg.MetadataConfig.MaxSamplesPerSend = 2
		first, modern, off := &receiver{t: t}, &receiver{t: t}, &receiver{t: t}
		cfg2, none := cfg, cfg
		cfg2.ProtobufMessage = MessageAuto
		none.MetadataConfig.Send = false
		w := newTestWriter(t, prometheus.NewRegistry(),
			Endpoint{Name: "first", Config: cfg, Queue: first}, Endpoint{Name: "modern", Config: cfg2, Queue: modern}, Endpoint{Name: "off", Config: none, Queue: off})
		stop := run(t, w)
		b := &model.Batch{Metadata: []model.Metadata{
			{Family: "c", Type: "counter", Help: "Counts."}, {Family: "a_seconds", Type: "gauge", Unit: "seconds"}, {Family: "b", Type: "unknown", Help: "x"},
		}}
		for range 2 {
			if err := w.Push(b); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		want := []prompb.MetricMetadata{
			{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "a_seconds", Unit: "seconds"},
			{Type: prompb.MetricMetadata_UNKNOWN, MetricFamilyName: "b", Help: "x"},
			{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "c", Help: "Counts."},
		}
		if diff := cmp.Diff(want, first.families()); diff != "" {
			t.Errorf("metadata after a minute (-want +got):\n%s", diff)
		}
		if first.requests() != 2 {
			t.Errorf("%d requests of at most 2 families for 3", len(first.blocks))
		}
		if modern.requests()+off.requests() > 0 {
			t.Errorf("requests for metadata to an endpoint that takes 2.0 or wants none: %d, %d", modern.requests(), off.requests())
		}
		modern.refused.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(modern.families()) != 3 || len(first.families()) != 6 {
			t.Errorf("after the second minute %d families to the endpoint that refuses 2.0 and %d to the other, want 3 and 6", len(modern.families()), len(first.families()))
		}
		for _, behind := range []bool{true, false} {
			first.behind.Store(behind)
			before := len(first.families())
			time.Sleep(time.Minute)
			synctest.Wait()
			if got, want := len(first.families())-before, map[bool]int{true: 0, false: 3}[behind]; got != want {
				t.Errorf("%d families to an endpoint of which it is %v that it is behind, want %d", got, behind, want)
			}
		}
		time.Sleep(metadataAge)
		synctest.Wait()
		before := first.requests()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if first.requests() != before || len(w.families.all()) != 0 {
			t.Errorf("families that nobody exposes any more are still sent")
		}
		stop()
	})
}

// Targets come and go during an outage too, and beside an endpoint that has taken 2.0.
func TestFamiliesAreForgottenWhileNobodyIsSentThem(t *testing.T) {
	for name, r := range map[string]*receiver{"behind": {}, "2.0": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r.t = t
				cfg := DefaultEndpointConfig()
				if r.behind.Store(name == "behind"); name == "2.0" {
					cfg.ProtobufMessage = MessageAuto
				}
				w := newTestWriter(t, prometheus.NewRegistry(), Endpoint{Name: "e", Config: cfg, Queue: r})
				stop := run(t, w)
				for key := range uint64(100) {
					x := w.Appender(key)
					x.Append(&model.Batch{Metadata: []model.Metadata{{Family: fmt.Sprint(key)}}})
					if err := x.Commit(); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(metadataAge + 2*time.Minute)
				synctest.Wait()
				if noted, seen := len(w.families.noted), len(w.families.seen); noted != 0 || seen != 0 {
					t.Errorf("%d targets and %d families are still known, want none", noted, seen)
				}
				stop()
			})
		})
	}
}

func TestFamiliesOfATargetAreNotedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestWriter(t, prometheus.NewRegistry(), Endpoint{Name: "first", Config: DefaultEndpointConfig(), Queue: &receiver{t: t}})
		push := func(key uint64, family string) {
			x := w.Appender(key)
			x.Append(&model.Batch{Metadata: []model.Metadata{{Family: family}}})
			x.Append(&model.Batch{Metadata: []model.Metadata{{Family: family + "_too"}}})
			if err := x.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		push(1, "a")
		push(2, "b")
		push(1, "late")
		time.Sleep(noteEvery)
		push(1, "c")
		var got []string
		for _, m := range w.families.all() {
			got = append(got, m.Family)
		}
		if diff := cmp.Diff([]string{"a", "a_too", "b", "b_too", "c", "c_too"}, got); diff != "" {
			t.Errorf("families that were noted (-want +got):\n%s", diff)
		}
	})
}

func TestKeysKeepTheirShardAndShardsAreNamedInBlocks(t *testing.T) {
	r := &receiver{t: t}
	w := newWriter(t, Endpoint{Name: "e", Config: DefaultEndpointConfig(), Queue: r, Durable: true, Shards: 4})
	for key := range uint64(8) {
		a := w.Appender(key)
		b := &model.Batch{}
		b.Add(model.NewLabels(model.Label{Name: "key", Value: fmt.Sprint(key)}), 1, 1)
		a.Append(b)
		if err := a.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range r.blocks {
		if b.Shard != uint32(i%4) || b.Format != Format1 {
			t.Errorf("block of key %d is in shard %d, format %d", i, b.Shard, b.Format)
		}
	}
}

func TestSteadyStateAllocatesNothingForSamples(t *testing.T) {
	for _, message := range []string{Message1, Message2} {
		cfg := DefaultEndpointConfig()
		cfg.ProtobufMessage = message
		d := &discard{}
		w := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), []Endpoint{{Name: "e", Config: cfg, Queue: d}})
		batches := chunked(cAdvisor(3000))
		scrape := func() {
			a := w.Appender(0)
			for _, b := range batches {
				a.Append(b)
			}
			if err := a.Commit(); err != nil {
				t.Error(err)
			}
		}
		for range 20 {
			scrape()
		}
		// A request is one allocation for its body, and a transaction of 3000 samples a few.
		if got := testing.AllocsPerRun(50, scrape); got > 10 {
			t.Errorf("%s: %v allocations for a scrape of 3000 samples", message, got)
		}
		if d.samples == 0 {
			t.Errorf("%s: nothing was sent", message)
		}
	}
}

// full is a queue that has no room until it is given up.
type full struct{}

func (full) Put(ctx context.Context, _ delivery.Block) error {
	<-ctx.Done()
	return ctx.Err()
}

func (full) Refused(byte) bool { return false }

func (full) Behind() bool { return false }

func TestStopDoesNotWaitLongForAQueueWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter(t, Endpoint{Name: "e", Config: DefaultEndpointConfig(), Queue: full{}})
		stop := run(t, w)
		for key := range uint64(2) {
			a := w.Appender(key)
			a.Append(batch(5))
			if err := a.Commit(); err != nil {
				t.Errorf("Commit of less than a request = %v", err)
			}
		}
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != finishTime {
			t.Errorf("Run returned %s after the stop, want %s", took, finishTime)
		}
		if got := testutil.ToFloat64(w.streams[0].metrics.dropped[reasonQueue]); got != 10 {
			t.Errorf("%v samples are counted as dropped, want 10", got)
		}
	})
}
