package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/test/kit"
)

// world is a client of a server for tests, and its stores once they run.
type world struct {
	server *kit.Kube
	client *kube.Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{server: kit.StartKube(t)}
	var err error
	w.client, err = kube.New(kube.Config{KubeconfigFile: w.server.Kubeconfig(t)}, "node", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// discover runs a source and the stores that it needs.
func (w *world) discover(t *testing.T, cfg KubernetesConfig) (*Kubernetes, <-chan []labels.Labels) {
	t.Helper()
	s, err := NewKubernetes(cfg, w.client)
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range w.client.Needed() {
		runUntilCleanup(t, store.Run)
	}
	return s, runSource(t, s)
}

// port is a pod with one port; its name is also its label app.
func port(namespace, name, ip string) map[string]any {
	p := kit.KubePod(namespace, name, name, "n", map[string]string{"app": name}, nil)
	p["spec"].(map[string]any)["containers"] = []any{map[string]any{
		"name": "main", "image": "i", "ports": []any{map[string]any{"containerPort": 80, "protocol": "TCP"}},
	}}
	p["status"].(map[string]any)["podIP"] = ip
	return p
}

func sliceOf(namespace, name, service, ip, pod string) map[string]any {
	return map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata": map[string]any{"namespace": namespace, "name": name, "labels": map[string]string{serviceNameLabel: service}},
		"ports":    []any{map[string]any{"port": 80, "name": "http"}},
		"endpoints": []any{map[string]any{
			"addresses": []any{ip}, "nodeName": "n",
			"targetRef": map[string]any{"kind": "Pod", "namespace": namespace, "name": pod},
		}},
	}
}

// until waits for a list of targets of which all are such as name=value.
func until(t *testing.T, updates <-chan []labels.Labels, name string, want ...string) {
	t.Helper()
	last := "nothing"
	for timeout := time.After(20 * time.Second); ; {
		select {
		case list := <-updates:
			var got []string
			for _, target := range list {
				got = append(got, target.Get(name))
			}
			if last = fmt.Sprint(got); last == fmt.Sprint(want) {
				return
			}
		case <-timeout:
			t.Fatalf("%s of targets: %s, want %v", name, last, want)
		}
	}
}

// What is attached to a target changes with the object that it is from.
func TestTargetsFollowEveryObjectThatTheyAreMadeOf(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, sliceOf("ns", "s", "svc", "10.0.0.1", "p"))
	_, updates := w.discover(t, KubernetesConfig{Role: RoleEndpointSlice, AttachMetadata: AttachMetadata{Node: true, Namespace: true}})
	until(t, updates, "__address__", "10.0.0.1:80")
	w.server.Put(t, port("ns", "p", "10.0.0.1"))
	until(t, updates, "__meta_kubernetes_pod_label_app", "p")
	w.server.Put(t, map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"namespace": "ns", "name": "svc"}})
	until(t, updates, "__meta_kubernetes_service_name", "svc")
	w.server.Put(t, kit.KubeNode("n", "10.1.0.1", 10250, map[string]string{"zone": "z"}))
	until(t, updates, "__meta_kubernetes_node_label_zone", "z")
	w.server.Put(t, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "ns", "labels": map[string]string{"team": "a"}}})
	until(t, updates, "__meta_kubernetes_namespace_label_team", "a")
	w.server.Delete(t, "Pod", "ns", "p")
	until(t, updates, "__meta_kubernetes_pod_label_app", "")
	w.server.Delete(t, "EndpointSlice", "ns", "s")
	until(t, updates, "__address__")
}

// K4: while the API server is away nothing changes, and what it missed comes when it is back.
func TestK4TargetsStayWhileTheServerIsAway(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, port("ns", "a", "10.0.0.1"))
	source, updates := w.discover(t, KubernetesConfig{Role: RolePod})
	until(t, updates, "__address__", "10.0.0.1:80")
	w.server.Down()
	waitFor(t, func() bool { return source.Err() != nil })
	w.server.Put(t, port("ns", "b", "10.0.0.2"))
	select {
	case got := <-updates:
		t.Errorf("targets during the outage: %v", got)
	default:
	}
	if err := w.server.Up(); err != nil {
		t.Fatal(err)
	}
	until(t, updates, "__address__", "10.0.0.1:80", "10.0.0.2:80")
}

// K1, K2: closed watches and forgotten history make no target come or go.
func TestK1K2ClosedWatchesChangeNoTargets(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, port("ns", "a", "10.0.0.1"))
	_, updates := w.discover(t, KubernetesConfig{Role: RolePod})
	until(t, updates, "__address__", "10.0.0.1:80")
	w.server.Forget()
	for range 3 {
		n := len(w.server.Requests())
		w.server.CloseWatches()
		waitFor(t, func() bool { return len(w.server.Requests()) > n && w.server.Watches() == 1 })
	}
	select {
	case got := <-updates:
		t.Errorf("targets after watches were closed: %v", got)
	default:
	}
	w.server.Put(t, port("ns", "a", "10.0.0.2"))
	until(t, updates, "__address__", "10.0.0.2:80")
}

