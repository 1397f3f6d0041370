package remotewrite

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// discard counts what it is given.
type discard struct {
	mu                     sync.Mutex
	bytes, samples, blocks int
}

func (d *discard) Put(_ context.Context, b delivery.Block) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes += b.Body.Len()
	b.Body.Release()
	d.samples += b.Items
	d.blocks++
	return nil
}

func (d *discard) Refused(byte) bool { return false }

func (d *discard) Behind() bool { return false }

// chunked cuts a batch as sources do, which never hold a whole exposition.
func chunked(b *model.Batch) (all []*model.Batch) {
	const n = 300
	for from := 0; from < len(b.Samples); from += n {
		samples := b.Samples[from:min(from+n, len(b.Samples))]
		part := &model.Batch{}
		for _, s := range samples {
			part.Add(model.Labels(b.At(s.Labels)), s.T, s.V)
		}
		all = append(all, part)
	}
	return all
}

func loads() map[string][]*model.Batch {
	return map[string][]*model.Batch{
		"cadvisor": chunked(cAdvisor(4000)), "ksm": chunked(stateMetrics(24_000)), "node": chunked(node(1400)),
	}
}

// BenchmarkTransaction encodes and compresses whole scrapes; one operation is one sample.
func BenchmarkTransaction(b *testing.B) {
	for _, message := range []string{Message1, Message2, "zstd"} {
		for name, batches := range loads() {
			b.Run(message+"/"+name, func(b *testing.B) {
				cfg := DefaultEndpointConfig()
				if cfg.ProtobufMessage = message; message == "zstd" {
					cfg.ProtobufMessage, cfg.Compression = Message1, "zstd"
				}
				d := &discard{}
				w := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), []Endpoint{{Name: "e", Config: cfg, Queue: d}})
				b.ReportAllocs()
				b.ResetTimer()
				for done, key := 0, uint64(0); done < b.N; key++ {
					a := w.Appender(key)
					for _, batch := range batches {
						a.Append(batch)
						done += len(batch.Samples)
					}
					if err := a.Commit(); err != nil {
						b.Fatal(err)
					}
				}
				if d.samples > 0 {
					b.ReportMetric(float64(d.bytes)/float64(d.samples), "wire-B/op")
					b.ReportMetric(float64(d.samples)/float64(d.blocks), "samples/block")
				}
			})
		}
	}
}

// BenchmarkWhole is what the same samples cost when a request is compressed as a whole, to
// compare pieces with.
func BenchmarkWhole(b *testing.B) {
	for name, batches := range loads() {
		b.Run(name, func(b *testing.B) {
			var raw, body []byte
			n := 0
			for n < 10_000 {
				for _, batch := range batches {
					for i := range batch.Samples {
						if n < 10_000 {
							raw = appendSeries1(raw, &item{Sample: &batch.Samples[i], labels: batch.At(batch.Samples[i].Labels)})
							n++
						}
					}
				}
			}
			b.ResetTimer()
			for done := 0; done < b.N; done += n {
				body = s2.EncodeSnappy(body[:cap(body)], raw)
			}
			b.ReportMetric(float64(len(body))/float64(n), "wire-B/op")
			b.ReportMetric(float64(len(raw))/float64(n), "raw-B/op")
		})
	}
}

func BenchmarkAppendSeries1(b *testing.B) {
	batch := cAdvisor(300)
	var dst []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i == len(batch.Samples) {
			i, dst = 0, dst[:0]
		}
		dst = appendSeries1(dst, &item{Sample: &batch.Samples[i], labels: batch.At(batch.Samples[i].Labels)})
	}
}
