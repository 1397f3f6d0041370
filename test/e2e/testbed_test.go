//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestClusterRunsPodsAndBackendsAnswer claims no more than that the testbed is
// what the other tests take it for.
func TestClusterRunsPodsAndBackendsAnswer(t *testing.T) {
	ctx := t.Context()
	nodes, err := cluster.Kubectl(ctx, "get", "nodes")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(nodes, cluster.NodeName+" ") || !strings.Contains(nodes, " Ready ") {
		t.Fatalf("kubectl get nodes = %s, want node %s Ready", nodes, cluster.NodeName)
	}
	startWorkload(t, "smoke", "-run=smoke", "-rate=100", "-count=300", "-stderr-every=3", "-long-every=50")
	eventually(t, time.Minute, func() error {
		found, err := podLines("smoke")
		if err == nil && len(found) != 300 {
			err = fmt.Errorf("%d different lines below /var/log/pods, want 300", len(found))
		}
		return err
	})
	if series, err := cluster.PromQL(ctx, tenant, `vector(42)`); err != nil || len(series) != 1 || series[0].Samples[0].Value != 42 {
		t.Errorf("PromQL(vector(42)) = %v, %v, want one series of value 42", series, err)
	}
	now := time.Now()
	if lines, err := cluster.LogQL(ctx, tenant, `{job="none"}`, now.Add(-time.Hour), now, 10); err != nil || len(lines) != 0 {
		t.Errorf("LogQL = %v, %v, want no line and no error", lines, err)
	}
	// A refused request without tenant proves that tenants are kept apart.
	if _, err := cluster.PromQL(ctx, "", `vector(42)`); err == nil {
		t.Error("PromQL without tenant succeeded, want an error")
	}
}

// TestKubeletRotatesLogs claims that a fast writer's log is rotated within
// seconds, so that a test of log tailing meets real rotations.
func TestKubeletRotatesLogs(t *testing.T) {
	startWorkload(t, "rotated", "-run=rotated", "-rate=1000", "-count=8000", "-size=100", "-long-every=500")
	eventually(t, time.Minute, func() error {
		files, err := filepath.Glob("/var/log/pods/default_rotated_*/workload/0.log.*")
		if err == nil && len(files) == 0 {
			err = errors.New("no rotated file")
		}
		return err
	})
}

// TestKubeletServesContainerMetrics claims that cAdvisor sees containers, not
// only the cgroups of pods, and the pods' network devices.
func TestKubeletServesContainerMetrics(t *testing.T) {
	startWorkload(t, "measured", "-run=measured", "-rate=100")
	eventually(t, time.Minute, func() error {
		text, err := cluster.Kubectl(t.Context(), "get", "--raw", "/api/v1/nodes/"+cluster.NodeName+"/proxy/metrics/cadvisor")
		if err != nil {
			return err
		}
		for _, want := range []string{
			`(?m)^container_cpu_usage_seconds_total\{container="workload",.*image="docker.io/testbed/workload:1",.*namespace="default",pod="measured"\} \S+ \d{13}$`,
			`(?m)^container_memory_working_set_bytes\{container="workload",.*pod="measured"`,
			`(?m)^container_network_receive_bytes_total\{.*interface="eth0",.*pod="measured"`,
		} {
			if !regexp.MustCompile(want).MatchString(text) {
				return fmt.Errorf("no series like %s", want)
			}
		}
		return nil
	})
}

