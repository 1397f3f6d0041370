package remotewrite

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// typical returns a batch as cAdvisor yields it: about 450 bytes a sample before compression.
func typical(n int) *model.Batch {
	b := &model.Batch{}
	for i := range n {
		b.Add(model.NewLabels(
			model.Label{Name: "__name__", Value: "container_network_receive_bytes_total"},
			model.Label{Name: "container", Value: "store-gateway"},
			model.Label{Name: "id", Value: fmt.Sprintf("/kubepods/burstable/pod0a4f3f5e-6f5f-4b0e-9f0e-%012d", i/40)},
			model.Label{Name: "image", Value: "registry.example.org/mimir/mimir:2.14.1"},
			model.Label{Name: "instance", Value: "node-17.example.org"},
			model.Label{Name: "interface", Value: fmt.Sprintf("eth%d", i%40)},
			model.Label{Name: "job", Value: "integrations/kubernetes/cadvisor"},
			model.Label{Name: "name", Value: fmt.Sprintf("k8s_store-gateway_mimir-store-gateway-%d", i/40)},
			model.Label{Name: "namespace", Value: "mimir"},
			model.Label{Name: "pod", Value: fmt.Sprintf("mimir-store-gateway-%d", i/40)},
		), 1_700_000_000_000, float64(i*1017))
	}
	return b
}

var clusterLabels = model.NewLabels(model.Label{Name: "cluster", Value: "tiles"}, model.Label{Name: "k8s_cluster_name", Value: "tiles"})

type discard struct{ bytes, samples int }

func (d *discard) Put(_ context.Context, b delivery.Block) error {
	d.bytes += len(b.Body)
	d.samples += b.Items
	return nil
}

func (d *discard) Refused(byte) bool { return false }

// BenchmarkPush encodes and compresses; one operation is one sample.
func BenchmarkPush(b *testing.B) {
	const n = 2000
	batch := typical(n)
	d := &discard{}
	w := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), []Endpoint{{Name: "e", Config: DefaultEndpointConfig(), External: clusterLabels, Queue: d}})
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += n {
		if err := w.Push(batch); err != nil {
			b.Fatal(err)
		}
	}
	if d.samples > 0 {
		b.ReportMetric(float64(d.bytes)/float64(d.samples), "wire-B/op")
	}
}
