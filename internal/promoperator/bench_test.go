package promoperator

import (
	"fmt"
	"runtime"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ingot-telemetry/ingot/internal/scrape"
)

func benchMonitor(i int) *monitoringv1.ServiceMonitor {
	m := &monitoringv1.ServiceMonitor{}
	m.Namespace, m.Name = fmt.Sprintf("ns%d", i%50), fmt.Sprintf("app%d", i)
	m.Spec.Selector = metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": m.Name, "app.kubernetes.io/instance": "x"}}
	m.Spec.Endpoints = []monitoringv1.Endpoint{{Port: "metrics"}, {Port: "admin", Path: "/admin/metrics"}}
	m.Spec.TargetLabels = []string{"team"}
	return m
}

// BenchmarkServiceMonitor is what one changed object with two endpoints costs.
func BenchmarkServiceMonitor(b *testing.B) {
	b.ReportAllocs()
	tr := New(DefaultConfig(), scrape.DefaultConfig(), SecretValues{}, ConfigMapValues{})
	m := benchMonitor(1)
	for b.Loop() {
		if _, err := tr.ServiceMonitor(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJobMemory says what a job weighs while it is kept.
func BenchmarkJobMemory(b *testing.B) {
	const monitors = 1000
	tr := New(DefaultConfig(), scrape.DefaultConfig(), SecretValues{}, ConfigMapValues{})
	for b.Loop() {
		before := heap()
		var jobs []scrape.JobConfig
		for i := range monitors {
			got, err := tr.ServiceMonitor(benchMonitor(i))
			if err != nil {
				b.Fatal(err)
			}
			jobs = append(jobs, got.Jobs...)
		}
		b.ReportMetric(float64(heap()-before)/float64(len(jobs)), "B/job")
		runtime.KeepAlive(jobs)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
