package kube

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

const nodeAccept = "application/vnd.kubernetes.protobuf,application/json"

// Node is what Ingot knows of a node. Maps and slices are shared between copies: do not
// change them.
type Node struct {
	Name        string
	Labels      map[string]string
	Annotations map[string]string
	// Addresses and Conditions are in the order of the object.
	Addresses  []NodeAddress
	Conditions []NodeCondition
	// KubeletPort is the TCP port of the kubelet's API, 0 when the node does not say.
	KubeletPort int32
	// ProviderID is the cloud's name of the machine, often empty.
	ProviderID string
}

// NodeAddress is one address of a node. Type is InternalIP, InternalDNS, ExternalIP,
// ExternalDNS, Hostname or what a cloud provider has made up.
type NodeAddress struct{ Type, Address string }

// NodeCondition is the present state of one condition: Type is such as Ready, Status is
// True, False or Unknown.
type NodeCondition struct{ Type, Status string }

// NodeStore keeps the nodes of the cluster.
type NodeStore struct {
	w       *watcher
	changes changes

	mu    sync.RWMutex // guards nodes
	nodes map[string]Node
}

func newNodeStore(connect func() (rest.Interface, error), log *slog.Logger, m *metrics) *NodeStore {
	return &NodeStore{
		w: newWatcher(resource{
			kind:       "nodes",
			accept:     nodeAccept,
			acceptList: nodeAccept,
			object:     &corev1.Node{},
			strip:      stripNode,
		}, connect, log, m),
		changes: newChanges(),
		nodes:   map[string]Node{},
	}
}

// Run keeps the store current until ctx ends and then returns nil. No failure of the API
// server ends it. The store can be read before, meanwhile and after.
func (s *NodeStore) Run(ctx context.Context) error { return s.w.run(ctx, nodeSink{s}) }

// Nodes returns the present nodes ordered by name. The caller owns the slice.
func (s *NodeStore) Nodes() []Node {
	s.mu.RLock()
	all := make([]Node, 0, len(s.nodes))
	for _, n := range s.nodes {
		all = append(all, n)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Synced tells whether a whole list has arrived since the start.
func (s *NodeStore) Synced() bool { return s.w.synced() }

// Changed returns a channel that is closed at the next change of the store; many changes
// close it once. Take it before reading the store, so that no change falls between:
//
//	for {
//		changed := store.Changed()
//		use(store.Nodes())
//		<-changed
//	}
//
// A change is one of the fields of [Node]; the heartbeat of a node is none.
func (s *NodeStore) Changed() <-chan struct{} { return s.changes.next() }

// Err returns why the store may be out of date, nil when it is current.
func (s *NodeStore) Err() error { return s.w.current() }

// Status returns a snapshot for the status page.
func (s *NodeStore) Status() Status { return s.w.snapshot() }

// nodeSink is the side of the store that the reflector sees.
type nodeSink struct{ s *NodeStore }

// Add implements cache.ReflectorStore.
func (k nodeSink) Add(obj any) error { return k.Update(obj) }

// Update implements cache.ReflectorStore.
func (k nodeSink) Update(obj any) error {
	n, err := nodeOf(obj)
	if err != nil {
		return err
	}
	k.s.mu.Lock()
	if old, ok := k.s.nodes[n.Name]; ok && reflect.DeepEqual(old, n) {
		k.s.mu.Unlock()
		return nil
	}
	k.s.nodes[n.Name] = n
	count := len(k.s.nodes)
	k.s.mu.Unlock()
	k.s.w.count(count)
	k.s.changes.fire()
	return nil
}

// Delete implements cache.ReflectorStore.
func (k nodeSink) Delete(obj any) error {
	n, err := nodeOf(obj)
	if err != nil {
		return err
	}
	k.s.mu.Lock()
	delete(k.s.nodes, n.Name)
	count := len(k.s.nodes)
	k.s.mu.Unlock()
	k.s.w.count(count)
	k.s.changes.fire()
	return nil
}

// Replace implements cache.ReflectorStore.
func (k nodeSink) Replace(objs []any, _ string) error {
	nodes := make(map[string]Node, len(objs))
	for _, obj := range objs {
		n, err := nodeOf(obj)
		if err != nil {
			return err
		}
		nodes[n.Name] = n
	}
	first := !k.s.w.synced()
	k.s.mu.Lock()
	same := reflect.DeepEqual(k.s.nodes, nodes)
	k.s.nodes = nodes
	k.s.mu.Unlock()
	k.s.w.listed(len(nodes))
	if first || !same {
		k.s.changes.fire()
	}
	return nil
}

// Resync implements cache.ReflectorStore. There is nothing to do again.
func (nodeSink) Resync() error { return nil }

func nodeOf(obj any) (Node, error) {
	o, ok := obj.(*corev1.Node)
	if !ok {
		return Node{}, fmt.Errorf("read a node: the API server sent a %T", obj)
	}
	n := Node{
		Name:        o.Name,
		Labels:      o.Labels,
		Annotations: o.Annotations,
		KubeletPort: o.Status.DaemonEndpoints.KubeletEndpoint.Port,
		ProviderID:  o.Spec.ProviderID,
	}
	for _, a := range o.Status.Addresses {
		n.Addresses = append(n.Addresses, NodeAddress{string(a.Type), a.Address})
	}
	for _, c := range o.Status.Conditions {
		n.Conditions = append(n.Conditions, NodeCondition{string(c.Type), string(c.Status)})
	}
	return n, nil
}

func stripNode(obj runtime.Object) {
	o, ok := obj.(*corev1.Node)
	if !ok {
		return
	}
	*o = corev1.Node{
		TypeMeta: o.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name:            o.Name,
			UID:             o.UID,
			ResourceVersion: o.ResourceVersion,
			Labels:          o.Labels,
			Annotations:     o.Annotations,
		},
		Spec: corev1.NodeSpec{ProviderID: o.Spec.ProviderID},
		Status: corev1.NodeStatus{
			Addresses:       o.Status.Addresses,
			Conditions:      o.Status.Conditions,
			DaemonEndpoints: o.Status.DaemonEndpoints,
		},
	}
}
