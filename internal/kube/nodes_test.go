package kube

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ingot-telemetry/ingot/test/kit"
)

func TestNodeStoreKeepsWhatDiscoveryNeeds(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubeNode("b", "10.0.0.2", 10250, map[string]string{"zone": "z"}))
	w.server.Put(t, kit.KubeNode("a", "10.0.0.1", 10250, nil))
	run(t, w.nodes.Run)
	await(t, "the list", w.nodes.Synced)
	want := []Node{
		{
			Name:        "a",
			Addresses:   []NodeAddress{{"InternalIP", "10.0.0.1"}, {"Hostname", "a"}},
			Conditions:  []NodeCondition{{"Ready", "True"}},
			KubeletPort: 10250,
		},
		{
			Name:        "b",
			Labels:      map[string]string{"zone": "z"},
			Addresses:   []NodeAddress{{"InternalIP", "10.0.0.2"}, {"Hostname", "b"}},
			Conditions:  []NodeCondition{{"Ready", "True"}},
			KubeletPort: 10250,
		},
	}
	if diff := cmp.Diff(want, w.nodes.Nodes()); diff != "" {
		t.Errorf("Nodes -want +got\n%s", diff)
	}
	if s := w.nodes.Status(); s.Kind != "nodes" || s.Selector != "" || s.Objects != 2 {
		t.Errorf("Status = %+v", s)
	}

	changed := w.nodes.Changed()
	w.server.Delete(t, "Node", "", "a")
	<-changed
	if got := w.nodes.Nodes(); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("Nodes after a deletion = %v", got)
	}
}

func TestHeartbeatOfANodeIsNoChange(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubeNode("a", "10.0.0.1", 10250, nil))
	run(t, w.nodes.Run)
	await(t, "the list", w.nodes.Synced)
	events := func() float64 { return w.metric(t, "ingot_kube_events_total", "kind", "nodes") }

	changed := w.nodes.Changed()
	before := events()
	beat := kit.KubeNode("a", "10.0.0.1", 10250, nil)
	beat["status"].(map[string]any)["images"] = []any{map[string]any{"sizeBytes": 5}}
	w.server.Put(t, beat)
	await(t, "the event", func() bool { return events() > before })
	w.server.Bookmark()
	await(t, "the next event", func() bool { return events() > before+1 })
	select {
	case <-changed:
		t.Error("a heartbeat woke the readers")
	default:
	}
	w.server.Put(t, kit.KubeNode("a", "10.0.0.9", 10250, nil))
	<-changed
}

func TestListThatBringsNothingNewWakesNobody(t *testing.T) {
	w := newWorld(t)
	k := nodeSink{w.nodes}
	list := func() []any {
		return []any{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}
	}
	first := w.nodes.Changed()
	if err := k.Replace(nil, ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first:
	default:
		t.Error("the first list, though empty, woke nobody")
	}
	if err := k.Replace(list(), ""); err != nil {
		t.Fatal(err)
	}
	again := w.nodes.Changed()
	if err := k.Replace(list(), ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-again:
		t.Error("the same list woke the readers")
	default:
	}
}

func TestStripNodeLeavesOnlyWhatIsKept(t *testing.T) {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", UID: "u", ResourceVersion: "7",
			Labels:        map[string]string{"l": "1"},
			Annotations:   map[string]string{"a": "1"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		},
		Spec: corev1.NodeSpec{ProviderID: "p", PodCIDR: "10.0.0.0/24"},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: "InternalIP", Address: "10.0.0.1"}},
			Images:    []corev1.ContainerImage{{SizeBytes: 1}},
		},
	}
	want := n.DeepCopy()
	want.ManagedFields, want.Spec.PodCIDR, want.Status.Images = nil, "", nil
	stripNode(n)
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("stripped -want +got\n%s", diff)
	}
	if !maps.Equal(n.Labels, want.Labels) {
		t.Error("labels are lost")
	}
}

func TestWrongTypesAreErrorsAndNoPanics(t *testing.T) {
	w := newWorld(t)
	for _, err := range []error{
		nodeSink{w.nodes}.Add(&metav1.Status{}), nodeSink{w.nodes}.Delete(nil), nodeSink{w.nodes}.Replace([]any{1}, ""),
		podSink{w.pods}.Add(&metav1.Status{}), podSink{w.pods}.Delete(nil), podSink{w.pods}.Replace([]any{1}, ""),
	} {
		if err == nil {
			t.Error("a value of another type is taken")
		}
	}
}
