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
	// Run blocks until ctx ends. It calls update with groups of targets once they are known,
	// and afterwards with the groups that have changed: one replaces the earlier one of its
	// key, one without targets ends it. The receiver may keep the label sets, not the slices.
	// A source that fails for a while changes nothing and reports through [Source.Err].
	Run(ctx context.Context, update func([]Group)) error
	// Err returns why the targets may be out of date, nil when they are current.
	Err() error
}

// Group is the targets that have come from one thing, such as a pod, and change together.
type Group struct {
	Key     Key
	Targets []labels.Labels
}

// Key tells the groups of a source apart. It is the name of a Kubernetes object; a source
// that always yields everything at once has the empty key alone.
type Key struct{ Namespace, Name string }

// Whole returns all targets of a source as its only group.
func Whole(targets []labels.Labels) []Group { return []Group{{Targets: targets}} }
