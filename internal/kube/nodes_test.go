package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/test/kit"
)

func TestNodeStoreKeepsWhatDiscoveryNeeds(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubeNode("b", "10.0.0.2", 10250, map[string]string{"zone": "z"}))
	w.server.Put(t, kit.KubeNode("a", "10.0.0.1", 10250, nil))
	run(t, w.nodes.Run)
	await(t, "the list", w.nodes.Synced)
	want := []*Node{
		{
			Meta:        Meta{Key: Key{Name: "a"}},
			Addresses:   []NodeAddress{{"InternalIP", "10.0.0.1"}, {"Hostname", "a"}},
			Conditions:  []NodeCondition{{"Ready", "True"}},
			KubeletPort: 10250,
		},
		{
			Meta:        Meta{Key: Key{Name: "b"}, Labels: model.NewLabels(model.Label{Name: "zone", Value: "z"})},
			Addresses:   []NodeAddress{{"InternalIP", "10.0.0.2"}, {"Hostname", "b"}},
			Conditions:  []NodeCondition{{"Ready", "True"}},
			KubeletPort: 10250,
		},
	}
	if diff := cmp.Diff(want, w.nodes.All()); diff != "" {
		t.Errorf("Nodes -want +got\n%s", diff)
	}
	if s := w.nodes.Status(); len(s) != 1 || s[0].Kind != "nodes" || s[0].Selector != "" || s[0].Objects != 2 {
		t.Errorf("Status = %+v", s)
	}

	wake := make(chan struct{}, 1)
	feed, end := w.nodes.Follow(wake)
	defer end()
	w.server.Delete(t, "Node", "", "a")
	<-wake
	if got := feed.Take(); len(got) != 1 || !got[Key{Name: "a"}] {
		t.Errorf("changed are %v, want the deleted node", got)
	}
	if got := w.nodes.All(); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("Nodes after a deletion = %v", got)
	}
}

func TestHeartbeatOfANodeIsNoChange(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubeNode("a", "10.0.0.1", 10250, nil))
	run(t, w.nodes.Run)
	await(t, "the list", w.nodes.Synced)
	events := func() float64 { return w.metric(t, "ingot_kube_events_total", "kind", "nodes") }

	wake := make(chan struct{}, 1)
	feed, end := w.nodes.Follow(wake)
	defer end()
	before := events()
	beat := kit.KubeNode("a", "10.0.0.1", 10250, nil)
	beat["status"].(map[string]any)["images"] = []any{map[string]any{"sizeBytes": 5}}
	w.server.Put(t, beat)
	await(t, "the event", func() bool { return events() > before })
	w.server.Bookmark()
	await(t, "the next event", func() bool { return events() > before+1 })
	if got := feed.Take(); len(got) > 0 {
		t.Errorf("a heartbeat woke the readers: %v", got)
	}
	w.server.Put(t, kit.KubeNode("a", "10.0.0.9", 10250, nil))
	<-wake
}

func TestListThatBringsNothingNewWakesNobody(t *testing.T) {
	w := newWorld(t)
	k := sink[Node]{w.nodes, w.nodes.begin()[0]}
	list := func() []any {
		return []any{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}
	}
	wake := make(chan struct{}, 1)
	_, end := w.nodes.Follow(wake)
	defer end()
	woken := func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	for i, want := range []bool{true, true, false} {
		var l []any
		if i > 0 {
			l = list()
		}
		if err := k.Replace(l, ""); err != nil {
			t.Fatal(err)
		}
		if got := woken(); got != want {
			t.Errorf("list %d: readers woken %t, want %t", i, got, want)
		}
	}
}

func TestWrongTypesAreErrorsAndNoPanics(t *testing.T) {
	w := newWorld(t)
	nodes := sink[Node]{w.nodes, w.nodes.begin()[0]}
	for _, err := range []error{
		nodes.Add(&metav1.Status{}), nodes.Delete(nil), nodes.Add(&corev1.Pod{}),
		podSink{w.pods}.Add(&metav1.Status{}), podSink{w.pods}.Delete(nil), podSink{w.pods}.Replace([]any{1}, ""),
	} {
		if err == nil {
			t.Error("a value of another type is taken")
		}
	}
}