// TestPodsReachServers claims that pods of both kinds of network reach the
// kube-apiserver by in-cluster configuration, Cortex and Loki by the cluster's
// addresses, and another pod by its own. The client is kubectl, since it is at
// hand.
func TestPodsReachServers(t *testing.T) {
	ctx := t.Context()
	if err := cluster.Image(ctx, "e2e/kubectl:1", binaries.Kubectl, nil); err != nil {
		t.Fatal(err)
	}
	startWorkload(t, "reached", "-run=reached")
	podIP, err := cluster.Kubectl(ctx, "get", "pod", "reached", "-o", "jsonpath={.status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	for name, hostNetwork := range map[string]bool{"reach-pod": false, "reach-host": true} {
		startPod(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: default}
spec:
  restartPolicy: Never
  hostNetwork: %[2]t
  containers:
  - {name: api, image: "e2e/kubectl:1", imagePullPolicy: Never, args: [get, --raw, /version]}
  - {name: cortex, image: "e2e/kubectl:1", imagePullPolicy: Never, args: [get, --server, %[3]q, --raw, /ready]}
  - {name: loki, image: "e2e/kubectl:1", imagePullPolicy: Never, args: [get, --server, %[4]q, --raw, /ready]}
  - {name: pod, image: "e2e/kubectl:1", imagePullPolicy: Never, args: [get, --server, "http://%[5]s:8080", --raw, /metrics]}
`, name, hostNetwork, cluster.CortexURL, cluster.LokiURL, podIP), name)
		phase := "jsonpath={.status.phase}"
		if _, err := cluster.Kubectl(ctx, "wait", "--for="+phase+"=Succeeded", "pod/"+name, "--timeout=60s"); err != nil {
			logs, _ := cluster.Kubectl(ctx, "logs", name, "--all-containers", "--prefix")
			t.Errorf("pod %s: %v\n%s", name, err, logs)
		}
	}
}

// TestBackendsKeepWhatTheyTookAcrossACrash claims that a test may crash a
// backend: what it had taken is there after a restart.
func TestBackendsKeepWhatTheyTookAcrossACrash(t *testing.T) {
	ctx := t.Context()
	now := time.Now()
	line := fmt.Sprintf(`{"streams":[{"stream":{"job":"restart"},"values":[["%d","kept",{"pod":"p"}]]}]}`, now.UnixNano())
	if status, text := post(t, cluster.LokiURL+"/loki/api/v1/push", []byte(line), http.Header{"Content-Type": {"application/json"}}); status != 204 {
		t.Fatalf("push of a line = status %d, want 204: %s", status, text)
	}
	if status, text := pushSample(t, "restart", now, 7); status != 200 {
		t.Fatalf("push of a sample = status %d, want 200: %s", status, text)
	}
	for _, name := range []string{"loki", "cortex"} {
		if err := cluster.Restart(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := cluster.LogQL(ctx, tenant, `{job="restart"}`, now.Add(-time.Minute), now.Add(time.Minute), 10)
	if err != nil || len(lines) != 1 {
		t.Fatalf("LogQL = %v, %v, want the one line", lines, err)
	}
	if l := lines[0]; l.Text != "kept" || len(l.Labels) != 1 || len(l.Metadata) != 1 || l.Metadata["pod"] != "p" || !l.Time.Equal(now) {
		t.Errorf("line = %+v, want text, label, metadata and time as pushed", l)
	}
	series, err := cluster.PromQL(ctx, tenant, "restart[5m]")
	if err != nil || len(series) != 1 || len(series[0].Samples) != 1 {
		t.Fatalf("PromQL = %v, %v, want the one sample", series, err)
	}
	if s := series[0]; len(s.Labels) != 1 || s.Samples[0].Value != 7 || s.Samples[0].Time.UnixMilli() != now.UnixMilli() {
		t.Errorf("series = %+v, want name, value and time as pushed", s)
	}
}

// TestCortexRejectsWhatIsOutOfOrder claims that a reordering cannot pass
// unnoticed: the window is zero.
func TestCortexRejectsWhatIsOutOfOrder(t *testing.T) {
	now := time.Now()
	if status, text := pushSample(t, "ordered", now, 1); status != 200 {
		t.Fatalf("push = status %d, want 200: %s", status, text)
	}
	if status, text := pushSample(t, "ordered", now.Add(-time.Second), 2); status != 400 || !strings.Contains(text, "out of order") {
		t.Errorf("push of an older sample = status %d: %s, want 400 and out of order", status, text)
	}
	// The very same sample again is no error, which makes retries safe.
	if status, text := pushSample(t, "ordered", now, 1); status != 200 {
		t.Errorf("push of the same sample = status %d, want 200: %s", status, text)
	}
}
