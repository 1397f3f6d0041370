package app_test

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// inCluster starts the program with jobs that find their targets in a cluster.
func inCluster(t *testing.T, k *kit.Kube, jobs ...string) (*kit.MetricsReceiver, *kit.Process) {
	t.Helper()
	mimir := kit.StartMetrics(t, kit.MetricsConfig{})
	return mimir, kit.Start(t, kit.ProcessConfig{
		Config:  config([]string{prometheusTo("metrics", mimir.PushURL())}, jobs, fmt.Sprintf("kubernetes: {kubeconfig_file: %q}", k.Kubeconfig(t))),
		Args:    []string{"--node-name", "node-1"},
		Unready: true, // Some servers are not there yet.
	})
}

// podAt is a pod whose only port is that of a target.
func podAt(t *testing.T, target *kit.Target, name string, labels map[string]string) map[string]any {
	t.Helper()
	host, port := hostPort(t, target)
	p := kit.KubePod("shop", name, "uid-"+name, "node-1", labels, nil)
	p["spec"].(map[string]any)["containers"] = []any{map[string]any{
		"name": "main", "image": "i", "ports": []any{map[string]any{"name": "http", "containerPort": port, "protocol": "TCP"}},
	}}
	p["status"].(map[string]any)["podIP"] = host
	return p
}

func hostPort(t *testing.T, target *kit.Target) (string, int) {
	t.Helper()
	host, text, err := net.SplitHostPort(target.Addr())
	check(t, err)
	port, err := strconv.Atoi(text)
	check(t, err)
	return host, port
}

// podJob scrapes the pods that have a label app, and calls the pod and the label so.
const podJob = `{job_name: pods, kubernetes_sd_configs: [{role: pod, namespaces: {names: [shop]}}], relabel_configs: [` +
	`{source_labels: [__meta_kubernetes_pod_labelpresent_app], regex: "true", action: keep}, ` +
	`{source_labels: [__meta_kubernetes_pod_name], target_label: pod}, {source_labels: [__meta_kubernetes_pod_label_app], target_label: app}]}`

func waitEnds(t *testing.T, mimir *kit.MetricsReceiver, what, selector string, series int, stale bool) {
	t.Helper()
	kit.Eventually(t, soon, what, func() error { return ends(mimir, selector, series, stale) })
}

// Pods appear, change their labels, and vanish: they are scraped with the labels that rules
// make of what they are, and the series of what is over end with markers.
func TestPodsThatComeChangeAndGoAreScraped(t *testing.T) {
	t.Parallel()
	k, all := kit.StartKube(t), targets(t, 2, 3)
	k.Put(t, podAt(t, all[0], "a", map[string]string{"app": "cart"}))
	k.Put(t, podAt(t, all[1], "left-out", nil))
	mimir, p := inCluster(t, k, podJob)
	waitEnds(t, mimir, "the first pod", `seq{pod="a",app="cart",job="pods"}`, 3, false)
	k.Put(t, podAt(t, all[1], "b", map[string]string{"app": "shop"}))
	waitEnds(t, mimir, "the second pod", `seq{pod="b",app="shop"}`, 3, false)
	k.Put(t, podAt(t, all[0], "a", map[string]string{"app": "basket"}))
	waitEnds(t, mimir, "the pod with its new label", `seq{pod="a",app="basket"}`, 3, false)
	waitEnds(t, mimir, "the end of the old label", `seq{pod="a",app="cart"}`, 3, true)
	k.Delete(t, "Pod", "shop", "b")
	waitEnds(t, mimir, "the end of the pod", `seq{pod="b"}`, 3, true)
	if n := len(mimir.Series("", `{pod="left-out"}`)); n != 0 {
		t.Errorf("%d series of a pod that rules drop", n)
	}
	waitBalance(t, p)
}

