//go:build torture

package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// lineSize is the length of a text such that a line of the file has 289 bytes.
const lineSize = 248

// L2, L33, P7, P15: kills under load. It runs alone, since it needs both processors.
func TestTortureL02L33KillsUnderLoad(t *testing.T) {
	t.Run("L02 20 MB/s with rotations", testKeepingUp)
	t.Run("L33 hundred kills", testHundredKillsOfLogs)
}

// testKeepingUp writes 20 MB/s for a minute to containers whose files are rotated, while the
// program is killed at random. Nothing is lost, nothing comes in another order, and what comes
// again is bounded by a second of reading or a mebibyte a file for each kill.
func testKeepingUp(t *testing.T) {
	const containers, perSecond, lasts = 8, 20_000_000 / 289 / 8, time.Minute
	flood := kit.NewFlood(lineSize)
	loki := kit.StartLogs(t, kit.LogsConfig{Take: flood.Take})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	rnd := random(t)
	var writers sync.WaitGroup
	began := time.Now()
	for i := range containers {
		c := tree.Pod("shop", fmt.Sprintf("pod-%d", i)).Container("main")
		writers.Go(func() {
			const tick = 10 * time.Millisecond
			ticker := time.NewTicker(tick)
			defer ticker.Stop()
			written, rotated := 0, time.Now()
			for range ticker.C {
				at := time.Since(began)
				if at > lasts {
					return
				}
				due := int(at.Seconds() * perSecond)
				flood.Write(c, due-written)
				written = due
				if time.Since(rotated) > 10*time.Second {
					c.Rotate(5)
					rotated = time.Now()
				}
			}
		})
	}
	kills := 0
	for time.Since(began) < lasts {
		live(t, p, between(rnd, 2*time.Second, 6*time.Second))
		p.Kill()
		p = p.Again(t)
		kills++
	}
	writers.Wait()
	ended := time.Now()
	kit.Eventually(t, time.Minute, "every line", func() error { return flood.Report().Err() })
	rep := flood.Report()
	t.Logf("%d lines in %s, %d kills, the last line %s after the end, %d lines repeated, %d for each kill",
		rep.Written, time.Since(began).Round(time.Second), kills, time.Since(ended).Round(time.Millisecond), rep.Repeated, rep.Repeated/kills)
	// Two files of a container can be under way.
	if most := kills * containers * 2 * (1 << 20) / 289; rep.Repeated > most {
		t.Errorf("%d lines repeated, want %d at most", rep.Repeated, most)
	}
	if n, err := p.Metric("ingot_podlogs_lost_bytes_total"); err != nil || n > 0 {
		t.Errorf("%g bytes counted as lost (%v)", n, err)
	}
	waitBalance(t, p)
}

// testHundredKillsOfLogs kills the program a hundred times while Loki takes everything.
func testHundredKillsOfLogs(t *testing.T) {
	const kills, perSecond, containers = 100, 200, 3
	rnd := random(t)
	loki := kit.StartLogs(t, kit.LogsConfig{})
	loki.Faults.Set(kit.Slow(20 * time.Millisecond))
	tree, stop := startTree(t, perSecond, containers)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	for range kills {
		live(t, p, between(rnd, 50*time.Millisecond, 1200*time.Millisecond))
		p.Kill()
		p = p.Again(t)
	}
	stop()
	repeats := waitLines(t, tree, loki)
	most := kills * perSecond * containers // a second of reading
	t.Logf("%d kills, %d lines, %d repeated (at most %d)", kills, len(tree.Written()), repeats, most)
	if repeats > most {
		t.Errorf("%d lines repeated after %d kills, want at most %d", repeats, kills, most)
	}
	waitBalance(t, p)
}

// peakMemory returns the largest resident size that a process has had, in bytes.
func peakMemory(t *testing.T, p *kit.Process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			check(t, err)
			return n << 10
		}
	}
	t.Fatal("the kernel does not tell the peak of the resident memory")
	return 0
}

