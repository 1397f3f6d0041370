package kube

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ingot-telemetry/ingot/test/kit"
)

func service(namespace, name string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"namespace": namespace, "name": name},
		"spec": map[string]any{"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": []any{map[string]any{"port": 80, "protocol": "TCP"}}},
	}
}

func slice(namespace, name string, pods ...string) map[string]any {
	var endpoints []any
	for i, p := range pods {
		endpoints = append(endpoints, map[string]any{
			"addresses": []any{fmt.Sprintf("10.1.0.%d", i)}, "conditions": map[string]any{"ready": true},
			"targetRef": map[string]any{"kind": "Pod", "namespace": namespace, "name": p},
		})
	}
	return map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
		"metadata": map[string]any{"namespace": namespace, "name": name},
	}
}

func TestStoreHasOneWatchWhoeverNeedsIt(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, service("a", "one"))
	w.server.Put(t, service("b", "two"))
	w.services.Need(Scope{})
	w.services.Need(Scope{Namespaces: []string{"a"}, Label: "x=y"})
	run(t, w.services.Run)
	await(t, "the list", w.services.Synced)
	if all := w.services.All(); len(all) != 2 || all[0].Key != (Key{"a", "one"}) || all[1].Key != (Key{"b", "two"}) {
		t.Errorf("services = %v", all)
	}
	if n := len(w.server.Requests()); n != 1 {
		t.Errorf("%d requests, want one watch", n)
	}
	if got := w.metric(t, "ingot_kube_objects", "kind", "services"); got != 2 {
		t.Errorf("ingot_kube_objects = %v, want 2", got)
	}
}

func TestStoreIsAsNarrowAsItsUsers(t *testing.T) {
	f := func(want Scope, scopes ...Scope) {
		t.Helper()
		if diff := cmp.Diff(want, union(scopes)); diff != "" {
			t.Errorf("%+v: -want +got\n%s", scopes, diff)
		}
	}
	f(Scope{})
	f(Scope{Namespaces: []string{"a"}, Label: "l", Field: "f"}, Scope{Namespaces: []string{"a", "a"}, Label: "l", Field: "f"})
	f(Scope{Namespaces: []string{"a", "b"}, Field: "f"}, Scope{Namespaces: []string{"b"}, Label: "l", Field: "f"}, Scope{Namespaces: []string{"a"}, Field: "f"})
	f(Scope{}, Scope{Namespaces: []string{"a"}, Label: "l"}, Scope{}, Scope{Namespaces: []string{"b"}})
	var many []string
	for i := range maxNamespaces + 1 {
		many = append(many, fmt.Sprint(i))
	}
	f(Scope{Label: "l"}, Scope{Namespaces: many, Label: "l"})
}

// K9: where only some namespaces may be read, those are, and the others are named.
func TestK9NamespacesAreWatchedOneByOne(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, service("a", "one"))
	w.server.Put(t, service("b", "two"))
	w.server.Put(t, service("c", "three"))
	w.server.RefuseIn("b", "services", kit.KubeRefusal{Code: 403})
	w.services.Need(Scope{Namespaces: []string{"a"}})
	w.services.Need(Scope{Namespaces: []string{"b"}})
	run(t, w.services.Run)
	await(t, "one namespace and an error", func() bool {
		_, ok := w.services.Get(Key{"a", "one"})
		return ok && strings.Contains(fmt.Sprint(w.services.Err()), "in namespace b") && w.services.Refused()
	})
	if w.services.Synced() {
		t.Error("the store says that it has everything")
	}
	w.server.GrantIn("b", "services")
	await(t, "the other namespace", func() bool { _, ok := w.services.Get(Key{"b", "two"}); return ok && w.services.Synced() })
	w.server.Delete(t, "Service", "a", "one")
	await(t, "the deletion", func() bool { return len(w.services.All()) == 1 })
	if got := w.metric(t, "ingot_kube_objects", "kind", "services"); got != 1 {
		t.Errorf("ingot_kube_objects = %v, want 1", got)
	}
	if _, ok := w.services.Get(Key{"c", "three"}); ok {
		t.Error("a namespace that nobody needs was read")
	}
}

