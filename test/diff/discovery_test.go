package diff_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/test/kit"
	"github.com/prometheus/client_golang/prometheus"
	promdiscovery "github.com/prometheus/prometheus/discovery"
	promkube "github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"
)

// cluster is the objects that both discover: what is unusual about pods, services and the like.
const cluster = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team.example.org/name: a, empty: ""}, annotations: {note: n}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: other}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: z, a.b: one, kubernetes.io/os: linux}, annotations: {cpu: "4"}}
spec: {providerID: "cloud:///n1"}
status:
  addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: "fd00::1"}, {type: Cloud/Name, address: x}]
  conditions: [{type: Ready, status: "True"}, {type: Memory-Pressure, status: Unknown}]
  daemonEndpoints: {kubeletEndpoint: {Port: 10250}}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status:
  addresses: [{type: ExternalIP, address: "fd00::2"}]
---
apiVersion: v1
kind: Pod
metadata:
  {namespace: shop, name: web-1, uid: u1, labels: {app: web, app.kubernetes.io/name: web, empty: ""}, annotations: {prometheus.io/scrape: "true", p/q: ""},
  ownerReferences: [{kind: Other, name: o, apiVersion: v1, uid: a}, {kind: ReplicaSet, name: web-abc, controller: true, apiVersion: apps/v1, uid: b}]}
spec:
  nodeName: n1
  initContainers: [{name: prepare, image: "prepare:1"}, {name: side, image: "side:1", ports: [{containerPort: 9000, name: side, protocol: TCP}]}]
  containers:
  - {name: main, image: "web:1", ports: [{containerPort: 8080, name: http, protocol: TCP}, {containerPort: 8081, protocol: TCP}, {containerPort: 53, name: dns, protocol: UDP}]}
  - {name: silent, image: "silent:1"}
status:
  {phase: Running, podIP: 10.1.0.1, hostIP: 10.0.0.1, podIPs: [{ip: 10.1.0.1}, {ip: "fd01::1"}],
  conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "True"}],
  containerStatuses: [{name: silent, containerID: "containerd://s"}, {name: main, containerID: "containerd://m"}],
  initContainerStatuses: [{name: side, containerID: "containerd://i"}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-2, uid: u2, labels: {app: web}, annotations: {}}
