package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// collect starts a Loki, a tree and the program between them.
func collect(t *testing.T) (*kit.LogsReceiver, *kit.PodLogWriter, *kit.Process) {
	t.Helper()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	return loki, tree, p
}

// wantOnce waits for all lines and fails when one was sent twice.
func wantOnce(t *testing.T, tree *kit.PodLogWriter, loki *kit.LogsReceiver) {
	t.Helper()
	if n := waitLines(t, tree, loki); n > 0 {
		t.Errorf("%d lines arrived twice", n)
	}
}

// L1, L3, L4, L5, L9, P15: the kubelet rotates under load, keeps rotated files or deletes them
// at once, rotates twice before we look, and renames back. Each line arrives once, in order.
func TestRotationUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	keeps := tree.Pod("shop", "keeps").Container("main")
	deletes := tree.Pod("shop", "deletes").Container("main")
	stop := writeSteadily(t, 1000, keeps, deletes)
	for i := range 8 {
		live(t, p, 400*time.Millisecond)
		switch i % 4 {
		case 1:
			keeps.Rotate(5)
			keeps.Rotate(5)
		case 3:
			keeps.RotateFailed()
		default:
			keeps.Rotate(5)
		}
		deletes.Rotate(2)
	}
	stop()
	kit.Eventually(t, soon, "every line, also of removed files", func() error { return tree.Report(loki, "").Err() })
	wantOnce(t, tree, loki)
	t.Logf("%d lines", len(tree.Written()))
	waitBalance(t, p)
}

// L6, L32, P16: one rotation while the program is not there.
func TestRotationWhileDownLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(100)
	wantOnce(t, tree, loki)
	c.Write(100) // some of these are read before the stop, some after the start
	if code, took := p.Stop(); code != 0 {
		t.Fatalf("exit code %d after %s", code, took)
	}
	c.Write(100)
	c.Rotate(5)
	c.Write(100)
	p = p.Again(t)
	wantOnce(t, tree, loki)
	waitBalance(t, p)
}

// L7: three rotations while the program is not there: two files are compressed by then, one of
// them half read before. Each line arrives once, in order.
func TestDownOverThreeRotationsLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(100)
	wantOnce(t, tree, loki)
	if code, took := p.Stop(); code != 0 {
		t.Fatalf("exit code %d after %s", code, took)
	}
	for range 3 {
		c.Write(1000)
		c.Rotate(5)
	}
	c.Write(100)
	if names, err := filepath.Glob(c.Path() + ".*.gz"); len(names) != 2 {
		t.Fatalf("compressed files are %v (%v), want two", names, err)
	}
	p = p.Again(t)
	wantOnce(t, tree, loki)
	waitBalance(t, p)
	c.Rotate(5)
	c.Write(100)
	p.Kill()
	c.Rotate(5)
	c.Write(100)
	p = p.Again(t)
	waitLines(t, tree, loki)
	waitBalance(t, p)
	if n, err := p.Metric("ingot_podlogs_lost_bytes_total"); err != nil || n != 0 {
		t.Errorf("%g bytes counted as lost (%v), want 0", n, err)
	}
}

// L33: killed again and again while compressed files are read.
func TestKillWhileCompressedFilesAreReadLosesNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	p.Kill()
	c := tree.Pod("shop", "cart").Container("main")
	for range 3 {
		c.Write(20_000)
		c.Rotate(5)
	}
	c.Write(100)
	for range 4 {
		p = p.Again(t)
		live(t, p, 300*time.Millisecond)
		p.Kill()
	}
	p = p.Again(t)
	t.Logf("%d lines arrived twice", waitLines(t, tree, loki))
	waitBalance(t, p)
}

// L8: the file that was not read to its end is removed while the program is not there. What was
// in it is counted, as far as it was seen, and named once; everything else arrives.
func TestFileRemovedWhileDownIsCountedAsLost(t *testing.T) {
	t.Parallel()
	loki, tree := kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
	// A spool would have the lines.
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL(), "spool: {max_bytes: 0}")}, nil, podLogs(tree.Dir))})
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(10)
	wantOnce(t, tree, loki)
	loki.Down()
	before := size(t, c.Path())
	c.Write(100)
	lost := float64(size(t, c.Path()) - before)
	kit.Eventually(t, soon, "unacknowledged bytes", func() error {
		status, err := logs(p)
		if err != nil || len(status.Files) != 1 || status.Files[0].Size != size(t, c.Path()) {
			return fmt.Errorf("files are %+v (%w)", status.Files, err)
		}
		return nil
	})
	if code, took := p.Stop(); code != 0 {
		t.Fatalf("exit code %d after %s", code, took)
	}
	for range 5 {
		c.Rotate(2) // Only one rotated file stays.
		c.Write(10)
	}
	if err := loki.Up(); err != nil {
		t.Fatal(err)
	}
	p = p.Again(t)
	waitMetric(t, p, `ingot_podlogs_lost_bytes_total{reason="rotated_away"}`, lost)
	kit.Eventually(t, soon, "every line that the node kept", func() error { return tree.ReportPresent(loki, "").Err() })
	status, err := logs(p)
	if err != nil || len(status.Lost) != 1 || status.Lost[0].Pod != "cart" || status.Lost[0].Path != c.Path() {
		t.Errorf("losses are %+v (%v)", status.Lost, err)
	}
	waitBalance(t, p)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// L15, L16: a container that is restarted again and again.
func TestContainerRestartsLoseNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "crashes").Container("main")
	for range 20 {
		c.Write(50)
		c.Restart()
	}
	c.Write(50)
	wantOnce(t, tree, loki)
	waitBalance(t, p)
}

