package scrape

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/discovery"
)

// groups is a source that yields what a test sends.
type groups chan []discovery.Group

func (g groups) Run(ctx context.Context, update func([]discovery.Group)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case some := <-g:
			update(some)
		}
	}
}

func (groups) Err() error { return nil }

func groupOf(name string, addresses ...string) discovery.Group {
	g := discovery.Group{Key: discovery.Key{Namespace: "ns", Name: name}}
	for _, a := range addresses {
		g.Targets = append(g.Targets, labels.FromStrings("__address__", a, "__meta_name", name))
	}
	return g
}

func TestGroupsOfTargetsChangeOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(groups)
		job := `{job_name: j, scrape_interval: 10s, scrape_timeout: 5s, keep_dropped_targets: 2, relabel_configs: [{source_labels: [__address__], regex: 'no.*', action: drop}]}`
		r := run(t, DefaultConfig(), jobOf(t, job, source, script("m 1\n")))
		want := func(what string, dropped, invalid int, want ...string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			st := r.Status().Jobs[0]
			var got []string
			for _, target := range st.Targets {
				got = append(got, target.Labels["instance"])
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || st.Dropped != dropped || st.Invalid != invalid {
				t.Errorf("%s: targets %v, %d dropped, %d invalid, want %v, %d and %d", what, got, st.Dropped, st.Invalid, want, dropped, invalid)
			}
			if n := min(dropped, 2); len(st.DroppedTargets) != n || len(st.InvalidTargets) != invalid {
				t.Errorf("%s: %d dropped and %d invalid ones are shown, want %d and %d", what, len(st.DroppedTargets), len(st.InvalidTargets), n, invalid)
			}
		}
		source <- []discovery.Group{groupOf("a", "a:1", "no:1"), groupOf("b", "b:1", "both:1"), groupOf("c", "both:1", "both:1", "a/b")}
		want("at first", 1, 1, "a:1", "b:1", "both:1")
		source <- []discovery.Group{groupOf("b", "b:2")}
		want("a target that another group has too stays", 1, 1, "a:1", "b:2", "both:1")
		source <- []discovery.Group{groupOf("c")}
		want("a group without targets is over", 1, 0, "a:1", "b:2")
		source <- []discovery.Group{groupOf("a"), groupOf("never", "no:1", "no:2", "no:3")}
		source <- []discovery.Group{groupOf("a", "a:1")}
		want("gone and back at once", 3, 0, "a:1", "b:2")
		source <- []discovery.Group{groupOf("a"), groupOf("b"), groupOf("never")}
		want("the end", 0, 0)
		p := r.pools[0]
		if len(p.groups)+len(p.wanted)+len(p.pending)+p.shownDropped+p.shownInvalid > 0 {
			t.Errorf("left in the end: %d groups, %d targets, %d pending, %d and %d examples", len(p.groups), len(p.wanted), len(p.pending), p.shownDropped, p.shownInvalid)
		}
	})
}

// What is discovered of a target is for relabelling and does not stay, however much it is.
func TestDiscoveredLabelsAreNotKept(t *testing.T) {
	const n, each = 500, 16 << 10
	sh := newShared(DefaultConfig(), &discard{}, Options{})
	job := jobOf(t, "{job_name: j}", make(groups), script("m 1\n"))
	p := newPool(job, sh, newMetrics(prometheus.NewRegistry()).of("j"), slog.New(slog.DiscardHandler), DefaultConfig())
	before := heapInUse()
	for i := range n {
		p.take(0, []discovery.Group{{Key: discovery.Key{Name: fmt.Sprint(i)}, Targets: []labels.Labels{
			labels.FromStrings("__address__", fmt.Sprint("a:", i), "__meta_much", strings.Repeat("x", each)),
		}}})
	}
	p.sync()
	if held := (heapInUse() - before) / n; held > each/2 {
		t.Errorf("a target takes %d bytes, of which %d were discovered", held, each)
	}
	runtime.KeepAlive(p)
}

func heapInUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// BenchmarkChangedGroup is what it costs a job with 20 000 targets that one of them changes.
func BenchmarkChangedGroup(b *testing.B) {
	const n = 20_000
	source := make(groups)
	job := jobOf(b, `{job_name: j, relabel_configs: [{source_labels: [__meta_name], target_label: pod}]}`, source, script("m 1\n"))
	sh := newShared(DefaultConfig(), &discard{}, Options{})
	p := newPool(job, sh, newMetrics(prometheus.NewRegistry()).of("j"), slog.New(slog.DiscardHandler), DefaultConfig())
	sh.pools = []*pool{p}
	before := heapInUse()
	for i := range n {
		p.take(0, []discovery.Group{groupOf(fmt.Sprint("pod-", i), fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250))})
	}
	p.sync()
	held := heapInUse() - before
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.take(0, []discovery.Group{groupOf("pod-7", fmt.Sprintf("10.1.%d.%d:8080", i/250%250, i%250))})
		p.sync()
	}
	b.ReportMetric(float64(held)/n, "B/target")
}
