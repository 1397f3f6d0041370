package discovery

import (
	"context"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Static is the source of fixed targets.
type Static struct {
	targets []labels.Labels
}

// NewStatic returns the source of the targets that the blocks list.
func NewStatic(blocks []StaticConfig) *Static {
	return &Static{targets: expand(blocks, nil)}
}

// Run reports the targets once and waits for ctx to end.
func (s *Static) Run(ctx context.Context, update func([]Group)) error {
	update(Whole(s.targets))
	<-ctx.Done()
	return nil
}

// Err returns nil: a fixed list is never out of date.
func (s *Static) Err() error { return nil }

// expand returns one label set for each address, with the labels of its block and extra.
// As in Prometheus, a label __address__ of the block does not replace the address.
func expand(blocks []StaticConfig, extra model.LabelSet) []labels.Labels {
	var out []labels.Labels
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, block := range blocks {
		for _, address := range block.Targets {
			b.Reset(labels.EmptyLabels())
			for name, value := range block.Labels {
				b.Set(string(name), string(value))
			}
			for name, value := range extra {
				b.Set(string(name), string(value))
			}
			b.Set(model.AddressLabel, address)
			out = append(out, b.Labels())
		}
	}
	return out
}
