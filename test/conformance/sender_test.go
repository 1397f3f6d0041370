// Package conformance_test runs the real program through the Prometheus project's own suite
// for senders of remote write (github.com/prometheus/compliance). It is a module of its own
// so that the suite's requirements never reach Ingot's.
//
// The suite's cases of version 1.0 lived in an older module that no proxy serves any more;
// what they ask for, and more of version 2.0 than the suite has today, is in test/app.
package conformance_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/compliance/remotewrite/sender"
)

// binaryVariable names the environment variable that holds the path of a built ingot, as in
// test/kit.
const binaryVariable = "INGOT_BINARY"

// ingot runs the program for one case of the suite.
type ingot struct {
	binary string
	temp   func() string
}

// Name implements [sender.Sender].
func (ingot) Name() string { return "ingot" }

// configuration is stand-alone: no Kubernetes, one target, one destination.
const configuration = `
scrape: {interval: 1s, timeout: 1s, start_timestamps: true}
destinations:
  - {name: receiver, type: prometheus, url: %q, protobuf_message: %s, batch_send_deadline: 100ms}
scrape_configs:
  - job_name: %s
    scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]
    static_configs: [{targets: [%q]}]
`

// Run implements [sender.Sender].
func (i ingot) Run(ctx context.Context, opts sender.Options) error {
	dir := i.temp()
	file := filepath.Join(dir, "ingot.yaml")
	text := fmt.Sprintf(configuration, opts.RemoteWriteEndpointURL, opts.RemoteWriteMessage, opts.ScrapeTargetJobName, opts.ScrapeTargetHostPort)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return sender.RunCommand(ctx, dir, nil, i.binary, "run", "--config", file, "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0")
}

// build returns the path of the program, built from the module that this one stands in.
func build(t *testing.T) string {
	t.Helper()
	if path, ok := os.LookupEnv(binaryVariable); ok && path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "ingot")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/ingot")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build ingot: %v\n%s", err, out)
	}
	return path
}

// TestSenderSuite is P2: every case of the suite, whatever its level.
func TestSenderSuite(t *testing.T) {
	cases := sender.ComplianceTests()
	if len(cases) == 0 {
		t.Fatal("the suite has no cases")
	}
	sender.RunTests(t, ingot{binary: build(t), temp: t.TempDir}, cases)
}

// TestSenderSuiteVersion1 runs the cases that mean the same with version 1.0: what the suite
// sends through is judged by what arrives.
func TestSenderSuiteVersion1(t *testing.T) {
	var cases []sender.Test
	for _, c := range sender.ComplianceTests() {
		cases = append(cases, sender.Test{
			Name: c.Name, Description: c.Description, RFCLevel: c.RFCLevel, Version: remote.WriteV1MessageType,
			ScrapeData: c.ScrapeData, TestResponses: c.TestResponses,
			Validate: func(t *testing.T, res sender.ReceiverResult) {
				t.Helper()
				if len(res.Requests) == 0 {
					t.Fatal("no request came")
				}
				checkVersion1(t, res.Requests[0])
			},
		})
	}
	sender.RunTests(t, ingot{binary: build(t), temp: t.TempDir}, cases)
}

// checkVersion1 looks for what the suite's page has: counter, histogram and gauge.
func checkVersion1(t *testing.T, req sender.ReceiverRequest) {
	t.Helper()
	if got := req.Headers.Get("X-Prometheus-Remote-Write-Version"); got != "0.1.0" {
		t.Errorf("X-Prometheus-Remote-Write-Version = %q, want 0.1.0", got)
	}
	got := make(map[string]float64)
	for _, ts := range req.RW1.Timeseries {
		for _, l := range ts.Labels {
			if l.Name == "__name__" && len(ts.Samples) == 1 {
				got[l.Value] = ts.Samples[0].Value
			}
		}
	}
	for name, want := range map[string]float64{
		"test_counter_total": 101.13, "test_histogram_count": 100, "test_histogram_sum": 250, "test_histogram_bucket": 100,
		"test_gauge_with_ts": 2, "up": 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %g (%v), want %g", name, v, ok, want)
		}
	}
}
