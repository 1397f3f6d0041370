package podlogs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
)

func TestBucketsPayTheirDebtsAtTheirRate(t *testing.T) {
	start := time.Unix(1000, 0)
	b := newBucket(LimitConfig{BytesPerSecond: 1000, Burst: 2000}, start)
	if got := b.wait(start); got != 0 {
		t.Errorf("a fresh bucket waits %s", got)
	}
	b.spend(5000)
	for _, x := range []struct{ after, want time.Duration }{
		{0, 4 * time.Second},
		{time.Second, 3 * time.Second},
		{3999 * time.Millisecond, time.Millisecond},
		{4 * time.Second, 0},
		{time.Hour, 0},
	} {
		if got := b.wait(start.Add(x.after)); got != x.want {
			t.Errorf("after %s it waits %s, want %s", x.after, got, x.want)
		}
	}
	b.spend(2000) // The hour has brought no more than the burst.
	if got := b.wait(start.Add(time.Hour)); got != time.Second {
		t.Errorf("after its burst it waits %s, want 1s", got)
	}
	if b := newBucket(LimitConfig{BytesPerSecond: 1000}, start); b.burst != 10000 {
		t.Errorf("the burst is %v by default, want that of ten seconds", b.burst)
	}
}

func TestALimitEndsATurnBehindALine(t *testing.T) {
	l := &limit{container: &bucket{tokens: 10}, all: &limits{}}
	data := []byte("12345\n789\nabc\n12345678901234\nx\nunfinished")
	for _, x := range []struct{ begin, want int }{{0, 9}, {6, 13}, {10, 13}, {14, 28}, {29, 30}} {
		if got := l.cut(data, x.begin, 30, time.Time{}); got != x.want {
			t.Errorf("from byte %d lines end at %d, want %d", x.begin, got, x.want)
		}
	}
	if got := (*limit)(nil).cut(data, 0, 30, time.Time{}); got != 30 {
		t.Errorf("without a limit lines end at %d, want 30", got)
	}
}

func TestContainersOfANamespaceShareItsLimit(t *testing.T) {
	start := time.Unix(1000, 0)
	all := limits{cfg: LimitsConfig{Namespace: LimitConfig{BytesPerSecond: 1000, Burst: 1000}}, namespaces: map[string]*bucket{}}
	a, b, other := &limit{namespace: "shop", all: &all}, &limit{namespace: "shop", all: &all}, &limit{namespace: "other", all: &all}
	if a.wait(start) != 0 || b.wait(start) != 0 || other.wait(start) != 0 {
		t.Fatal("fresh limits wait")
	}
	a.spend(3000, start)
	if got := b.wait(start); got != 2500*time.Millisecond {
		t.Errorf("the other container of the namespace waits %s, want 2.5s", got)
	}
	if got := other.wait(start); got != 0 {
		t.Errorf("a container of another namespace waits %s", got)
	}
	all.namespace("third", start.Add(time.Hour))
	if len(all.namespaces) != 1 {
		t.Errorf("%d namespaces are kept, want only the new one", len(all.namespaces))
	}
}

func TestAnnotationsMayLowerTheLimit(t *testing.T) {
	const own, one = "ingot.dev/logs.limit", "ingot.dev/logs.limit.app"
	for _, x := range []struct {
		config      config.Size
		annotations map[string]string
		want        config.Size
		fails       bool
	}{
		{0, nil, 0, false},
		{100, nil, 100, false},
		{0, map[string]string{own: "1MB/s"}, config.MiB, false},
		{0, map[string]string{own: "500KB"}, 500 * config.KiB, false},
		{0, map[string]string{own: "1MB/s", one: " 10KiB/s "}, 10 * config.KiB, false},
		{0, map[string]string{"ingot.dev/logs.limit.other": "10KB/s"}, 0, false},
		{2 * config.MiB, map[string]string{own: "1MB/s"}, config.MiB, false},
		{2 * config.MiB, map[string]string{own: "3MB/s"}, 2 * config.MiB, false},
		{100, map[string]string{own: "fast"}, 100, true},
		{100, map[string]string{own: "0"}, 100, true},
	} {
		got, err := limitOf(LimitConfig{BytesPerSecond: x.config}, pod{container: "app", annotations: x.annotations})
		if got.BytesPerSecond != x.want || (err != nil) != x.fails {
			t.Errorf("%+v: got %s, %v", x, got.BytesPerSecond, err)
		}
	}
}

// stamped is a line of a time before now.
func stamped(age time.Duration, tag, text string) string {
	return time.Now().Add(-age).UTC().Format(time.RFC3339Nano) + " stdout " + tag + " " + text + "\n"
}