// L17, P17: pods that live a second and are deleted with all they wrote.
func TestShortPodsLoseNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	for i := range 5 {
		pod := tree.Pod("shop", fmt.Sprintf("job-%d", i))
		c := pod.Container("main")
		c.Write(500)
		live(t, p, time.Second)
		c.Write(500)
		pod.Remove(c)
	}
	kit.Eventually(t, soon, "every line, although the pods are gone", func() error { return tree.Report(loki, "").Err() })
	wantOnce(t, tree, loki)
	waitBalance(t, p)
}

// L19: pods are deleted while Loki is away and, without a spool, most of their lines are unread.
// The open files are read to their ends when it is back.
func TestDeletedPodWithUnreadLinesLosesNothing(t *testing.T) {
	t.Parallel()
	loki, tree := kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL(), "spool: {max_bytes: 0}")}, nil, podLogs(tree.Dir))})
	pod := tree.Pod("shop", "cart")
	c := pod.Container("main")
	c.Write(10)
	wantOnce(t, tree, loki)
	loki.Down()
	// More than the queue takes into memory.
	for range 3000 {
		c.Write(1)
		c.Line("stdout", noise(8<<10))
	}
	kit.Eventually(t, soon, "a full queue", func() error {
		have, err := queues(p)
		if q := have["logs"]; err != nil || q.State != "retrying" || q.Memory.Bytes < 1<<20 {
			return fmt.Errorf("queue is %+v (%w)", q, err)
		}
		return nil
	})
	c.Rotate(5)
	c.Write(100)
	// The new file is open once it is listed.
	unread := int64(0)
	kit.Eventually(t, soon, "both files listed", func() error {
		status, err := logs(p)
		if err != nil || len(status.Files) != 2 {
			return fmt.Errorf("%d files (%w)", len(status.Files), err)
		}
		for _, f := range status.Files {
			unread += f.Size - f.Read
		}
		return nil
	})
	if t.Logf("%d bytes unread", unread); unread == 0 {
		t.Fatal("everything was read before the pod was deleted, which shows nothing")
	}
	pod.Remove(c)
	if err := loki.Up(); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, soon, "every line, although the pod is gone", func() error { return tree.Report(loki, "").Err() })
	wantOnce(t, tree, loki)
	waitBalance(t, p)
}

// L22 to L25, P18: parts of long lines on both streams, with a rotation and a SIGKILL in
// between. Each line arrives whole and once.
func TestPartialLinesAcrossRotationAndKillArriveWhole(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(5)
	c.Long("stdout", strings.Repeat("long line ", 10<<10))
	c.Part("stdout", "out one,", false)
	c.Part("stderr", "err one,", false)
	waitMetric(t, p, "ingot_podlogs_parts_pending", 2)
	c.Part("stdout", " out two,", false)
	c.Rotate(5)
	c.Part("stderr", " err two,", false)
	waitMetric(t, p, "ingot_podlogs_parts_pending", 4)
	p.Kill()
	c.Part("stdout", " out three", true)
	p = p.Again(t)
	waitMetric(t, p, "ingot_podlogs_parts_pending", 2) // of stderr
	c.Rotate(5)
	c.Part("stderr", " err three", true)
	c.Write(5)
	repeats := waitLines(t, tree, loki)
	t.Logf("%d lines arrived twice", repeats)
	for _, l := range tree.Written() {
		if n := len(slices.DeleteFunc(loki.Texts("", ""), func(s string) bool { return s != l.Text })); n != 1 {
			t.Errorf("%.40q is in the ledger %d times", l.Text, n)
		}
	}
	waitBalance(t, p)
}

// L26, L27, L28: what has no end is held back as long as it can still come, and sent as it is
// when it cannot.
func TestUnfinishedLinesAreHeldThenSent(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	c.Raw([]byte(criLine("begins")))
	c2 := tree.Pod("shop", "other").Container("main")
	c2.Write(1)
	kit.Eventually(t, soon, "a line written later", func() error {
		if len(loki.Lines("", "")) == 0 {
			return fmt.Errorf("none of %d", len(tree.Written()))
		}
		return nil
	})
	if got := loki.Texts("", ""); len(got) != 1 {
		t.Fatalf("an unfinished line was sent: %q", got)
	}
	c.Raw([]byte(" and ends\n" + criLine("never ends")))
	c.Restart()
	c.Line("stdout", "after the restart")
	c.Part("stdout", "a part without an end", false)
	c.Restart()
	c.Line("stdout", "after the second restart")
	waitTexts(t, loki, "{}", append(texts(tree, "shop"), "begins and ends", "never ends", "a part without an end"))
	waitMetric(t, p, `ingot_podlogs_lines_altered_total{reason="unfinished"}`, 1)
	waitBalance(t, p)
}

// L12: a file that is cut to nothing in place is read from its start again, which is counted.
func TestTruncatedFileIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	for range 3 {
		c.Write(200)
		wantOnce(t, tree, loki)
		c.Truncate()
		c.Write(5)
		wantOnce(t, tree, loki)
	}
	waitMetric(t, p, "ingot_podlogs_truncations_total", 3)
	waitBalance(t, p)
}

// criLine returns a line as the kubelet's log files have it, of now and without its end.
func criLine(text string) string {
	return time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " stdout F " + text
}

// noise returns a text of n bytes that does not compress well.
func noise(n int) string {
	var b strings.Builder
	for x := uint64(time.Now().UnixNano()); b.Len() < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()[:n]
}
