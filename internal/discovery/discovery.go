// Package discovery turns what is configured or present in the cluster into scrape targets
// that carry exactly the labels Prometheus' service discovery gives them (__address__,
// __meta_* and the labels of the block).
//
// It does not relabel, does not know jobs and opens no connection to a target.
package discovery

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
)

// Source yields the targets of one discovery block.
type Source interface {
	// Run blocks until ctx ends. It calls update with the whole present list of targets
	// once it is known and again after each change; the receiver keeps the slice. A source
	// that fails for a while keeps its last list and reports through [Source.Err].
	Run(ctx context.Context, update func([]labels.Labels)) error
	// Err returns why the list may be out of date, nil when it is current.
	Err() error
}
