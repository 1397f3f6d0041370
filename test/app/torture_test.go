//go:build torture

// The scenarios that need root, strace or minutes: make torture. Everything they touch is a
// process, a mount or a control group of their own.

package app_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// R3, R4, P7: a hundred SIGKILLs each, with a backend that is slow and with one that is away
// for a third of them.
func TestTortureR03R04HundredKills(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, durability string }{{"R03 slow", "behind"}, {"R03 slow always", "always"}, {"R04 away", "behind"}, {"R04 away always", "always"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const kills = 100
			k := killer{least: 100 * time.Millisecond, most: 1500 * time.Millisecond, rnd: random(t), answer: 30 * time.Millisecond}
			r := newRig(t, rigConfig{targets: 4, series: 3, blocks: []string{"data: {durability: " + c.durability + "}"}})
			r.mimir.Faults.Set(kit.Slow(k.answer))
			for i := range kills {
				if strings.HasPrefix(c.name, "R04") {
					switch i % 30 {
					case 10:
						from := time.Now()
						r.mimir.Down()
						k.cuts = append(k.cuts, span{from, time.Now()})
					case 20:
						check(t, r.mimir.Up())
					}
				}
				r.p = k.next(t, r.p)
			}
			check(t, r.mimir.Up())
			r.mimir.Faults.Clear()
			r.scrapes(t, 3)
			must := func(*kit.Target) func(kit.Scrape) bool { return k.settled }
			if c.durability == "always" {
				must = k.followed
			}
			k.checkLedger(t, r.all, r.mimir, must)
			waitBalance(t, r.p)
		})
	}
}

// R5: the kernel kills the process for its memory in the middle of an outage.
func TestTortureR05OutOfMemoryKill(t *testing.T) {
	t.Parallel()
	k := killer{rnd: random(t)}
	r := newRig(t, rigConfig{targets: 3, series: 20})
	r.complete(t)
	r.mimir.Down()
	r.scrapes(t, 8)
	group := limitMemory(t, r.p.Pid())
	began := time.Now()
	r.all[0].SetPage(func(n int64, _ *http.Request) (string, []byte) {
		var b bytes.Buffer
		for i := range 300_000 {
			fmt.Fprintf(&b, "grown{i=\"%d\",n=\"%d\",text=\"something that is kept for as long as the series lasts\"} 1\n", i, n)
		}
		return textType, b.Bytes()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code, err := r.p.Wait(ctx)
	k.kills = append(k.kills, span{began, time.Now()})
	if err != nil || code != 128+int(syscall.SIGKILL) {
		t.Fatalf("exit code %d (%v), want a kill by the kernel within %s", code, err, group)
	}
	r.all[0].SetPage(nil)
	r.p = r.p.Again(t)
	check(t, r.mimir.Up())
	r.scrapes(t, 3)
	k.checkLedger(t, r.all[1:], r.mimir, func(*kit.Target) func(kit.Scrape) bool { return k.settled })
	waitBalance(t, r.p)
}

// limitMemory puts a process into a control group that has hardly more memory than the
// process uses, and returns the group.
func limitMemory(t *testing.T, pid int) string {
	t.Helper()
	root, limit, usage := "/sys/fs/cgroup", "memory.max", "memory.current"
	if _, err := os.Stat(filepath.Join(root, "memory", "memory.limit_in_bytes")); err == nil {
		root, limit, usage = filepath.Join(root, "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
	}
	group := filepath.Join(root, fmt.Sprintf("ingot-torture-%d", pid))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("control groups cannot be written here: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(group) }) // it may still hold a process that is going away
	check(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644))
	have, err := os.ReadFile(filepath.Join(group, usage))
	check(t, err)
	used, err := strconv.Atoi(strings.TrimSpace(string(have)))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(group, limit), []byte(strconv.Itoa(used+(12<<20))), 0o644))
	return group
}

// trace attaches strace to a process until the returned function is called.
func trace(t *testing.T, pid int, args ...string) (detach func()) {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is missing: apt-get install strace")
	}
	cmd := exec.CommandContext(t.Context(), path, append(args, "-f", "-p", strconv.Itoa(pid))...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // a killed strace would leave threads stopped
	out, err := cmd.StderrPipe()
	check(t, err)
	check(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "attached") {
			break
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() { // so that strace never waits for us
		}
		_ = cmd.Wait() // an interrupt is how it ends
	}()
	return func() {
		_ = cmd.Process.Signal(os.Interrupt) // fails only when it has ended with the process
		<-done
	}
}

// R6, L34, P8: power is lost: what was not synced is gone, which is a second's worth at most, also
// with always, where a block is written before it is sent and synced soon after. The durable length of every queue file
// is what strace saw synced; the rest is cut off after a SIGKILL.
func TestTortureR06PowerCut(t *testing.T) {
	t.Parallel()
	for _, durability := range []string{"behind", "always"} {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			k := killer{rnd: random(t)}
			r := newRig(t, rigConfig{targets: 3, series: 20, blocks: []string{"data: {durability: " + durability + "}"}})
			r.complete(t)
			log := filepath.Join(t.TempDir(), "strace")
			detach := trace(t, r.p.Pid(), "-y", "-s0", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", log)
			r.mimir.Down()
			r.scrapes(t, 12)
			from := time.Now()
			r.p.Kill()
			k.kills = append(k.kills, span{from, time.Now()})
			detach()
			cut := cutUnsynced(t, log)
			t.Logf("%d bytes had not been synced", cut)
			check(t, r.mimir.Up())
			r.p = r.p.Again(t)
			r.scrapes(t, 3)
			const synced = time.Second
			until := k.kills[0].from.Add(-flushInterval - synced - margin)
			waitScrapes(t, r.all, r.mimir, func(s kit.Scrape) bool { return s.Ended.Before(until) })
			for i, target := range r.all {
				if missing := missingScrapes(target, r.mimir, func(s kit.Scrape) bool { return s.Began.Before(from) }); len(missing) > 0 {
					t.Logf("target %d: %d scrapes lost, the oldest %s before the cut", i, len(missing), from.Sub(missing[0].Ended))
				}
			}
			waitBalance(t, r.p)
		})
	}
	t.Run("L34 lines", testPowerCutOfLogs)
}

