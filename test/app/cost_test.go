package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// cpu returns how much processor time a process has used.
func cpu(t *testing.T, p *kit.Process) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	check(t, err)
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name, which may hold anything
	fields := strings.Fields(rest)
	const user, system, tick = 11, 12, 10 * time.Millisecond
	ticks := 0
	for _, i := range []int{user, system} {
		n, err := strconv.Atoi(fields[i])
		check(t, err)
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// A node with hundreds of finished pods, whose files stay: they are read once, and then they
// cost next to nothing.
func TestFinishedPodsCostNothing(t *testing.T) {
	t.Parallel()
	loki, tree := kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
	const pods = 350
	for i := range pods {
		tree.Pod("shop", fmt.Sprintf("job-%d", i)).Container("main").Write(20)
	}
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, fmt.Sprintf("pod_logs: {enabled: true, path: %q}", tree.Dir))})
	wantOnce(t, tree, loki)
	kit.Eventually(t, soon, "all files idle", func() error {
		status, err := logs(p)
		if err != nil {
			return err
		}
		for _, f := range status.Files {
			if f.State != "idle" {
				return fmt.Errorf("%s is %s", f.Path, f.State)
			}
		}
		return nil
	})
	live(t, p, 2*time.Second) // what was begun comes to an end
	const looked = 5 * time.Second
	before := cpu(t, p)
	live(t, p, looked)
	used := cpu(t, p) - before
	t.Logf("%d finished pods: %s of a processor in %s, %d descriptors", pods, used, looked, openFiles(t, p))
	if most := looked / 50; used > most {
		t.Errorf("%s of a processor in %s for %d finished pods, want %s at most", used, looked, pods, most)
	}
	if n, most := openFiles(t, p), pods+50; n > most {
		t.Errorf("%d descriptors, want %d at most", n, most)
	}
}

// Two destinations of logs have positions of their own: one is away over a restart and a
// rotation, and neither loses or repeats anything.
func TestDestinationsOfLogsHaveTheirOwnPositions(t *testing.T) {
	t.Parallel()
	first, second := kit.StartLogs(t, kit.LogsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("first", first.PushURL(), "spool: {max_bytes: 0}"), lokiTo("second", second.PushURL())}, nil, podLogs(tree.Dir))})
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(100)
	wantOnce(t, tree, first)
	wantOnce(t, tree, second)
	first.Down()
	for range 2 {
		c.Write(100)
		wantOnce(t, tree, second)
		c.Rotate(5)
		if code, took := p.Stop(); code != 0 || took > stopLimit {
			t.Fatalf("exit code %d after %s", code, took)
		}
		c.Write(100)
		p = p.Again(t)
		wantOnce(t, tree, second)
	}
	check(t, first.Up())
	wantOnce(t, tree, first)
	c.Write(10)
	wantOnce(t, tree, first)
	wantOnce(t, tree, second)
	waitBalance(t, p)
}

// L6, L12, L14: an ordinary file of the node is renamed, copied and truncated, and created anew,
// with a SIGKILL in between. Each line arrives, those of the same life once.
func TestFilesOfTheNodeAreRotatedInEveryWay(t *testing.T) {
	t.Parallel()
	loki, dir := kit.StartLogs(t, kit.LogsConfig{}), t.TempDir()
	path := filepath.Join(dir, "machined.log")
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil,
		fmt.Sprintf("file_logs: [{paths: [%q], labels: {job: node}}]", filepath.Join(dir, "*.log")),
		"pod_logs: {enabled: false, scan_interval: 200ms}")})
	var want []string
	lines := func(n int) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		check(t, err)
		for range n {
			text := fmt.Sprintf("line %d of the node", len(want))
			want = append(want, text)
			_, err := f.WriteString(text + "\n")
			check(t, err)
		}
		check(t, f.Close())
	}
	arrived := func() {
		t.Helper()
		waitTexts(t, loki, fmt.Sprintf("{job=\"node\",filename=%q}", path), want)
	}
	lines(50)
	arrived()
	check(t, os.Rename(path, path+".1")) // logrotate, create
	lines(50)
	arrived()
	check(t, os.Truncate(path, 0)) // logrotate, copytruncate
	lines(10)
	arrived()
	check(t, os.Remove(path))
	lines(50)
	arrived()
	if n := len(loki.Texts("", "")); n != len(want) {
		t.Errorf("%d lines, want %d", n, len(want))
	}
	lines(50)
	p.Kill()
	lines(50)
	p = p.Again(t)
	arrived()
	waitBalance(t, p)
}
