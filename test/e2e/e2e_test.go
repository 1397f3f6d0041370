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
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
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
	for pause := 100 * time.Millisecond; ; pause = min(pause*3/2, time.Second) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", patience, err)
		}
		time.Sleep(pause)
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
