package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/kube"
)

// nodePause is the shortest time between two lists of one source, however often nodes change.
const nodePause = time.Second

// maxShownNodes bounds how many nodes [NodeSource.Err] names.
const maxShownNodes = 5

// NodeSource yields one target for each node of the cluster, its kubelet, with the labels of
// Prometheus' Kubernetes discovery in role node. It may be the source of several jobs at
// once.
type NodeSource struct {
	store *kube.NodeStore
}

// NewNodeSource returns a source over store, which somebody else runs.
func NewNodeSource(store *kube.NodeStore) *NodeSource { return &NodeSource{store} }

// Run implements [Source]. The first list comes when the store has had its first one, so
// that a slow API server never looks like an empty cluster.
func (s *NodeSource) Run(ctx context.Context, update func([]Group)) error {
	for {
		changed := s.store.Changed()
		if s.store.Synced() {
			targets, _ := nodeTargets(s.store.Nodes())
			update(Whole(targets))
			if !sleep(ctx, nodePause) {
				return nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Err implements [Source]. It also names nodes that have no address and hence no target.
func (s *NodeSource) Err() error {
	_, err := nodeTargets(s.store.Nodes())
	return errors.Join(s.store.Err(), err)
}

// nodeTargets returns the targets of all nodes that have one and an error about the others.
func nodeTargets(nodes []kube.Node) ([]labels.Labels, error) {
	targets := make([]labels.Labels, 0, len(nodes))
	var without []string
	for _, n := range nodes {
		target, ok := nodeTarget(n)
		if !ok {
			without = append(without, n.Name)
			continue
		}
		targets = append(targets, target)
	}
	switch {
	case len(without) == 0:
		return targets, nil
	case len(without) > maxShownNodes:
		return targets, fmt.Errorf("%d nodes have no address and are not scraped: %s and others",
			len(without), strings.Join(without[:maxShownNodes], ", "))
	default:
		return targets, fmt.Errorf("nodes without an address are not scraped: %s", strings.Join(without, ", "))
	}
}

// nodeTarget returns the labels of one node, as Prometheus gives them; false without an
// address. Of two labels or annotations whose names become the same, Prometheus takes
// either, and this the one whose own name sorts last.
func nodeTarget(n kube.Node) (labels.Labels, bool) {
	host, ok := nodeAddress(n.Addresses)
	if !ok {
		return labels.EmptyLabels(), false
	}
	const prefix = "__meta_kubernetes_node_"
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set("instance", n.Name)
	b.Set("__address__", net.JoinHostPort(host, strconv.Itoa(int(n.KubeletPort))))
	b.Set(prefix+"name", n.Name)
	b.Set(prefix+"provider_id", n.ProviderID)
	for _, c := range n.Conditions {
		b.Set(prefix+"condition_"+sanitizeName(strings.ToLower(c.Type)), strings.ToLower(c.Status))
	}
	setAll(b, prefix+"label", n.Labels)
	setAll(b, prefix+"annotation", n.Annotations)
	for _, a := range n.Addresses {
		name := prefix + "address_" + sanitizeName(a.Type)
		if b.Get(name) == "" { // The first address of a type is the one that counts.
			b.Set(name, a.Address)
		}
	}
	return b.Labels(), true
}

// nodeAddress returns the address at which Prometheus scrapes a node: the first of the most
// preferred type.
func nodeAddress(addresses []kube.NodeAddress) (string, bool) {
	for _, want := range [...]string{"InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"} {
		for _, a := range addresses {
			if a.Type == want {
				return a.Address, true
			}
		}
	}
	return "", false
}

// setAll sets for each entry of m the two labels <prefix>_<key> and <prefix>present_<key>.
func setAll(b *labels.Builder, prefix string, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		name := sanitizeName(k)
		b.Set(prefix+"_"+name, m[k])
		b.Set(prefix+"present_"+name, "true")
	}
}

// sanitizeName replaces what Prometheus did not allow in the names of labels before UTF-8.
func sanitizeName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

// sleep waits for d; false says that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
