//go:build e2e

// Package e2e runs Ingot against real servers: a Kubernetes node, Cortex and
// Loki, all from package testbed. Run it as root with
//
//	go test -tags e2e -count 1 -timeout 60m ./test/e2e
//
// It holds no fakes: what a test here asserts, the servers returned.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/ingot-telemetry/ingot/testbed"
)

// tenant is the tenant that everything is written and read under.
const tenant = "tiles"

// The one testbed that all tests share, and what it runs. Only TestMain sets them.
var (
	binaries testbed.Binaries
	cluster  *testbed.Cluster
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// run starts the testbed, runs the tests and stops it, also on an interrupt.
// When the process dies without that (a timeout's panic, a kill), the testbed's
// reaper stops it.
func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binaries, err = testbed.Build(ctx, "", os.Stderr)
	if err != nil {
		return 1, err
	}
	cluster, err = testbed.Start(ctx, testbed.Options{
		Binaries: binaries,
		Log:      os.Stderr,
		// Kept after the run, for whoever looks into a failure.
		LogDir: filepath.Join(filepath.Dir(binaries.Kubelet), "logs"),
		// Small and often: the tests want rotations while they watch.
		ContainerLogMaxSize:         "256Ki",
		ContainerLogMaxFiles:        5,
		ContainerLogMonitorInterval: 3 * time.Second,
	})
	if err != nil {
		return 1, err
	}
	disarm := context.AfterFunc(ctx, func() {
		if err := cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
		os.Exit(130) // Interrupted.
	})
	defer disarm()
	code = m.Run()
	return code, cluster.Stop()
}

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
// kube-apiserver by in-cluster configuration, and Cortex and Loki by the
// cluster's addresses. The client is kubectl, since it is at hand.
func TestPodsReachServers(t *testing.T) {
	ctx := t.Context()
	if err := cluster.Image(ctx, "e2e/kubectl:1", binaries.Kubectl, nil); err != nil {
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
`, name, hostNetwork, cluster.CortexURL, cluster.LokiURL), name)
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

func pushSample(t *testing.T, name string, at time.Time, value float64) (status int, text string) {
	t.Helper()
	body, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}},
		Samples: []prompb.Sample{{Value: value, Timestamp: at.UnixMilli()}},
	}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return post(t, cluster.CortexURL+"/api/v1/push", snappy.Encode(nil, body), http.Header{
		"Content-Type":                      {"application/x-protobuf"},
		"Content-Encoding":                  {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
	})
}

// post sends body under the tests' tenant.
func post(t *testing.T, url string, body []byte, header http.Header) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	req.Header.Set("X-Scope-Orgid", tenant)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// startWorkload runs the workload program as a pod until the test ends.
func startWorkload(t *testing.T, name string, args ...string) {
	t.Helper()
	startPod(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: default, labels: {app.kubernetes.io/name: %[1]s}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: workload
    image: %[2]s
    imagePullPolicy: Never
    args: ["%[3]s"]
    ports: [{name: metrics, containerPort: 8080}]
`, name, testbed.WorkloadImage, strings.Join(args, `", "`)), name)
	if _, err := cluster.Kubectl(t.Context(), "wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
}

// startPod makes a pod that goes away with the test.
func startPod(t *testing.T, yaml, name string) {
	t.Helper()
	if err := cluster.Apply(t.Context(), yaml); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The context of the test is over by now.
		if _, err := cluster.Kubectl(context.Background(), "delete", "pod", name); err != nil {
			t.Error(err)
		}
	})
}

// podLines reads the lines of a workload straight from the node's log files,
// rotated ones included unless they were compressed, and returns how often each
// sequence number occurs.
func podLines(pod string) (map[int]int, error) {
	files, err := filepath.Glob("/var/log/pods/default_" + pod + "_*/*/*.log*")
	if err != nil {
		return nil, err
	}
	found := map[int]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := countLines(string(text), found); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return found, nil
}

// countLines joins the parts of lines that the runtime split, per stream, and
// checks each whole line.
func countLines(text string, found map[int]int) error {
	open := map[string]string{}
	for record := range strings.Lines(text) {
		// A record is "<time> <stream> <F or P> <text>\n".
		fields := strings.SplitN(strings.TrimSuffix(record, "\n"), " ", 4)
		if len(fields) < 4 || !strings.HasSuffix(record, "\n") {
			continue // It is being written.
		}
		stream := fields[1]
		open[stream] += fields[3]
		if fields[2] == "P" {
			continue
		}
		line, err := testbed.ParseLine(open[stream])
		if err != nil {
			return err
		}
		found[line.Seq]++
		delete(open, stream)
	}
	return nil
}

// eventually repeats check until it is nil, and fails the test with the last
// error when that takes too long.
func eventually(t *testing.T, patience time.Duration, check func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", patience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