spec: {nodeName: n2, containers: [{name: main, image: "web:1", ports: [{containerPort: 8080, name: http, protocol: TCP}]}]}
status: {phase: Running, podIP: "fd01::2", hostIP: "fd00::2", conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: pending, uid: u3}
spec: {containers: [{name: main, image: "web:1", ports: [{containerPort: 8080}]}]}
status: {phase: Pending}
---
apiVersion: v1
kind: Pod
metadata: {namespace: other, name: job-1, uid: u4, labels: {app: web}}
spec: {nodeName: lost, containers: [{name: main, image: "job:1"}]}
status: {phase: Succeeded, podIP: 10.1.0.4}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web, labels: {app: web, x-y: "1"}, annotations: {a/b: c}}
spec: {type: ClusterIP, clusterIP: 10.2.0.1, ports: [{port: 80, name: http, protocol: TCP}, {port: 81, protocol: TCP}], ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6]}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: headless}, spec: {type: ClusterIP, clusterIP: None, ports: [{port: 80, protocol: TCP}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: other, name: lb}, spec: {type: LoadBalancer, clusterIP: "fd02::1", loadBalancerIP: 1.2.3.4, ports: [{port: 443, name: https, protocol: TCP}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: other, name: away}, spec: {type: ExternalName, externalName: db.example.org, ports: [{port: 5432, protocol: TCP}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: other, name: portless}, spec: {type: ClusterIP, clusterIP: None}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: web-v4, labels: {kubernetes.io/service-name: web, app: web, endpointslice.kubernetes.io/managed-by: c}, annotations: {t: "1"}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP, appProtocol: h2c}, {name: "", port: 9999, protocol: TCP}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true, serving: true, terminating: false}, nodeName: n1, zone: z, hostname: h, targetRef: {kind: Pod, namespace: shop, name: web-1}, deprecatedTopology: {topology.kubernetes.io/zone: z}}
- {addresses: [10.1.0.9], conditions: {ready: false, serving: true, terminating: true}, nodeName: n2, targetRef: {kind: Pod, namespace: shop, name: gone}}
- {addresses: [10.0.0.1], conditions: {}, targetRef: {kind: Node, name: n1}}
- {addresses: [192.0.2.1, 192.0.2.2], conditions: {ready: true}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: web-v6, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: ["fd01::1"], conditions: {ready: true}, nodeName: n1, targetRef: {kind: Pod, namespace: shop, name: web-1}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: headless-x, labels: {kubernetes.io/service-name: headless, service.kubernetes.io/headless: ""}}
addressType: IPv6
ports: [{}, {port: 8080}]
endpoints: [{addresses: ["fd01::2"], conditions: {ready: false}, nodeName: n2, targetRef: {kind: Pod, namespace: shop, name: web-2}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: other, name: nobody}
addressType: FQDN
ports: [{name: x, port: 1, protocol: TCP}]
endpoints: [{addresses: [db.example.org], conditions: {ready: true}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: tls, labels: {a: b}, annotations: {c/d: e}}
spec:
  ingressClassName: nginx
  tls: [{hosts: [a.example.org, "*.wild.example.org"]}, {hosts: [b.example.org]}, {}]
  rules:
  - {host: a.example.org, http: {paths: [{path: /x}, {path: ""}, {path: "/y(/|$)"}]}}
  - {host: one.wild.example.org}
  - {host: two.one.wild.example.org, http: {paths: []}}
  - {host: wild.example.org}
  - {http: {paths: [{path: /all}]}}
  - {host: "*.wild.example.org"}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: other, name: bare}
spec: {defaultBackend: {service: {name: x, port: {number: 80}}}}
---
apiVersion: v1
kind: Endpoints
metadata: {namespace: shop, name: older, labels: {app: web}, annotations: {t: "1"}}
subsets:
- {addresses: [{ip: 10.1.0.1, nodeName: n1, targetRef: {kind: Pod, namespace: shop, name: web-1}}, {ip: 192.0.2.7, hostname: h}], notReadyAddresses: [{ip: 10.1.0.8, nodeName: n2, targetRef: {kind: Pod, namespace: shop, name: gone}}], ports: [{name: http, port: 8080, protocol: TCP}]}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: older, labels: {app: web}}, spec: {type: ClusterIP, clusterIP: 10.2.0.2, ports: [{port: 80, name: http, protocol: TCP}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: older-abc, labels: {kubernetes.io/service-name: older, app: web, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}, annotations: {t: "1"}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, nodeName: n1, targetRef: {kind: Pod, namespace: shop, name: web-1}}
- {addresses: [192.0.2.7], conditions: {ready: true}, hostname: h}
- {addresses: [10.1.0.8], conditions: {ready: false}, nodeName: n2, targetRef: {kind: Pod, namespace: shop, name: gone}}
- {addresses: [10.1.0.7], conditions: {ready: false, terminating: true}, nodeName: n2, targetRef: {kind: Pod, namespace: shop, name: leaving}}
`

// TestKubernetesTargetsAreThoseOfPrometheus has both discover the same cluster.
func TestKubernetesTargetsAreThoseOfPrometheus(t *testing.T) {
	server := kit.StartKube(t)
	server.AddResource("v1", "Endpoints", "endpoints")
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Header.Get("Accept"), "json") { // Prometheus asks for protobuf alone.
			r.Header.Set("Accept", "application/json")
		}
		return false
	})
	dec := yaml.NewDecoder(strings.NewReader(cluster))
	for {
		var obj map[string]any
		if dec.Decode(&obj) != nil {
			break
		}
		server.Put(t, obj)
	}
	const both = ", attach_metadata: {node: true, namespace: true}"
	for _, block := range []string{
		"role: node", "role: pod", "role: pod" + both, "role: service", "role: service, attach_metadata: {namespace: true}",
		"role: endpointslice, namespaces: {names: [other, shop]}", "role: endpointslice" + both, "role: ingress", "role: ingress, attach_metadata: {namespace: true}",
		"role: pod, namespaces: {names: [other]}", "role: pod, selectors: [{role: pod, label: app=web, field: spec.nodeName=n1}]",
		"role: pod, selectors: [{role: node, label: zone=z}], attach_metadata: {node: true}",
		"role: endpointslice, selectors: [{role: pod, label: app=none}, {role: service, label: app=web}, {role: endpointslice, label: app=web}]",
		"role: service, selectors: [{role: service, field: metadata.name=web}]", "role: node, selectors: [{role: node, label: zone=z}]",
		"role: endpoints, selectors: [{role: endpoints, field: metadata.name=older}]" + both,
	} {
		t.Run(block, func(t *testing.T) {
			want, got := promTargets(t, server, block), ourTargets(t, server, block)
			if len(want) == 0 {
				t.Fatal("Prometheus finds nothing, so that nothing is compared")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-Prometheus +Ingot\n%s", diff)
			}
		})
	}
}

// promTargets returns what Prometheus finds, each target as sorted lines.
func promTargets(t *testing.T, server *kit.Kube, block string) []string {
	t.Helper()
	var cfg promkube.SDConfig
	if err := yaml.Unmarshal([]byte(fmt.Sprintf("{kubeconfig_file: %q, %s}", server.Kubeconfig(t), block)), &cfg); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	refresh := promdiscovery.NewRefreshMetrics(reg)
	metrics := cfg.NewDiscovererMetrics(reg, refresh)
	d, err := promkube.New(slog.New(slog.DiscardHandler), metrics, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch := make(chan []*targetgroup.Group)
	go d.Run(ctx, ch)
	groups := map[string]*targetgroup.Group{}
	for quiet := 20 * time.Second; ; quiet = 500 * time.Millisecond {
		select {
		case some := <-ch:
			for _, g := range some {
				groups[g.Source] = g
			}
			continue
		case <-time.After(quiet):
		}
		break
	}
	var all []string
	for _, g := range groups {
		for _, target := range g.Targets {
			b := labels.NewBuilder(labels.EmptyLabels())
			for name, value := range g.Labels {
				b.Set(string(name), string(value))
			}
			for name, value := range target {
				b.Set(string(name), string(value))
			}
			all = append(all, lines(b.Labels()))
		}
	}
	slices.Sort(all)
	return all
}

// ourTargets returns what Ingot finds.
func ourTargets(t *testing.T, server *kit.Kube, block string) []string {
	t.Helper()
	var cfg discovery.KubernetesConfig
	if err := yaml.Unmarshal([]byte("{"+block+"}"), &cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	client, err := kube.New(kube.Config{KubeconfigFile: server.Kubeconfig(t)}, "node", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	source, err := discovery.NewKubernetes(cfg, client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, s := range client.Needed() {
		wg.Go(func() { _ = s.Run(ctx) })
	}
	groups := make(chan []discovery.Group)
	wg.Go(func() {
		_ = source.Run(ctx, func(some []discovery.Group) {
			select {
			case groups <- slices.Clone(some):
			case <-ctx.Done():
			}
		})
	})
	var all []string
	for _, g := range <-groups { // Everything there is, since it is less than what comes at once.
		for _, target := range g.Targets {
			all = append(all, lines(target))
		}
	}
	slices.Sort(all)
	return all
}

func lines(ls labels.Labels) string {
	m := ls.Map()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s = %s\n", name, m[name])
	}
	return b.String()
}