var (
	callBegins = regexp.MustCompile(`^(\d+) +(write|pwrite64|fsync|fdatasync)\(\d+<([^>]*\.seg)>`)
	callGoesOn = regexp.MustCompile(`^(\d+) +<\.\.\. (write|pwrite64|fsync|fdatasync) resumed>`)
	callEnds   = regexp.MustCompile(`\) += (-?\d+)`)
)

// cutUnsynced shortens the queue files to what a log of strace saw synced and returns by how
// many bytes.
func cutUnsynced(t *testing.T, log string) (cut int64) {
	t.Helper()
	file, err := os.Open(log)
	check(t, err)
	defer file.Close()
	type call struct{ name, path string }
	pending := make(map[string]call) // by thread
	written, durable := make(map[string]int64), make(map[string]int64)
	before := make(map[string]int64) // bytes written when a sync that is under way began
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		var c call
		thread := ""
		if m := callBegins.FindStringSubmatch(line); m != nil {
			thread, c = m[1], call{m[2], m[3]}
			pending[thread] = c
			before[thread] = written[c.path]
		} else if m := callGoesOn.FindStringSubmatch(line); m != nil {
			thread, c = m[1], pending[m[1]]
		}
		end := callEnds.FindStringSubmatch(line)
		if c.path == "" || end == nil {
			continue
		}
		delete(pending, thread)
		n, err := strconv.ParseInt(end[1], 10, 64)
		check(t, err)
		switch {
		case n < 0:
		case strings.HasSuffix(c.name, "sync"):
			durable[c.path] = max(durable[c.path], before[thread])
		default:
			written[c.path] += n
		}
	}
	for path, n := range written {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		check(t, err)
		if keep := info.Size() - (n - durable[path]); keep < info.Size() {
			cut += info.Size() - keep
			check(t, os.Truncate(path, max(keep, 0)))
		}
	}
	return cut
}