// Endpoints behind a service, found by slices; role endpoints finds the same ones.
func TestEndpointsOfAServiceAreScraped(t *testing.T) {
	t.Parallel()
	k, all := kit.StartKube(t), targets(t, 2, 3)
	slice := func(of ...*kit.Target) map[string]any {
		var ports, endpoints []any
		for i, target := range of {
			host, port := hostPort(t, target)
			ports = append(ports, map[string]any{"name": fmt.Sprintf("p%d", i), "port": port, "protocol": "TCP"})
			endpoints = []any{map[string]any{"addresses": []any{host}, "conditions": map[string]any{"ready": true}, "targetRef": map[string]any{"kind": "Pod", "namespace": "shop", "name": "a"}}}
		}
		return map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
			"metadata": map[string]any{"namespace": "shop", "name": "cart-x", "labels": map[string]string{"kubernetes.io/service-name": "cart"}},
		}
	}
	k.Put(t, map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"namespace": "shop", "name": "cart", "labels": map[string]string{"team": "t1"}}})
	k.Put(t, slice(all[0]))
	job := func(role, port string) string {
		return fmt.Sprintf(`{job_name: %s, kubernetes_sd_configs: [{role: %[1]s}], relabel_configs: [{source_labels: [__meta_kubernetes_service_label_team], target_label: team}, `+
			`{source_labels: [__meta_kubernetes_%s_port_name], target_label: port}, {source_labels: [__meta_kubernetes_pod_label_app], target_label: app}]}`, role, port)
	}
	mimir, p := inCluster(t, k, job("endpointslice", "endpointslice"), job("endpoints", "endpoint"))
	waitEnds(t, mimir, "the first port", `seq{job="endpointslice",team="t1",port="p0"}`, 3, false)
	waitEnds(t, mimir, "the same of the older role", `seq{job="endpoints",team="t1",port="p0"}`, 3, false)
	k.Put(t, slice(all[0], all[1]))
	waitEnds(t, mimir, "the second port", `seq{job="endpointslice",team="t1",port="p1"}`, 3, false)
	k.Put(t, podAt(t, all[0], "a", map[string]string{"app": "cart"}))
	waitEnds(t, mimir, "the label of the pod", `seq{job="endpointslice",port="p0",app="cart"}`, 3, false)
	k.Put(t, slice(all[0]))
	waitEnds(t, mimir, "the end of the second port", `seq{job="endpoints",port="p1",app=""}`, 3, true)
	k.Delete(t, "EndpointSlice", "shop", "cart-x")
	waitEnds(t, mimir, "the end", `seq{job="endpointslice",app="cart",port="p0"}`, 3, true)
	watches := map[string]int{}
	for _, r := range k.Requests() {
		watches[r.Resource]++
	}
	if watches["endpointslices"] != 1 || watches["pods"] != 1 || watches["services"] != 1 || len(watches) != 3 {
		t.Errorf("requests = %v, want one watch of each kind for both jobs", watches)
	}
	waitBalance(t, p)
}

