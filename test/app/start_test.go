package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// run runs ingot to its end and returns its exit code and all that it printed.
func run(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	cmd := exec.CommandContext(ctx, kit.Binary(t), args...)
	cmd.Dir = t.TempDir()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ctx.Err() != nil {
		t.Fatalf("ingot %v: %v %v\n%s", args, err, ctx.Err(), out.String())
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// wantEnd checks the exit code and that the output has all of some words.
func wantEnd(t *testing.T, wantCode int, words []string, args ...string) {
	t.Helper()
	code, output := run(t, args...)
	if code != wantCode {
		t.Errorf("ingot %v: exit code %d, want %d\n%s", args, code, wantCode, output)
	}
	for _, w := range words {
		if !strings.Contains(output, w) {
			t.Errorf("ingot %v: %q is not in the output:\n%s", args, w, output)
		}
	}
	if strings.Contains(output, "goroutine ") {
		t.Errorf("ingot %v: a stack in the output:\n%s", args, output)
	}
}

// idle is a configuration with nothing to do.
const idle = `
destinations: [{name: logs, type: loki, url: "http://localhost:1/loki/api/v1/push"}]
file_logs: [{paths: [/nonexistent/*.log]}]
`

// A wrong configuration ends the start with code 1 and all problems at once; a wrong command
// line with code 2.
func TestWrongStartsEndWithACodeAndACause(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	write(t, bad, strings.Join([]string{
		"destinations:",
		"  - {name: Bad Name, type: prometheus, url: http://localhost/}",
		"  - {name: b, type: promtheus, url: http://localhost/}",
		"  - {name: c, type: loki, url: ':::', tenant: 'a|b'}",
		"scrape: {interval: soon, timeout: 10s}",
		"data: {max_bytes: 1, durability: sometimes}",
		"pod_log: {enabled: true}",
	}, "\n"))
	good := filepath.Join(dir, "good.yaml")
	write(t, good, idle)
	problems := []string{
		`pod_log: unknown key, did you mean "pod_logs"?`, "destinations[0].name", "destinations[1].type", "destinations[2].url", "destinations[2].tenant",
		"scrape.interval", "data.max_bytes", "data.durability", "line 5",
	}
	data := filepath.Join(dir, "data")
	wantEnd(t, 1, problems, "run", "--config", bad, "--data", data, "--listen", "127.0.0.1:0")
	wantEnd(t, 1, problems, "check", bad)
	wantEnd(t, 0, nil, "check", good)
	wantEnd(t, 1, []string{"absent.yaml"}, "run", "--config", filepath.Join(dir, "absent.yaml"), "--listen", "127.0.0.1:0")
	wantEnd(t, 2, []string{"--config"}, "run")
	wantEnd(t, 2, []string{"colour"}, "run", "--config", good, "--colour")
	wantEnd(t, 2, []string{"everything"}, "run", "--config", good, "--role", "everything")
	wantEnd(t, 2, []string{"walk"}, "walk")
	wantEnd(t, 0, []string{"ingot"}, "version")
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a start that failed left %s behind (%v)", data, err)
	}
}

// An address in use ends the start with a cause.
func TestAddressInUseEndsTheStart(t *testing.T) {
	t.Parallel()
	p := kit.Start(t, kit.ProcessConfig{Config: idle})
	file := filepath.Join(t.TempDir(), "ingot.yaml")
	write(t, file, idle)
	wantEnd(t, 1, []string{"address already in use", p.Addr()}, "run", "--config", file, "--listen", p.Addr())
}

// R40: the second process on one data directory ends with a clear error, and the first is not
// disturbed.
func TestR40SecondProcessOnOneDataDirectoryEnds(t *testing.T) {
	t.Parallel()
	mimir, loki := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	all := targets(t, 1, 3)
	tree := kit.NewPodLogWriter(t, t.TempDir())
	c := tree.Pod("shop", "cart").Container("main")
	for _, cfg := range []string{
		config([]string{prometheusTo("metrics", mimir.PushURL())}, []string{scrapeJob("app", all)}),
		config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir)),
	} {
		p := kit.Start(t, kit.ProcessConfig{Config: cfg})
		data := filepath.Join(p.Dir(), "data")
		wantEnd(t, 1, []string{data, "another"}, "run", "--config", filepath.Join(p.Dir(), "ingot.yaml"), "--data", data, "--listen", "127.0.0.1:0")
		if p.Ended() {
			t.Errorf("the first process ended:\n%s", p.Log())
		}
		c.Write(10)
	}
	waitScrapes(t, all, mimir, before(time.Now()))
	waitLines(t, tree, loki)
}

// R33, R34, L43, P12: a data directory that cannot be written is a visible state. Samples and
// lines go on, and when the disk takes data again the state ends.
func TestR34UnwritableDataDirectoryIsAState(t *testing.T) {
	t.Parallel()
	mimir, loki := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	all := targets(t, 1, 3)
	tree, stop := startTree(t, 50, 1)
	dir := t.TempDir()
	// A file where the directory should be stops root too.
	write(t, filepath.Join(dir, "data"), "this is a file\n")
	p := kit.Start(t, kit.ProcessConfig{Dir: dir, Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL()), lokiTo("logs", loki.PushURL())},
		[]string{scrapeJob("app", all)}, podLogs(tree.Dir),
	)})
	if err := all[0].WaitScrapes(t.Context(), soon, 3); err != nil {
		t.Fatal(err)
	}
	degraded := func(want bool) {
		t.Helper()
		kit.Eventually(t, soon, fmt.Sprintf("state degraded: %t", want), func() error {
			have, err := queues(p)
			if err != nil {
				return err
			}
			n, err := p.Metric(`ingot_delivery_state{endpoint="metrics",state="degraded"}`)
			if q := have["metrics"]; (n == 1) != want || (q.State == "degraded") != want || (q.DiskError != "") != want {
				return fmt.Errorf("metric is %g, status %+v (%w)", n, q, err)
			}
			return nil
		})
	}
	degraded(true)
	waitMetric(t, p, "ingot_podlogs_position_write_failures_total", 1)
	waitScrapes(t, all, mimir, before(time.Now()))
	if err := os.Remove(filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	degraded(false)
	waitMetric(t, p, "ingot_podlogs_position_writes_total", 1)
	stop()
	waitScrapes(t, all, mimir, before(time.Now()))
	waitLines(t, tree, loki)
	waitBalance(t, p)
	if code, took := p.Stop(); code != 0 || took > stopLimit {
		t.Errorf("exit code %d after %s", code, took)
	}
}
