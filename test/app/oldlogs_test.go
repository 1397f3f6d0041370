package app_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// oldTree makes containers whose logs began three hours ago and have size bytes each, of which
// most is a hole in the file, and one that began just now. Each has labels of its own.
func oldTree(t *testing.T, tree *kit.PodLogWriter, containers int, size int64) (old []*kit.LoggedContainer, young *kit.LoggedContainer) {
	t.Helper()
	tree.Now = func() time.Time { return time.Now().Add(-3 * time.Hour) }
	for i := range containers {
		c := tree.Pod("shop", fmt.Sprint("old", i)).Container(fmt.Sprint("main", i))
		c.Write(10)
		check(t, os.Truncate(c.Path(), size))
		old = append(old, c)
	}
	tree.Now = time.Now
	young = tree.Pod("shop", "young").Container("young")
	young.Write(100)
	return old, young
}

// waitPod waits for so many lines of a pod.
func waitPod(t *testing.T, loki *kit.LogsReceiver, pod string, n int) {
	t.Helper()
	kit.Eventually(t, soon, "the lines of "+pod, func() error {
		if have := len(ofPod(loki, pod)); have != n {
			return fmt.Errorf("%d lines, want %d", have, n)
		}
		return nil
	})
}

// L41: 20 GB of old logs at a memory limit of 128 MiB. By default they are left out and counted,
// to the byte; what comes from then on arrives, and nothing of it waits for them.
func TestL41TwentyGigabytesOfOldLogsCostNothing(t *testing.T) {
	t.Parallel()
	const containers, size = 40, 512 << 20
	loki, tree := kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
	old, _ := oldTree(t, tree, containers, size)
	p := kit.Start(t, kit.ProcessConfig{
		Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir), "memory: {limit: 128MiB}"),
	})
	began := time.Now()
	waitPod(t, loki, "young", 100)
	for _, c := range old {
		c.Write(5)
	}
	for i := range old {
		waitPod(t, loki, fmt.Sprint("old", i), 5)
	}
	if took := time.Since(began); took > soon/2 {
		t.Errorf("it took %s until new lines had arrived, want %s", took, soon/2)
	}
	if n, err := p.Metric(`ingot_podlogs_skipped_bytes_total{reason="before_first_start"}`); err != nil || n != containers*size {
		t.Errorf("%.0f bytes were left out (%v), want %d", n, err, containers*size)
	}
	most := peak(t, p)
	t.Logf("peak of memory %d MiB", most>>20)
	if most > 64<<20 {
		t.Errorf("the peak of memory is %d MiB, want 64 at most", most>>20)
	}
	waitBalance(t, p)
}
