package app

import (
	"testing"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// TestCommonLabelsAndTheRestAreAllLabels looks at what is left to each destination.
func TestCommonLabelsAndTheRestAreAllLabels(t *testing.T) {
	p := &program{Options: Options{Config: Config{
		Cluster: "tiles",
		Destinations: []Destination{
			{Name: "a", Type: Prometheus, ExternalLabels: map[string]string{"zone": "1", "team": "x"}},
			{Name: "logs", Type: Loki, ExternalLabels: map[string]string{"zone": "9"}},
			{Name: "b", Type: Prometheus, ExternalLabels: map[string]string{"zone": "2", "team": "x", "cluster": "other"}},
		},
	}}}
	common := p.commonLabels()
	want := model.NewLabels(model.Label{Name: "k8s_cluster_name", Value: "tiles"}, model.Label{Name: "team", Value: "x"})
	if common != want {
		t.Errorf("common labels %v, want %v", common, want)
	}
	for _, d := range p.Config.Destinations {
		if d.Type != Prometheus {
			continue
		}
		all := p.externalLabels(d)
		if got := model.Labels(all.Without(common).AppendWith(nil, common)); got != all {
			t.Errorf("%s: common labels and the rest are %v, want %v", d.Name, got, all)
		}
	}
}