func TestWhatIsOverTheLimitIsDelayedAndArrivesWhole(t *testing.T) {
	r := newRig(t)
	pods := &fakePods{}
	r.pods = pods
	pods.put("uid-web", kube.Pod{Namespace: "shop", Name: "web", Annotations: map[string]string{limitAnnotation: "300KB/s"}})
	r.cfg.Pods.Limits.Container = LimitConfig{BytesPerSecond: config.MiB, Burst: 64 * config.KiB}
	var b strings.Builder
	want := numbered("line", 0, 8000)
	for _, s := range want {
		b.WriteString(stamped(0, "F", s+strings.Repeat("x", 50)))
	}
	openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).write(b.String())
	begin := time.Now()
	r.start()
	r.sink.wait(t, 1)
	if n := len(r.sink.texts()); n == len(want) {
		t.Errorf("all %d lines arrived at once", n)
	}
	got := r.sink.wait(t, len(want))
	if took, least := time.Since(begin), time.Duration(b.Len()-64<<10)*time.Second/(300<<10); took < least {
		t.Errorf("%d bytes took %s, want about %s", b.Len(), took, least)
	}
	for i := range got {
		got[i] = strings.TrimRight(got[i], "x")
	}
	wantSet(t, got, want)
	if got := testutil.ToFloat64(r.c.m.limitedLines); got != 0 {
		t.Errorf("%v lines were dropped, want none", got)
	}
}

// limited makes a reader of one chain that is deep in debt.
func limited(t *testing.T, r *rig) (*reader, *chain) {
	t.Helper()
	r.build()
	t.Cleanup(func() {
		for _, x := range r.c.byID {
			_ = x.file.close()
		}
	})
	r.c.positions.load()
	newScanner(r.c).scan(time.Now())
	rd := newReader(r.c)
	rd.wake()
	rd.now = time.Now()
	ch := rd.active[0]
	if !rd.ready(t.Context(), ch) || ch.limit == nil {
		t.Fatal("the chain is not ready, or has no limit")
	}
	ch.limit.container.tokens = -1 << 30
	return rd, ch
}

func TestWhatHasWaitedTooLongIsDroppedAndCounted(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Limits.Container.BytesPerSecond = 1000
	f := openLog(t, filepath.Join(r.dir("web", "app"), "0.log"))
	var old strings.Builder
	for i := range 20000 { // More than four reads.
		old.WriteString(stamped(2*time.Hour, "F", fmt.Sprint("old ", i)))
	}
	old.WriteString("2026-13-45 no line at all\n")
	old.WriteString(stamped(2*time.Hour, "P", "the begin of a line "))
	f.write(old.String()).write(stamped(time.Minute, "F", "that ends in time")).write(stamped(time.Minute, "F", "young"))

	rd, ch := limited(t, r)
	if rd.within(t.Context(), ch) {
		t.Fatal("a chain over its limit may be read")
	}
	if got := ch.view[0].off.Load(); got != int64(old.Len()) {
		t.Errorf("%d bytes were dropped, want %d", got, old.Len())
	}
	if left := ch.notBefore.Sub(rd.now); left != limitPause {
		t.Errorf("the chain is looked at again after %s, want %s", left, limitPause)
	}
	want := []PodLoss{{Namespace: "shop", Pod: "web", Reason: dropLimited, Lines: 20002, Bytes: int64(old.Len())}}
	if diff := cmp.Diff(want, withoutTimes(r.c.Status().Pods)); diff != "" {
		t.Errorf("losses by pod (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(r.c.m.limitedBytes); got != float64(old.Len()) {
		t.Errorf("%v bytes counted, want %d", got, old.Len())
	}

	ch.limit.container.tokens, ch.notBefore = 1<<30, time.Time{}
	if !rd.within(t.Context(), ch) {
		t.Fatal("a chain within its limit may not be read")
	}
	rd.advance(t.Context(), ch)
	if got := r.sink.texts(); len(got) != 1 || got[0] != "young" {
		t.Errorf("got %q, want the young line whole and no end of a dropped one", got)
	}
	m := r.c.m
	read, pushed := testutil.ToFloat64(m.linesRead), testutil.ToFloat64(m.linesPushed)
	other := testutil.ToFloat64(m.limitedLines) + testutil.ToFloat64(m.partsJoined)
	if read != pushed+other || read != 20004 {
		t.Errorf("%v lines read, %v pushed, %v dropped or joined", read, pushed, other)
	}
}

func TestNothingIsDroppedForItsAgeWithoutMaxDelay(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Limits.Container.BytesPerSecond = 1000
	r.cfg.Pods.Limits.MaxDelay = 0
	openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).write(stamped(1000*time.Hour, "F", "old"))
	rd, ch := limited(t, r)
	if rd.within(t.Context(), ch) || ch.view[0].off.Load() != 0 {
		t.Error("a line was read or dropped")
	}
}

func TestALimitDoesNotKeepWhatTheNodeHasRemoved(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Limits.Container.BytesPerSecond = 1000
	r.cfg.Pods.Limits.MaxDelay = 0
	dir := r.dir("web", "app")
	openLog(t, filepath.Join(dir, "0.log")).write(stamped(0, "F", "young"))
	rd, ch := limited(t, r)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	x := ch.view[0]
	x.mu.Lock()
	x.gone = rd.now
	x.mu.Unlock()
	if !rd.within(t.Context(), ch) {
		t.Error("a file that is gone and done with cannot be closed")
	}
	if got := testutil.ToFloat64(r.c.m.limitedLines); got != 1 {
		t.Errorf("%v lines were dropped, want 1", got)
	}
}
