package podlogs

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/stage"
)

// discard acknowledges at once and keeps nothing.
type discard struct{ lines int }

func (d *discard) Push(_ context.Context, b *model.LogBatch) error {
	for i := range b.Streams {
		d.lines += len(b.Streams[i].Entries)
	}
	b.Ack()
	return nil
}

func benchCollector(b *testing.B, root string, changes ...func(*PodConfig)) (*Collector, *discard) {
	b.Helper()
	cfg := Config{Pods: DefaultPodConfig()}
	cfg.Pods.Enabled, cfg.Pods.Path = true, root
	for _, change := range changes {
		change(&cfg.Pods)
	}
	log := slog.New(slog.DiscardHandler)
	m := NewMetrics(prometheus.NewRegistry())
	sink := &discard{}
	c, err := New(cfg, log, m, nil, NewPositions(filepath.Join(b.TempDir(), "p"), "loki", log, m), sink)
	if err != nil {
		b.Fatal(err)
	}
	return c, sink
}

// BenchmarkRead is the way of a line from the page cache to the sink.
func BenchmarkRead(b *testing.B) {
	run := func(name string, line func(i int) string, changes ...func(*PodConfig)) {
		b.Run(name, func(b *testing.B) {
			root := b.TempDir()
			dir := filepath.Join(root, "shop_web-5d9c7b6f4-x2x7z_0b1c", "nginx")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			var buf bytes.Buffer
			for i := 0; buf.Len() < 16<<20; i++ {
				buf.WriteString(line(i))
			}
			path := filepath.Join(dir, "0.log")
			if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
				b.Fatal(err)
			}
			c, sink := benchCollector(b, root, changes...)
			s := newScanner(c)
			s.scan(time.Now())
			r := newReader(c)
			b.SetBytes(int64(buf.Len()))
			b.ReportAllocs()
			for b.Loop() {
				for r.round(b.Context()) {
				}
				for _, t := range c.byID {
					t.off.Store(0)
					t.marked, t.nextPoll = 0, time.Time{}
				}
				c.poke(nil, true)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sink.lines), "ns/line")
		})
	}
	const text = `10.0.7.3 - - [02/Jan/2026:03:04:05 +0000] "GET /api/v1/items/7919?page=3 HTTP/1.1" 200 3100 "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML)" rt=0.013 upstream=10.1.2.3:8080 trace=9e3779b97f4a7c15 user=17 region=eu`
	run("whole", func(i int) string { return cri("stdout", "F", fmt.Sprint(text, i)) })
	run("stderr and zone", func(int) string {
		return "2026-01-02T03:04:05.123456789+02:00 stderr F " + text + "\n"
	})
	run("parts", func(i int) string { return cri("stdout", "FP"[i%2:i%2+1], text) })
	run("not ASCII", func(int) string { return cri("stdout", "F", text+"é\xff") })
	both := func(i int) string { return cri([]string{"stdout", "stderr"}[i/5%2], "F", fmt.Sprint(text, i)) }
	run("streams of v4", both, func(c *PodConfig) { c.Profile, c.LabelsToKeep = ProfileV4, nil })
	run("drop and label", both, func(c *PodConfig) {
		c.Stages = stages(b, "  - drop: {expression: GET /healthz}\n  - regex: {expression: '\" (?P<status>\\d{3}) '}\n  - labels: {level: status}\n")
	})
	run("traces of Java", func(i int) string {
		if i%10 < 5 {
			return cri("stdout", "F", text)
		}
		return cri("stdout", "F", "\tat com.acme.shop.OrderController.accept(OrderController.java:117)")
	}, func(c *PodConfig) {
		m := stage.DefaultMultilineConfig()
		m.Preset = "java"
		c.Multiline = &m
	})
}

// BenchmarkReadCompressed is the way of a line from a rotated file that the node has
// compressed, including what it takes to open it.
func BenchmarkReadCompressed(b *testing.B) {
	root := b.TempDir()
	dir := filepath.Join(root, "shop_web-5d9c7b6f4-x2x7z_0b1c", "nginx")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	var buf bytes.Buffer
	for i := 0; buf.Len() < 16<<20; i++ {
		buf.WriteString(cri("stdout", "F", fmt.Sprintf(`10.0.7.%d - - "GET /api/v1/items/%d?page=3 HTTP/1.1" 200 %d "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML)" rt=0.013 upstream=10.1.2.3:8080 trace=%016x user=17 region=eu`, i%250, i*7919%10007, i*31%5000, uint64(i)*0x9e3779b97f4a7c15)))
	}
	packed := gzipped(b, buf.Bytes())
	spit(b, filepath.Join(dir, "0.log.20260102-030405.gz"), packed)
	b.SetBytes(int64(buf.Len()))
	b.ReportAllocs()
	lines := 0
	for b.Loop() {
		c, sink := benchCollector(b, root)
		newScanner(c).scan(time.Now())
		r := newReader(c)
		for len(c.byID) > 0 {
			r.round(b.Context())
		}
		lines += sink.lines
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(lines), "ns/line")
	b.ReportMetric(float64(buf.Len())/float64(len(packed)), "ratio")
}

// BenchmarkScan is one look over a node of 110 pods where nothing changes.
func BenchmarkScan(b *testing.B) {
	root := b.TempDir()
	for i := range 110 {
		for j := range 3 {
			dir := filepath.Join(root, fmt.Sprintf("ns_pod%d_uid%d", i, i), fmt.Sprint("c", j))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			for _, name := range []string{"0.log", "0.log.20260102-030405"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(cri("stdout", "F", "x")), 0o644); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	c, _ := benchCollector(b, root)
	s := newScanner(c)
	later := time.Now().Add(time.Minute)
	s.scan(later)
	b.ReportAllocs()
	for b.Loop() {
		s.scan(later)
	}
	if n := len(c.byID); n != 660 {
		b.Fatalf("%d files are open, want 660", n)
	}
}

// BenchmarkIdle is one round of the reader over 660 files without news.
func BenchmarkIdle(b *testing.B) {
	root := b.TempDir()
	for i := range 660 {
		dir := filepath.Join(root, fmt.Sprintf("ns_pod%d_uid%d", i, i), "c")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte(cri("stdout", "F", "x")), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	c, _ := benchCollector(b, root)
	newScanner(c).scan(time.Now())
	r := newReader(c)
	for r.round(b.Context()) {
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, t := range c.byID {
			t.nextPoll = time.Time{}
		}
		c.poke(nil, true)
		r.round(b.Context())
	}
}
