package delivery

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// nowhere accepts everything without a network.
type nowhere struct{}

func (nowhere) RoundTrip(r *http.Request) (*http.Response, error) {
	_, err := io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Header: http.Header{}}, err
}

// BenchmarkPutToAck measures a block's way through the queue, from Put to its Ack: 2000
// samples at 44 bytes.
func BenchmarkPutToAck(b *testing.B) {
	for _, mode := range []string{"memory", Behind, Always} {
		b.Run(mode, func(b *testing.B) {
			dir, cfg := "", DefaultConfig()
			if mode != "memory" {
				dir, cfg.Durability = b.TempDir(), mode
			}
			q := New(cfg, dir, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()), Endpoint{Name: "bench", URL: "http://bench/", Client: &http.Client{Transport: nowhere{}}})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- q.Run(ctx) }()
			body := bytes.Repeat([]byte{0xa5}, 88_000)
			acked := make(chan struct{})
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if err := q.Put(ctx, Block{Body: NewBody(nil, body), Items: 2000, Time: time.Now(), Ack: func() { acked <- struct{}{} }}); err != nil {
					b.Fatal(err)
				}
				<-acked
			}
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkOpen measures a start with a backlog of a gigabyte in 16 segments, finished ones
// and ones that a crash has left without a trailer.
func BenchmarkOpen(b *testing.B) {
	for name, trailer := range map[string]bool{"finished": true, "crashed": false} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			for i := range 16 {
				base := uint64(1 + 10_000*i)
				file, _ := image(base, 760, 88_000, trailer)
				if err := os.WriteFile(filepath.Join(dir, segmentName(base)), file, 0o600); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				q := New(DefaultConfig(), dir, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()), Endpoint{Name: "bench"})
				d := &disk{q: q}
				if err := d.open(); err != nil {
					b.Fatal(err)
				}
				if got := q.Status().Disk.Blocks; got != 16*760 {
					b.Fatalf("%d blocks found, want %d", got, 16*760)
				}
				d.closeFiles()
			}
		})
	}
}

// BenchmarkThroughput measures blocks of 64 shards that are put as fast as the queue takes
// them, on the way through memory and through the disk, with a round trip of a millisecond.
func BenchmarkThroughput(b *testing.B) {
	for _, mode := range []string{"memory", Always} {
		b.Run(mode, func(b *testing.B) {
			dir, cfg := "", DefaultConfig()
			if mode != "memory" {
				dir, cfg.Durability = b.TempDir(), mode
			}
			q := New(cfg, dir, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()), Endpoint{Name: "bench", URL: "http://bench/", Client: &http.Client{Transport: faraway{}}})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- q.Run(ctx) }()
			body := bytes.Repeat([]byte{0xa5}, 88_000)
			shard := uint32(0)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				shard++
				if err := q.Put(ctx, Block{Body: NewBody(nil, body), Items: 2000, Time: time.Now(), Shard: shard % 64}); err != nil {
					b.Fatal(err)
				}
				for q.Status().Disk.Bytes > 64<<20 {
					time.Sleep(time.Millisecond)
				}
			}
			b.ReportMetric(float64(q.Status().Parallelism), "parallel")
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// faraway accepts everything after a millisecond.
type faraway struct{ nowhere }

func (f faraway) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(time.Millisecond)
	return f.nowhere.RoundTrip(r)
}