// K8: what one role may not read leaves the others alone, is named with its cure, and heals.
func TestK8MissingPermissionConcernsItsRoleAlone(t *testing.T) {
	w := newWorld(t)
	w.server.Refuse("ingresses", kit.KubeRefusal{Code: 403})
	w.server.Put(t, port("ns", "a", "10.0.0.1"))
	w.server.Put(t, map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"namespace": "ns", "name": "i"},
		"spec": map[string]any{"rules": []any{map[string]any{"host": "a.example.org"}}},
	})
	pods, err := NewKubernetes(KubernetesConfig{Role: RolePod}, w.client)
	if err != nil {
		t.Fatal(err)
	}
	ingresses, hosts := w.discover(t, KubernetesConfig{Role: RoleIngress})
	until(t, runSource(t, pods), "__address__", "10.0.0.1:80")
	waitFor(t, func() bool {
		return strings.Contains(fmt.Sprint(ingresses.Err()), `{apiGroups: ["networking.k8s.io"], resources: [ingresses], verbs: [list, watch]}`)
	})
	if err := pods.Err(); err != nil {
		t.Errorf("Err of pods = %v, want nil", err)
	}
	select {
	case got := <-hosts:
		t.Errorf("an update without any list: %v", got)
	default:
	}
	w.server.Grant("ingresses")
	until(t, hosts, "__address__", "a.example.org")
}

// K20: an object that changes a hundred times a second.
func TestK20ChangesOfAnObjectAreLookedAtOnceASecond(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, port("ns", "a", "10.0.0.1"))
	_, updates := w.discover(t, KubernetesConfig{Role: RolePod})
	until(t, updates, "__address__", "10.0.0.1:80")
	began, seen := time.Now(), 0
	for i := range 300 {
		w.server.Put(t, port("ns", "a", fmt.Sprintf("10.0.1.%d", i%250)))
	}
	w.server.Put(t, port("ns", "a", "10.0.9.9"))
	for list := range updates {
		if seen++; list[0].Get("__address__") == "10.0.9.9:80" {
			break
		}
	}
	if most := int(time.Since(began)/time.Second) + 2; seen > most {
		t.Errorf("%d updates in %s, want one a second", seen, time.Since(began))
	}
}

// Two jobs with the same needs cost one watch of each kind.
func TestJobsShareTheWatches(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, port("ns", "a", "10.0.0.1"))
	other, err := NewKubernetes(KubernetesConfig{Role: RolePod, Selectors: []KubernetesSelector{{Role: RolePod, Label: "app in (b)"}}}, w.client)
	if err != nil {
		t.Fatal(err)
	}
	_, updates := w.discover(t, KubernetesConfig{Role: RolePod})
	until(t, updates, "__address__", "10.0.0.1:80")
	if none := <-runSource(t, other); len(none) != 0 {
		t.Errorf("the other job has %v, want nothing", none)
	}
	if n := len(w.server.Requests()); n != 1 {
		t.Errorf("%d requests, want one watch of pods", n)
	}
}

// What a job of ours does not want has no targets, until it has the labels.
func TestOnlyWhatAJobWantsHasTargets(t *testing.T) {
	w := newWorld(t)
	svc := func(team string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"namespace": "ns", "name": "svc", "labels": map[string]string{"team": team}}}
	}
	w.server.Put(t, sliceOf("ns", "s", "svc", "10.0.0.1", "p"))
	w.server.Put(t, sliceOf("ns", "other", "none", "10.0.0.2", "p"))
	w.server.Put(t, svc("a"))
	_, updates := w.discover(t, KubernetesConfig{Role: RoleEndpointSlice, Only: "team in (b)"})
	if got := <-updates; len(got) != 0 {
		t.Errorf("targets of another team: %v", got)
	}
	w.server.Put(t, svc("b"))
	until(t, updates, "__address__", "10.0.0.1:80")
	w.server.Put(t, svc("c"))
	until(t, updates, "__address__")
}

// BenchmarkChangedPod is the way of a change from the event of a pod to its targets, in a
// cluster of 20 000 pods behind services.
func BenchmarkChangedPod(b *testing.B) {
	const n = 20_000
	for _, role := range []string{RolePod, RoleEndpointSlice} {
		b.Run(role, func(b *testing.B) {
			w := newWorld(b)
			s, err := NewKubernetes(KubernetesConfig{Role: role}, w.client)
			if err != nil {
				b.Fatal(err)
			}
			for i := range n {
				name := fmt.Sprintf("application-%d-7d4b9c6f5-x2x9z", i)
				p := port("shop", name, fmt.Sprintf("10.0.%d.%d", i/250, i%250))
				p["metadata"].(map[string]any)["labels"] = map[string]string{"app.kubernetes.io/name": fmt.Sprint("app-", i/10), "app.kubernetes.io/instance": "shop", "pod-template-hash": fmt.Sprint(i / 10)}
				p["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{"manager": strings.Repeat("x", 4000)}}
				w.server.Put(b, p)
				w.server.Put(b, sliceOf("shop", fmt.Sprint("s-", i), fmt.Sprint("svc-", i/10), fmt.Sprintf("10.0.%d.%d", i/250, i%250), name))
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			for _, store := range w.client.Needed() {
				go func() { _ = store.Run(ctx) }()
			}
			for !s.synced() {
				time.Sleep(10 * time.Millisecond)
			}
			r := &clusterRun{Kubernetes: s, labels: newMetaLabels()}
			k := kube.Key{Namespace: "shop", Name: "application-7-7d4b9c6f5-x2x9z"}
			size := 0
			b.ReportAllocs()
			for b.Loop() {
				changed := map[kube.Key]bool{}
				if role == RolePod {
					changed[k] = true
				} else {
					s.ofPods(map[kube.Key]bool{k: true}, changed)
				}
				r.send(changed, func(groups []Group) { size = groups[0].Targets[0].Len() })
			}
			b.ReportMetric(float64(size), "labels/target")
		})
	}
}