func TestStoreKnowsWhoNamesAPod(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, slice("a", "s1", "p1", "p2"))
	run(t, w.endpointSlices.Run)
	await(t, "the list", w.endpointSlices.Synced)
	users := func(pod string) string {
		all := w.endpointSlices.Users(Key{"a", pod})
		slices.SortFunc(all, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
		return fmt.Sprint(all)
	}
	if got := users("p1") + users("p2") + users("p3"); got != "[{a s1}][{a s1}][]" {
		t.Errorf("users = %s", got)
	}
	w.server.Put(t, slice("a", "s2", "p2", "p2"))
	w.server.Put(t, slice("a", "s1", "p2"))
	await(t, "the change", func() bool { return users("p1") == "[]" && users("p2") == "[{a s1} {a s2}]" })
	w.server.Delete(t, "EndpointSlice", "a", "s1")
	w.server.Delete(t, "EndpointSlice", "a", "s2")
	await(t, "the end", func() bool { return users("p2") == "[]" })
	if n := len(w.endpointSlices.users) + len(w.endpointSlices.objects); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// K10: a kind that the API server does not know yet is found when it is installed.
func TestK10KindThatComesLater(t *testing.T) {
	w := newWorld(t)
	w.server.RemoveResource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
	run(t, w.endpointSlices.Run)
	await(t, "the lack", func() bool {
		return strings.Contains(fmt.Sprint(w.endpointSlices.Err()), "does not know discovery.k8s.io/v1 endpointslices yet")
	})
	w.server.AddResource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
	w.server.Put(t, slice("a", "s", "p"))
	await(t, "the kind", func() bool { return w.endpointSlices.Synced() && w.endpointSlices.Err() == nil })
}

// K13: of a list one object cannot be read.
func TestK13UnreadableObjectAloneIsLeftOut(t *testing.T) {
	w := newWorld(t)
	k := sink[Node]{w.nodes, w.nodes.begin()[0]}
	if err := k.Replace([]any{&corev1.Pod{}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}, ""); err != nil {
		t.Fatal(err)
	}
	if n := len(w.nodes.All()); n != 1 || w.metric(t, "ingot_kube_failures_total", "reason", "unreadable") != 1 {
		t.Errorf("%d nodes, want the one that can be read, and the other one counted", n)
	}
}

func TestDetailsOfAPodAreWhatTargetsNeed(t *testing.T) {
	key, got, err := podDetailKind().from(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"b": "", "a": "1"},
			Annotations:   map[string]string{lastAppliedAnnotation: "{}"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "SECRET", Value: "x"}}}}},
	})
	if err != nil || key != (Key{"ns", "p"}) {
		t.Fatal(key, err)
	}
	want := &PodDetail{
		Meta: Meta{Key: key, Labels: setOf(map[string]string{"a": "1", "b": ""})},
		UID:  "u", Node: "n", Containers: []Container{{Name: "c"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestPodsAndEndpointsOfAClusterAreSmall holds what one of them costs, as there may be more
// than a hundred thousand of each (K16). Each string is on its own as after decoding.
func TestPodsAndEndpointsOfAClusterAreSmall(t *testing.T) {
	const (
		pods      = 5000
		podBudget = 1000 // bytes
		endBudget = 700  // bytes an endpoint, with its place in the index by pods
	)
	w := newWorld(t)
	details := sink[PodDetail]{w.podDetails, w.podDetails.begin()[0]}
	slices := sink[EndpointSlice]{w.endpointSlices, w.endpointSlices.begin()[0]}
	start := liveHeap()
	for i := range pods {
		p := &corev1.Pod{ObjectMeta: realisticPod(i).ObjectMeta}
		p.Spec = corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i%100), Containers: []corev1.Container{{
			Name: strings.Clone("main"), Image: strings.Clone("registry.example.org/shop/checkout-api:2.14.3"),
			Env:   []corev1.EnvVar{{Name: "X", Value: strings.Repeat("x", 4000)}},
			Ports: []corev1.ContainerPort{{Name: strings.Clone("http"), ContainerPort: 8080, Protocol: "TCP"}},
		}}}
		p.Status = corev1.PodStatus{Phase: "Running", PodIP: fmt.Sprintf("10.2.%d.%d", i/250, i%250), HostIP: fmt.Sprintf("10.0.0.%d", i%100)}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", ContainerID: fmt.Sprintf("containerd://%064d", i)}}
		if err := details.Add(w.podDetails.carry(p)); err != nil {
			t.Fatal(err)
		}
	}
	mid := liveHeap()
	for i := 0; i < pods; i += 100 {
		e := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "payment-services", Name: fmt.Sprintf("checkout-api-%05d", i)}}
		for k := range 100 {
			yes, node, zone := true, fmt.Sprintf("node-%d", k), strings.Clone("europe-west1-b")
			e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.2.%d.%d", (i+k)/250, (i+k)%250)}, NodeName: &node, Zone: &zone,
				Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
				TargetRef:  &corev1.ObjectReference{Kind: strings.Clone("Pod"), Namespace: "payment-services", Name: fmt.Sprintf("checkout-api-7d9f6c5b8d-%05d", i+k), UID: "u"},
			})
		}
		if err := slices.Add(w.endpointSlices.carry(e)); err != nil {
			t.Fatal(err)
		}
	}
	pod, end := (mid-start)/pods, (liveHeap()-mid)/pods
	t.Logf("%d bytes a pod, %d bytes an endpoint", pod, end)
	if pod > podBudget || end > endBudget {
		t.Errorf("%d bytes a pod and %d an endpoint, want at most %d and %d", pod, end, podBudget, endBudget)
	}
	runtime.KeepAlive(w)
}
