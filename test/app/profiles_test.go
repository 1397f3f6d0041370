package app_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// TestProfilesGiveTheStreamsOfTheirVersion is that the streams that Loki gets of an ordinary pod
// are to the letter those of the three versions of k8s-monitoring.
func TestProfilesGiveTheStreamsOfTheirVersion(t *testing.T) {
	t.Parallel()
	const (
		v2 = `{app_kubernetes_io_name="web", cluster="tiles", container="nginx", job="shop/nginx", k8s_cluster_name="tiles", namespace="shop", pod="web-0", service_name="web"} {}`
		v3 = `{app_kubernetes_io_name="web", cluster="tiles", container="nginx", job="shop/nginx", k8s_cluster_name="tiles", namespace="shop", service_name="web", service_namespace="shop"} {pod="web-0", service_instance_id="shop.web-0.nginx"}`
		v4 = `{app_kubernetes_io_name="web", cluster="tiles", container="nginx", flags="F", job="shop/nginx", k8s_cluster_name="tiles", namespace="shop", service_name="web", service_namespace="shop", service_version="1.2", stream="%s"} {pod="web-0", service_instance_id="shop.web-0.nginx"}`
	)
	for profile, want := range map[string][2]string{
		"v2": {v2, v2}, "v3": {v3, v3}, "v4": {fmt.Sprintf(v4, "stdout"), fmt.Sprintf(v4, "stderr")},
	} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			k, loki, tree := kit.StartKube(t), kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
			check(t, k.Up())
			pod := tree.Pod("shop", "web-0")
			k.Put(t, kit.KubePod("shop", "web-0", pod.UID, "node-1",
				map[string]string{"app.kubernetes.io/name": "web", "pod-template-hash": "5d9c"},
				map[string]string{"resource.opentelemetry.io/service.version": "1.2", "checksum/config": "abc"}))
			c := pod.Container("nginx")
			c.Line("stdout", "to stdout")
			c.Line("stderr", "to stderr")
			kit.Start(t, kit.ProcessConfig{
				Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, "cluster: tiles",
					podLogsWith(tree.Dir, "profile: "+profile), fmt.Sprintf("kubernetes: {kubeconfig_file: %q}", k.Kubeconfig(t))),
				Args: []string{"--node-name", "node-1"},
			})
			kit.Eventually(t, soon, "both lines", func() error {
				if n := len(loki.Lines("", "")); n != 2 {
					return fmt.Errorf("%d lines", n)
				}
				return nil
			})
			got := map[string]string{}
			for _, l := range loki.Lines("", "") {
				got[l.Text] = l.Stream.String() + " " + l.Metadata.String()
			}
			if diff := cmp.Diff(map[string]string{"to stdout": want[0], "to stderr": want[1]}, got); diff != "" {
				t.Errorf("streams (-want +got):\n%s", diff)
			}
		})
	}
}
