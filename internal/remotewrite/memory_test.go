package remotewrite

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// heap returns the bytes that are in use.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // What pools held has another turn.
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestWriterHoldsLittle bounds what a writer holds while 30 targets with 170 000 series are
// scraped in ten seconds, and after its shards have been flushed. The queue keeps nothing.
func TestWriterHoldsLittle(t *testing.T) {
	kinds := map[string]struct {
		change func(*EndpointConfig)
		busy   int // bytes; measured 2026-11-22, and a quarter more
	}{
		"1.0":  {func(*EndpointConfig) {}, 3_400_000},
		"zstd": {func(c *EndpointConfig) { c.Compression = compressionZstd }, 7_700_000},
		"2.0":  {func(c *EndpointConfig) { c.ProtobufMessage = Message2 }, 7_000_000},
	}
	targets := [][]*model.Batch{chunked(stateMetrics(72_000))}
	cadvisor, small := chunked(cAdvisor(4000)), chunked(node(1400))
	for range 15 {
		targets = append(targets, cadvisor, small)
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := heap()
				cfg := DefaultEndpointConfig()
				kind.change(&cfg)
				w := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), []Endpoint{{Name: "e", Config: cfg, Queue: &discard{}}})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.Run(ctx) }()
				busy := 0
				for turn := range 2 * len(targets) {
					scrape := w.Appender(uint64(turn % len(targets)))
					for _, b := range targets[turn%len(targets)] {
						scrape.Append(b)
					}
					if err := scrape.Commit(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second / time.Duration(len(targets)))
					if turn%3 == 0 { // It takes a while.
						busy = max(busy, heap()-before)
					}
				}
				time.Sleep(time.Second + 3*idleBuffers)
				synctest.Wait()
				idle := heap() - before
				t.Logf("held while busy: at most %d KiB, after: %d KiB", busy>>10, idle>>10)
				if busy > kind.busy {
					t.Errorf("%d bytes are held while scrapes come in, want at most %d", busy, kind.busy)
				}
				if idle > 100<<10 {
					t.Errorf("%d bytes are held by a writer that has nothing to do, want at most 100 KiB", idle)
				}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run = %v", err)
				}
				runtime.KeepAlive(w)
			})
		})
	}
	runtime.KeepAlive(targets)
}