// R32, R33, L43, P12: a small disk that is full. With a backend that is there nothing is lost;
// without it the process stays up, scrapes, drops and counts; with space again it recovers
// within a minute.
func TestTortureR32R33FullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	mkdir(t, data)
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a tmpfs: %v; run as root", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(data, syscall.MNT_DETACH)) })
	mimir, all := kit.StartMetrics(t, kit.MetricsConfig{}), targets(t, 2, 10)
	p := kit.Start(t, kit.ProcessConfig{Dir: dir, Config: config([]string{prometheusTo("metrics", mimir.PushURL())}, []string{scrapeJob("app", all)}, "data: {durability: always}")})
	r := &rig{mimir: mimir, all: all, p: p}
	r.complete(t)
	filler := filepath.Join(data, "filler")
	fill := func() {
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		check(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		check(t, f.Close())
	}
	fill()
	r.until(t, "a disk error", func(q queue) bool { return q.DiskError != "" })
	r.scrapes(t, 6)
	if again := r.complete(t); again > 0 { // R33
		t.Errorf("%d samples repeated", again)
	}
	mimir.Down() // R32
	fill()
	r.scrapes(t, 8)
	if p.Ended() {
		t.Fatal("the process has ended")
	}
	check(t, os.Remove(filler))
	freed := time.Now()
	kit.Eventually(t, time.Minute, "the end of the disk error", func() error {
		have, err := queues(p)
		if q := have["metrics"]; err != nil || q.DiskError != "" {
			return fmt.Errorf("%+v (%w)", q, err)
		}
		return nil
	})
	t.Logf("recovered %s after there was space", time.Since(freed).Round(time.Millisecond))
	check(t, mimir.Up())
	waitScrapes(t, all, mimir, func(s kit.Scrape) bool { return s.Began.After(freed) && before(time.Now())(s) })
	kit.Eventually(t, soon, "as many samples in the ledger as were sent", func() error {
		q := r.queue(t)
		if have, repeated := stored(mimir); q.Sent.Items != have+repeated {
			return fmt.Errorf("%d samples sent, %d in the ledger, %d of them again; dropped %v", q.Sent.Items, have+repeated, repeated, q.Dropped)
		}
		return nil
	})
	waitBalance(t, p)
}

// R35, P12: syncs fail with EIO. It is counted and seen, the live path goes on, and when the
// disk is well again everything is on disk as before: a kill loses nothing.
func TestTortureR35FailingSync(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 2, series: 10, blocks: []string{"data: {durability: always}"}})
	r.complete(t)
	detach := trace(t, r.p.Pid(), "-o", os.DevNull, "-e", "inject=fsync,fdatasync:error=EIO")
	r.until(t, "a disk error", func(q queue) bool { return strings.Contains(q.DiskError, "input/output error") })
	r.scrapes(t, 6)
	r.complete(t)
	m, err := r.p.Metrics()
	check(t, err)
	if n := m.Sum(`ingot_delivery_disk_errors_total{endpoint="metrics"}`); n == 0 {
		t.Error("no disk error is counted")
	}
	detach()
	kit.Eventually(t, time.Minute, "the end of the disk error", func() error {
		have, err := queues(r.p)
		if q := have["metrics"]; err != nil || q.DiskError != "" {
			return fmt.Errorf("%+v (%w)", q, err)
		}
		return nil
	})
	r.mimir.Down()
	r.scrapes(t, 6)
	k := killer{}
	from := time.Now()
	r.p.Kill()
	k.kills = append(k.kills, span{from, time.Now()})
	check(t, r.mimir.Up())
	r.p = r.p.Again(t)
	r.scrapes(t, 2)
	k.checkLedger(t, r.all, r.mimir, k.followed)
}

// R43: each sync takes two seconds. Scrapes are not late, and nothing is lost. With always,
// where a scrape is on disk before the next of the same target begins, they wait for one sync.
func TestTortureR43SlowDisk(t *testing.T) {
	t.Parallel()
	for _, durability := range []string{"behind", "always"} {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigConfig{targets: 2, series: 10, blocks: []string{"data: {durability: " + durability + "}"}})
			r.complete(t)
			detach := trace(t, r.p.Pid(), "-o", os.DevNull, "-e", "inject=fsync,fdatasync:delay_enter=2000000")
			defer detach()
			most := 2*interval + margin
			if durability == "always" {
				most += 2 * time.Second
			}
			began := time.Now()
			r.scrapes(t, 8)
			r.outage(t, 12)
			for i, target := range r.all {
				worst, last := time.Duration(0), began
				for _, s := range target.Served() {
					if s.Began.After(began) {
						worst, last = max(worst, s.Began.Sub(last)), s.Began
					}
				}
				if worst > most {
					t.Errorf("target %d was left alone for %s, want %s at most", i, worst, most)
				}
			}
			r.complete(t)
		})
	}
}

