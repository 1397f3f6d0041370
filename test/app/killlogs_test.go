package app_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// writeSteadily writes lines to containers at an even rate until the returned function is
// called, which waits for the last line.
func writeSteadily(t *testing.T, perSecond int, containers ...*kit.LoggedContainer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for _, c := range containers {
		writers.Go(func() {
			const tick = 20 * time.Millisecond
			ticker := time.NewTicker(tick)
			defer ticker.Stop()
			began, written := time.Now(), 0
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					due := int(time.Since(began).Seconds() * float64(perSecond))
					c.Write(due - written)
					written = due
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		writers.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// live lets a process run for a time and fails when it does not last.
func live(t *testing.T, p *kit.Process, d time.Duration) {
	t.Helper()
	select {
	case <-p.Done():
		t.Fatalf("ingot ended by itself:\n%s", p.Log())
	case <-time.After(d):
	}
}

// L33, P7: SIGKILL at random points while Loki takes everything, slowly enough that requests
// are under way. Repeats are what was sent and not yet noted, at most a second of reading.
func TestKillWhileLogsFlowLosesNoLine(t *testing.T) {
	t.Parallel()
	const kills, perSecond, containers = 8, 200, 3
	rnd := random(t)
	loki := kit.StartLogs(t, kit.LogsConfig{})
	loki.Faults.Set(kit.Slow(30 * time.Millisecond))
	tree, stop := startTree(t, perSecond, containers)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	for range kills {
		live(t, p, between(rnd, 100*time.Millisecond, 1500*time.Millisecond))
		p.Kill()
		p = p.Again(t)
	}
	stop()
	repeats := waitLines(t, tree, loki)
	// A life that begins with a backlog reads it faster than it was written, so a second of
	// reading is up to what was written since the kill before the last. On a busy machine the
	// positions of a second are written late; without any, all lines would come 8 times.
	most := kills * perSecond * containers * 4
	t.Logf("%d kills, %d lines, %d repeated (at most %d)", kills, len(tree.Written()), repeats, most)
	if repeats > most {
		t.Errorf("%d lines repeated after %d kills, want at most %d", repeats, kills, most)
	}
	waitBalance(t, p)
}

// L33, L36: SIGKILL at random points while Loki is away. Nothing can be repeated but the
// request that was under way when it went.
func TestKillWhileLokiIsAwayLosesNoLine(t *testing.T) {
	t.Parallel()
	const kills, perSecond, containers = 6, 200, 3
	rnd := random(t)
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree, stop := startTree(t, perSecond, containers)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	live(t, p, between(rnd, 500*time.Millisecond, 1500*time.Millisecond))
	loki.Down()
	for range kills {
		live(t, p, between(rnd, 50*time.Millisecond, 1200*time.Millisecond))
		p.Kill()
		p = p.Again(t)
	}
	if err := loki.Up(); err != nil {
		t.Fatal(err)
	}
	stop()
	repeats := waitLines(t, tree, loki)
	most := perSecond * containers * 2
	t.Logf("%d kills, %d lines, %d repeated (at most %d)", kills, len(tree.Written()), repeats, most)
	if repeats > most {
		t.Errorf("%d lines repeated, want at most %d: only the first kill follows a delivery", repeats, most)
	}
	waitBalance(t, p)
}

// startTree starts a tree of pods with one container each that log at an even rate.
func startTree(t *testing.T, perSecond, pods int) (tree *kit.PodLogWriter, stop func()) {
	t.Helper()
	tree = kit.NewPodLogWriter(t, t.TempDir())
	containers := make([]*kit.LoggedContainer, pods)
	for i := range containers {
		containers[i] = tree.Pod("shop", "pod-"+string(rune('a'+i))).Container("main")
	}
	return tree, writeSteadily(t, perSecond, containers...)
}