// K5, K4, K7: the API server is away at the start, later it is away again, and then it talks
// nonsense. What is known is scraped all the time, and the program stays ready.
func TestK4K5K7ScrapesGoOnWhateverTheServerDoes(t *testing.T) {
	t.Parallel()
	k, all := kit.StartKube(t), targets(t, 2, 3)
	k.Put(t, podAt(t, all[0], "a", map[string]string{"app": "cart"}))
	k.Down()
	static := targets(t, 1, 3)
	mimir, p := inCluster(t, k, podJob, scrapeJob("static", static))
	waitEnds(t, mimir, "what needs no cluster", `seq{job="static"}`, 3, false)
	if code := ready(t, p); code != http.StatusServiceUnavailable {
		t.Errorf("readiness before the first answer is %d, want %d", code, http.StatusServiceUnavailable)
	}
	check(t, k.Up())
	waitEnds(t, mimir, "the pod", `seq{pod="a"}`, 3, false)
	k.Down()
	check(t, all[0].WaitScrapes(t.Context(), soon, 5))
	if code := ready(t, p); code != http.StatusOK {
		t.Errorf("readiness while the server is away is %d, want %d", code, http.StatusOK)
	}
	k.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind": "Pod`))
		return true
	})
	check(t, k.Up())
	check(t, all[0].WaitScrapes(t.Context(), soon, 5))
	k.Intercept(nil)
	k.Put(t, podAt(t, all[1], "b", map[string]string{"app": "cart"}))
	waitEnds(t, mimir, "what came meanwhile", `seq{pod="b"}`, 3, false)
	if err := ends(mimir, `seq{pod="a"}`, 3, false); err != nil {
		t.Error(err)
	}
	waitBalance(t, p)
}

// K8: a role that may not read what it needs is down with the rule that is missing, in the
// status; the others run and the program is ready. It heals without a restart.
func TestK8RefusedKindStopsItsJobAlone(t *testing.T) {
	t.Parallel()
	k, all := kit.StartKube(t), targets(t, 1, 3)
	k.Put(t, podAt(t, all[0], "a", map[string]string{"app": "cart"}))
	k.Put(t, map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"namespace": "shop", "name": "i"},
		"spec": map[string]any{"rules": []any{map[string]any{"host": all[0].Addr()}}},
	})
	k.Refuse("ingresses", kit.KubeRefusal{Code: 403})
	mimir, p := inCluster(t, k, podJob, "{job_name: hosts, kubernetes_sd_configs: [{role: ingress}]}")
	waitEnds(t, mimir, "the pod", `seq{pod="a"}`, 3, false)
	kit.Eventually(t, soon, "the missing rule in the status", func() error {
		page, err := p.Get("/status/targets")
		if err == nil && !strings.Contains(string(page), "resources: [ingresses]") {
			err = fmt.Errorf("it says %s", page)
		}
		return err
	})
	if code := ready(t, p); code != http.StatusOK {
		t.Errorf("readiness is %d, want %d", code, http.StatusOK)
	}
	k.Grant("ingresses")
	kit.Eventually(t, time.Minute, "the job that was refused", func() error { return ends(mimir, `seq{job="hosts"}`, 3, false) })
	waitBalance(t, p)
}

// K23: a pod with an address of the newer family alone.
func TestK23AddressesOfBothFamilies(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	_ = ln.Close()
	k := kit.StartKube(t)
	k.Put(t, map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"namespace": "shop", "name": "six", "labels": map[string]string{"app": "x"}},
		"spec":   map[string]any{"containers": []any{map[string]any{"name": "m", "ports": []any{map[string]any{"containerPort": ln.Addr().(*net.TCPAddr).Port}}}}},
		"status": map[string]any{"podIP": "::1", "phase": "Running"},
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("six 6\n")) })}
	ln, err = net.Listen("tcp", ln.Addr().String())
	check(t, err)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	mimir, _ := inCluster(t, k, podJob)
	waitEnds(t, mimir, "the scrape", fmt.Sprintf(`six{pod="six",instance=%q}`, ln.Addr()), 1, false)
}

// A name that has an address is a target.
func TestNamesAreScrapedByTheirRecords(t *testing.T) {
	t.Parallel()
	all, mimir := targets(t, 1, 3), kit.StartMetrics(t, kit.MetricsConfig{})
	_, port := hostPort(t, all[0])
	kit.Start(t, kit.ProcessConfig{Config: config([]string{prometheusTo("metrics", mimir.PushURL())}, []string{
		fmt.Sprintf("{job_name: names, dns_sd_configs: [{names: [localhost], type: A, port: %d}]}", port),
	})})
	waitEnds(t, mimir, "the scrape", `seq{job="names"}`, 3, false)
}

// ready returns the status code of the readiness page.
func ready(t *testing.T, p *kit.Process) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/-/ready", http.NoBody)
	check(t, err)
	resp, err := http.DefaultClient.Do(req)
	check(t, err)
	check(t, resp.Body.Close())
	return resp.StatusCode
}
