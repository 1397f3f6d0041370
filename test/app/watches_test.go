package app_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// fewWatches returns what runs the program in a namespace in which so many directories can be
// watched.
func fewWatches(t *testing.T, n int) []string {
	t.Helper()
	wrap := []string{"unshare", "--user", "--map-root-user", "sh", "-c", fmt.Sprintf(`echo %d > /proc/sys/user/max_inotify_watches && exec "$@"`, n), "sh"}
	try := append(append([]string(nil), wrap...), "cat", "/proc/sys/user/max_inotify_watches")
	if out, err := exec.CommandContext(t.Context(), try[0], try[1:]...).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(n) {
		t.Skipf("no user namespace with limits of its own here: %v %s", err, out)
	}
	return wrap
}

// L42: thousands of files of which few are active, and not nearly enough watches. What comes
// is found by looking through the directories, within ten seconds, and nothing is lost.
func TestL42ExhaustedWatchesFallBackToScans(t *testing.T) {
	t.Parallel()
	testWatches(t, 2000, 40)
}

func testWatches(t *testing.T, files, active int) {
	t.Helper()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	var all []*kit.LoggedContainer
	for i := range files {
		c := tree.Pod("shop", fmt.Sprintf("pod-%d", i)).Container("main")
		if c.Write(1); i%(files/active) == 0 {
			all = append(all, c)
		}
	}
	p := kit.Start(t, kit.ProcessConfig{
		Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, fmt.Sprintf("pod_logs: {enabled: true, path: %q}", tree.Dir)),
		Wrap:   fewWatches(t, 50),
	})
	wantOnce(t, tree, loki)
	const looked = 4 * time.Second
	before := cpu(t, p)
	live(t, p, looked)
	t.Logf("%d silent files, 50 watches: %s of a processor in %s, %d descriptors", files, cpu(t, p)-before, looked, openFiles(t, p))
	began := time.Now()
	for i := range 20 {
		all = append(all, tree.Pod("shop", fmt.Sprintf("late-%d", i)).Container("main"))
	}
	for range 5 {
		for _, c := range all {
			c.Write(10)
			c.Rotate(5)
			c.Write(10)
		}
		wantOnce(t, tree, loki)
	}
	if took := time.Since(began) / 5; took > 10*time.Second {
		t.Errorf("lines of new files took %s, want 10s at most", took)
	}
	waitBalance(t, p)
}
