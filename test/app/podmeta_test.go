package app_test

import (
	"fmt"
	"testing"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// onNode starts an API server, a tree and the program on a node of that name between them and
// a Loki.
func onNode(t *testing.T) (*kit.Kube, *kit.LogsReceiver, *kit.PodLogWriter, *kit.Process) {
	t.Helper()
	k, loki, tree := kit.StartKube(t), kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
	check(t, k.Up())
	p := kit.Start(t, kit.ProcessConfig{
		Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir), fmt.Sprintf("kubernetes: {kubeconfig_file: %q}", k.Kubeconfig(t))),
		Args:   []string{"--node-name", "node-1"},
	})
	return k, loki, tree, p
}

// waitLabels waits until the lines of a pod's container have arrived, and checks that all of
// them have some labels or metadata.
func waitLabels(t *testing.T, loki *kit.LogsReceiver, lines int, pod, container string, want map[string]string) {
	t.Helper()
	var got []kit.Line
	kit.Eventually(t, soon, "the lines of "+pod+"/"+container, func() error {
		got = nil
		for _, l := range loki.Lines("", "") {
			if l.Get("pod") == pod && l.Get("container") == container {
				got = append(got, l)
			}
		}
		if len(got) != lines {
			return fmt.Errorf("%d lines, want %d", len(got), lines)
		}
		return nil
	})
	for _, l := range got {
		for name, value := range want {
			if have := l.Get(name); have != value {
				t.Errorf("%s/%s: label %s is %q, want %q, in %s %s", pod, container, name, have, value, l.Stream, l.Metadata)
				return
			}
		}
	}
}

// L20: a namespace is deleted with its pods while Loki is away. The lines that come later have
// the labels that the pods had.
func TestL20LinesOfADeletedNamespaceKeepTheirLabels(t *testing.T) {
	t.Parallel()
	k, loki, tree, p := onNode(t)
	pod := tree.Pod("doomed", "cart")
	k.Put(t, kit.KubePod("doomed", "cart", pod.UID, "node-1", map[string]string{"app.kubernetes.io/name": "cart-service"}, nil))
	c := pod.Container("main")
	c.Write(10)
	want := map[string]string{"namespace": "doomed", "app_kubernetes_io_name": "cart-service", "service_name": "cart-service"}
	waitLabels(t, loki, 10, "cart", "main", want)
	loki.Down()
	// A pod that comes and goes within the outage.
	short := tree.Pod("doomed", "job")
	k.Put(t, kit.KubePod("doomed", "job", short.UID, "node-1", map[string]string{"app.kubernetes.io/name": "job-service"}, nil))
	sc := short.Container("main")
	sc.Write(20)
	c.Write(20)
	kit.Eventually(t, soon, "both files open", func() error {
		status, err := logs(p)
		if err != nil || len(status.Files) != 2 || status.Lag == 0 {
			return fmt.Errorf("files are %+v (%w)", status.Files, err)
		}
		return nil
	})
	live(t, p, 2*interval) // Whoever looks at pods each second has looked.
	pod.Remove(c)
	short.Remove(sc)
	k.Delete(t, "Pod", "doomed", "cart")
	k.Delete(t, "Pod", "doomed", "job")
	kit.Eventually(t, soon, "the deletion noticed", func() error {
		status, err := logs(p)
		if err != nil || len(status.Files) != 2 || status.Files[0].Path == "" {
			return fmt.Errorf("files are %+v (%w)", status.Files, err)
		}
		return nil
	})
	check(t, loki.Up())
	waitLabels(t, loki, 30, "cart", "main", want)
	want["app_kubernetes_io_name"], want["service_name"] = "job-service", "job-service"
	waitLabels(t, loki, 20, "job", "main", want)
	wantAll(t, tree, loki)
	waitBalance(t, p)
}

// wantAll waits for all lines, those of removed files too, and fails when one came twice.
func wantAll(t *testing.T, tree *kit.PodLogWriter, loki *kit.LogsReceiver) {
	t.Helper()
	kit.Eventually(t, soon, "every line, also of removed files", func() error { return tree.Report(loki, "").Err() })
	wantOnce(t, tree, loki)
}

// L21: init containers, sidecars, ephemeral containers and static pods, whose directory has
// another UID than their mirror in the API, all have the labels of their pod.
func TestL21EveryKindOfContainerHasTheLabelsOfItsPod(t *testing.T) {
	t.Parallel()
	k, loki, tree, p := onNode(t)
	pod := tree.Pod("shop", "cart")
	object := kit.KubePod("shop", "cart", pod.UID, "node-1", map[string]string{"app.kubernetes.io/name": "cart"}, map[string]string{"k8s.grafana.com/logs.job": "own-job"})
	spec := object["spec"].(map[string]any) //nolint:forcetypeassert // the kit's own object
	always := "Always"
	spec["initContainers"] = []any{map[string]any{"name": "init", "image": "kit"}, map[string]any{"name": "sidecar", "image": "kit", "restartPolicy": always}}
	spec["ephemeralContainers"] = []any{map[string]any{"name": "debugger", "image": "kit"}}
	k.Put(t, object)
	// The kubelet's directory of a static pod carries the hash of its manifest; the mirror pod
	// has a UID that the API server gave it.
	const hash = "6f4a1b0c9d8e7f6a5b4c3d2e1f0a9b8c"
	static := tree.PodUID("kube-system", "etcd-node-1", hash)
	k.Put(t, kit.KubePod("kube-system", "etcd-node-1", "0f0e0d0c-1111-4000-8000-000000000001", "node-1", map[string]string{"app.kubernetes.io/name": "etcd"},
		map[string]string{"kubernetes.io/config.mirror": hash, "kubernetes.io/config.source": "file"}))
	for _, name := range []string{"init", "sidecar", "main", "debugger"} {
		pod.Container(name).Write(20)
	}
	static.Container("etcd").Write(20)
	for _, name := range []string{"init", "sidecar", "main", "debugger"} {
		waitLabels(t, loki, 20, "cart", name, map[string]string{"namespace": "shop", "app_kubernetes_io_name": "cart", "job": "own-job"})
	}
	waitLabels(t, loki, 20, "etcd-node-1", "etcd", map[string]string{"namespace": "kube-system", "app_kubernetes_io_name": "etcd", "job": "kube-system/etcd"})
	wantOnce(t, tree, loki)
	if n, err := p.Metric("ingot_podlogs_lines_without_metadata_total"); err != nil || n != 0 {
		t.Errorf("%g lines without metadata (%v), want 0", n, err)
	}
	waitBalance(t, p)
}
