package discovery

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// maxShownNodes bounds how many nodes [Kubernetes.Err] names.
const maxShownNodes = 5

// unreachable returns an error about nodes that have no address and hence no target.
func (s *Kubernetes) unreachable() error {
	var without []string
	for _, n := range s.client.Nodes().All() {
		if _, ok := nodeAddress(n.Addresses); !ok && s.choose[RoleNode].chooses(n.Meta, nil) {
			without = append(without, n.Name)
		}
	}
	switch {
	case len(without) == 0:
		return nil
	case len(without) > maxShownNodes:
		return fmt.Errorf("%d nodes have no address and are not scraped: %s and others",
			len(without), strings.Join(without[:maxShownNodes], ", "))
	default:
		return fmt.Errorf("nodes without an address are not scraped: %s", strings.Join(without, ", "))
	}
}

// nodeTargets returns the target of a node, its kubelet; none without an address. Of two
// labels or annotations whose names become the same, Prometheus takes either, and this the
// one whose own name sorts last.
func (s *clusterRun) nodeTargets(k kube.Key) []labels.Labels {
	n, ok := s.node(k.Name)
	if !ok {
		return nil
	}
	host, ok := nodeAddress(n.Addresses)
	if !ok {
		return nil
	}
	m := s.labels
	m.reset()
	m.plain("instance", n.Name)
	m.plain(addressLabel, net.JoinHostPort(host, strconv.Itoa(int(n.KubeletPort))))
	m.set("node_provider_id", n.ProviderID)
	for _, c := range n.Conditions {
		m.set("node_condition_"+model.SanitizeName(strings.ToLower(c.Type)), strings.ToLower(c.Status))
	}
	m.object("node", n.Meta)
	for _, a := range slices.Backward(n.Addresses) { // The first address of a type is the one that counts.
		m.set("node_address_"+model.SanitizeName(a.Type), a.Address)
	}
	return []labels.Labels{m.target()}
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