// L41, L42, P21: nodes with more than is usual.
func TestTortureL41L42LargeNodes(t *testing.T) {
	t.Run("L41 20 GB of old logs", testOldLogs)
	t.Run("L42 10000 files", func(t *testing.T) { testWatches(t, 10_000, 200) })
}

// testOldLogs is the first start on a node with 20 GB of old logs. They are sparse files with
// islands of lines, since a disk is not to be filled. All lines arrive, what is written
// meanwhile does not wait for the old, and memory stays below 128 MiB.
func testOldLogs(t *testing.T) {
	const containers, islands, perIsland, hole = 20, 16, 2000, 64 << 20
	flood := kit.NewFlood(lineSize)
	loki := kit.StartLogs(t, kit.LogsConfig{Take: flood.Take})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	apparent := int64(0)
	for i := range containers {
		c := tree.Pod("shop", fmt.Sprintf("old-%d", i)).Container("main")
		for range islands {
			flood.Write(c, perIsland)
			check(t, os.Truncate(c.Path(), size(t, c.Path())+hole))
		}
		flood.Write(c, perIsland)
		apparent += size(t, c.Path())
	}
	dense := 0
	for i := range 10 { // and a backlog without holes
		c := tree.Pod("shop", fmt.Sprintf("dense-%d", i)).Container("main")
		flood.Write(c, 100_000)
		dense += int(size(t, c.Path()))
	}
	fresh := tree.Pod("shop", "fresh").Container("main")
	flood.Write(fresh, 1)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	began := time.Now()
	worst := time.Duration(0)
	for rep := flood.Report(); rep.Arrived < rep.Written; rep = flood.Report() {
		if time.Since(began) > 3*time.Minute {
			t.Fatal(rep.Err())
		}
		// A line of a new container each second.
		live(t, p, time.Second)
		c := tree.Pod("shop", fmt.Sprintf("new-%d", int(time.Since(began).Seconds()))).Container("main")
		flood.Write(c, 1)
		written := time.Now()
		kit.Eventually(t, time.Minute, "a new line", func() error {
			if flood.Arrived(c) == 0 {
				return fmt.Errorf("not arrived: %w", flood.Report().Err())
			}
			return nil
		})
		worst = max(worst, time.Since(written))
	}
	peak := peakMemory(t, p)
	t.Logf("%d MiB of sparse and %d MiB of dense files, %d lines, after %s; a new line took %s at most, resident memory %d MiB at most",
		apparent>>20, dense>>20, flood.Report().Written, time.Since(began).Round(time.Second), worst.Round(time.Millisecond), peak>>20)
	if peak > 128<<20 {
		t.Errorf("resident memory %d MiB, want 128 at most", peak>>20)
	}
	if most := 10 * time.Second; worst > most {
		t.Errorf("a new line took %s, want %s at most", worst, most)
	}
	waitBalance(t, p)
	if files, err := filepath.Glob(filepath.Join(p.Dir(), "data", "*.bad")); err != nil || len(files) > 0 {
		t.Errorf("files put aside: %v (%v)", files, err)
	}
}

// testPowerCutOfLogs cuts the power while lines are spooled: a position never goes on over
// lines that were not synced. Files that the node removed since are gone, so nothing is removed.
func testPowerCutOfLogs(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(100)
	wantOnce(t, tree, loki)
	for range 3 {
		log := filepath.Join(t.TempDir(), "strace")
		detach := trace(t, p.Pid(), "-y", "-s0", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", log)
		loki.Down()
		before := size(t, c.Path())
		stop := writeSteadily(t, 500, c)
		kit.Eventually(t, soon, "positions that went on over spooled lines", func() error {
			status, err := logs(p)
			if err != nil || len(status.Files) != 1 || status.Files[0].Acknowledged <= before+(100<<10) {
				return fmt.Errorf("files are %+v (%w)", status.Files, err)
			}
			return nil
		})
		live(t, p, 1500*time.Millisecond) // so that they are on disk as well
		p.Kill()
		detach()
		stop()
		t.Logf("%d bytes had not been synced", cutUnsynced(t, log))
		check(t, loki.Up())
		p = p.Again(t)
		waitLines(t, tree, loki)
	}
	waitBalance(t, p)
}