// R29, R30, P14: many targets, random delays and failures for a while, with kills and stops.
func TestTortureR29OrderUnderEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 16, series: 20, blocks: []string{"data: {durability: always}"}})
	k := killer{rnd: random(t), answer: 300 * time.Millisecond}
	codes := random(t)
	r.mimir.Faults.Choose(func(*http.Request) (kit.Fault, bool) {
		f := kit.Slow(time.Duration(codes.IntN(300)) * time.Millisecond)
		switch codes.IntN(20) {
		case 0:
			f.Status = http.StatusServiceUnavailable
		case 1:
			f.CutAfter = true
		case 2:
			f.Status, f.RetryAfter = http.StatusTooManyRequests, "1"
		}
		return f, true
	})
	for round := range 10 {
		r.scrapes(t, 6)
		switch round % 3 {
		case 0:
			from := time.Now()
			r.p.Kill()
			k.kills = append(k.kills, span{from, time.Now()})
			r.p = r.p.Again(t)
		case 1:
			if code, took := r.p.Stop(); code != 0 || took > stopLimit {
				t.Errorf("exit code %d after %s", code, took)
			}
			r.p = r.p.Again(t)
		default:
			r.outage(t, 4)
		}
	}
	r.mimir.Faults.Clear()
	r.scrapes(t, 2)
	for _, target := range r.all {
		waitScrapes(t, []*kit.Target{target}, r.mimir, k.followed(target))
	}
	for _, s := range r.mimir.Disorder() {
		t.Errorf("out of order: %+v", s)
	}
	waitBalance(t, r.p)
}

// R44, P21: a start with some hundred megabytes of backlog is quick and takes no memory for it.
func TestTortureR44StartWithABacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 4, series: 3, blocks: []string{"data: {max_bytes: 2GiB}"}})
	r.complete(t)
	if code, _ := r.p.Stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	r.p = r.p.Again(t)
	r.scrapes(t, 3)
	rss := func() float64 {
		n, err := r.p.Metric("process_resident_memory_bytes")
		check(t, err)
		return n
	}
	without := rss()
	r.mimir.Down()
	rnd := random(t)
	for _, target := range r.all {
		target.SetExtra(bulk(rnd, 2<<20))
	}
	var q queue
	kit.Eventually(t, 3*time.Minute, "a backlog of 200 MiB", func() error {
		if q = r.queue(t); q.Disk.Bytes < 200<<20 {
			return fmt.Errorf("%+v", q.Disk)
		}
		return nil
	})
	for _, target := range r.all {
		target.SetExtra("")
	}
	if code, took := r.p.Stop(); code != 0 || took > stopLimit {
		t.Fatalf("exit code %d after %s", code, took)
	}
	began := time.Now()
	r.p = r.p.Again(t)
	ready := time.Since(began)
	r.scrapes(t, 3)
	with := rss()
	t.Logf("%d MiB wait: ready after %s, resident memory %.0f MiB instead of %.0f", q.Disk.Bytes>>20, ready.Round(time.Millisecond), with/(1<<20), without/(1<<20))
	if ready > 10*time.Second {
		t.Errorf("ready after %s, want 10 s at most", ready)
	}
	if with > without*1.1+(8<<20) {
		t.Errorf("resident memory %.0f MiB instead of %.0f", with/(1<<20), without/(1<<20))
	}
	check(t, r.mimir.Up())
	kit.Eventually(t, 2*time.Minute, "the end of the backlog", func() error {
		if q := r.queue(t); q.Disk.Blocks > 0 {
			return fmt.Errorf("%+v", q.Disk)
		}
		return nil
	})
	r.complete(t)
}
