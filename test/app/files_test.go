package app_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// L3: several rotations between two looks, for which the program is stopped; by then all files
// but two have been compressed, those that it has open included. All are read, oldest first.
func TestL03BurstOfRotationsKeepsOrder(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	var all []*kit.LoggedContainer
	for i := range 8 {
		all = append(all, tree.Pod("shop", fmt.Sprintf("cart-%d", i)).Container("main"))
	}
	for range 3 {
		check(t, p.Signal(syscall.SIGSTOP))
		for _, c := range all {
			for range 3 {
				c.Write(20)
				c.Rotate(5)
			}
			c.Write(20)
		}
		check(t, p.Signal(syscall.SIGCONT))
		wantOnce(t, tree, loki)
	}
	waitBalance(t, p)
}

// L10: what the kubelet has not finished to compress is never read, whatever is in it.
func TestL10TemporaryFilesAreNeverRead(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(50)
	c.Rotate(5)
	const canary = "from-a-temporary-file"
	for _, name := range []string{".20260102-030405.tmp", ".20260102-030405.gz.tmp", ".tmp"} {
		write(t, c.Path()+name, criLine(canary)+"\n")
	}
	c.Write(50)
	wantOnce(t, tree, loki)
	c.Rotate(5) // which removes leftovers
	c.Write(50)
	wantOnce(t, tree, loki)
	for _, text := range loki.Texts("", "") {
		if strings.Contains(text, canary) {
			t.Fatalf("%q was sent", text)
		}
	}
	waitBalance(t, p)
}

// L11: the file of a new container has the inode of one that is gone, and is longer or shorter
// than what was read of that.
func TestL11ReusedInodeIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	for _, lines := range []int{10, 300} {
		t.Run(strconv.Itoa(lines), func(t *testing.T) {
			t.Parallel()
			loki, tree, p := collect(t)
			pod := tree.Pod("shop", "old")
			c := pod.Container("main")
			c.Write(100)
			wantOnce(t, tree, loki)
			if code, took := p.Stop(); code != 0 {
				t.Fatalf("exit code %d after %s", code, took)
			}
			// The same file under another name and with other content is what a reader meets,
			// on every file system.
			reused := tree.Pod("shop", "new")
			c.Truncate()
			mkdir(t, filepath.Join(reused.Dir(), "main"))
			check(t, os.Rename(c.Path(), filepath.Join(reused.Dir(), "main", "0.log")))
			pod.Remove(c)
			reused.Container("main").Write(lines)
			p = p.Again(t)
			wantOnce(t, tree, loki)
			waitBalance(t, p)
		})
	}
}

// L13: copytruncate with a writer that goes on at its old offset, which leaves a hole of NUL
// bytes. No such byte is sent, and all lines after the cut are.
func TestL13StaleAppenderLeavesNoNULs(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	file, err := os.OpenFile(c.Path(), os.O_WRONLY, 0) // without O_APPEND
	check(t, err)
	t.Cleanup(func() { _ = file.Close() })
	var want []string
	for round := range 3 {
		for i := range 200 {
			text := fmt.Sprintf("round %d line %d", round, i)
			want = append(want, text)
			_, err = file.WriteString(criLine(text) + "\n")
			check(t, err)
		}
		waitTexts(t, loki, "{}", want)
		check(t, os.Truncate(c.Path(), 0))
	}
	_, err = file.WriteString(criLine("after the last cut") + "\n")
	check(t, err)
	waitTexts(t, loki, "{}", append(want, "after the last cut"))
	for _, text := range loki.Texts("", "") {
		if strings.ContainsRune(text, 0) {
			t.Errorf("NUL bytes were sent: %.80q", text)
		}
	}
	waitMetric(t, p, "ingot_podlogs_truncations_total", 1)
	waitBalance(t, p)
}

// L14: the tree is found through a link, which is switched to another tree. What is unread of
// the old one is read to its end, the new one from its start. The links of /var/log/containers
// to the same files yield nothing twice.
func TestL14SwitchedLinkDrainsTheOldAndStartsTheNew(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	old, fresh := kit.NewPodLogWriter(t, t.TempDir()), kit.NewPodLogWriter(t, t.TempDir())
	dir := t.TempDir()
	link, containers := filepath.Join(dir, "pods"), filepath.Join(dir, "containers")
	mkdir(t, containers)
	check(t, os.Symlink(old.Dir, link))
	c := old.Pod("shop", "old").Container("main")
	c.Write(100)
	check(t, os.Symlink(c.Path(), filepath.Join(containers, "old_shop_main-0123.log")))
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(link),
		fmt.Sprintf("file_logs: [{paths: [%q], format: cri}]", filepath.Join(containers, "*.log")),
	)})
	wantOnce(t, old, loki)
	loki.Down()
	for range 10 {
		c.Line("stdout", noise(100<<10))
	}
	// A name is switched in one step, as everybody does who serves a directory by a link.
	check(t, os.Symlink(fresh.Dir, link+".new"))
	check(t, os.Rename(link+".new", link))
	f := fresh.Pod("shop", "fresh").Container("main")
	f.Write(100)
	kit.Eventually(t, soon, "the new file", func() error {
		status, err := logs(p)
		if err != nil || len(status.Files) != 2 {
			return fmt.Errorf("files are %+v (%w)", status.Files, err)
		}
		return nil
	})
	check(t, loki.Up())
	f.Write(100)
	want := append(texts(old, "shop"), texts(fresh, "shop")...)
	waitTexts(t, loki, "{}", want)
	if n := len(loki.Texts("", "")); n != len(want) || loki.Repeats("", "") > 0 {
		t.Errorf("%d lines stored and %d repeated, want %d and none", n, loki.Repeats("", ""), len(want))
	}
	waitBalance(t, p)
}

// openFiles returns how many descriptors a process has.
func openFiles(t *testing.T, p *kit.Process) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	check(t, err)
	return len(entries)
}

// L16: containers that crash again and again, of which the files of the last two runs are
// kept. Each file is there for more than a second. Nothing is lost, and descriptors do not
// grow with the number of runs.
func TestL16CrashLoopLosesNothingAndKeepsNothingOpen(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	const restarts = 10
	var all []*kit.LoggedContainer
	for i := range 20 {
		all = append(all, tree.Pod("shop", fmt.Sprintf("crashes-%d", i)).Container("main"))
	}
	before, began := openFiles(t, p), time.Now()
	for range restarts {
		for _, c := range all {
			c.Write(10)
			c.Prune(2)
			c.Restart()
		}
		live(t, p, 600*time.Millisecond)
	}
	t.Logf("%d containers restarted %d times: %s of a processor in %s, %d descriptors", len(all), restarts, cpu(t, p), time.Since(began).Round(time.Second), openFiles(t, p))
	for _, c := range all {
		c.Prune(2)
	}
	kit.Eventually(t, soon, "every line, also of removed files", func() error { return tree.Report(loki, "").Err() })
	wantOnce(t, tree, loki)
	kit.Eventually(t, soon, "the descriptors of removed files closed", func() error {
		if n, most := openFiles(t, p), before+3*len(all); n > most {
			return fmt.Errorf("%d descriptors, %d before, want %d at most", n, before, most)
		}
		return nil
	})
	waitBalance(t, p)
}

// L18, P17: pods that live for 200 ms and are deleted with all they wrote. Of a hundred not one
// is incomplete.
func TestL18PodsOf200MillisecondsLoseNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	tree.Pod("shop", "cart").Container("main").Write(10)
	wantOnce(t, tree, loki)
	const lanes, each = 10, 10
	done := make(chan struct{})
	for lane := range lanes {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range each {
				pod := tree.Pod("shop", fmt.Sprintf("job-%d-%d", lane, i))
				c := pod.Container("main")
				c.Write(20)
				select { // The life of the pod, not a wait for something.
				case <-time.After(200 * time.Millisecond):
				case <-t.Context().Done():
				}
				c.Write(20)
				pod.Remove(c)
			}
		}()
	}
	for range lanes {
		<-done
	}
	kit.Eventually(t, soon, "every line, although the pods are gone", func() error { return tree.Report(loki, "").Err() })
	wantOnce(t, tree, loki)
	waitBalance(t, p)
}

// withoutOverride returns what runs the program such that it, too, is refused what the mode of
// a file refuses to its owner.
func withoutOverride(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	path, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("root reads everything, and setpriv of util-linux is not there to prevent it")
	}
	return []string{path, "--bounding-set", "-dac_override,-dac_read_search"}
}

// L44: a file and a directory that cannot be read are a state of that pod and disturb no other;
// when they can be read they are, from their start.
func TestL44UnreadableFilesAreAStateAndRecover(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	healthy := tree.Pod("shop", "healthy").Container("main")
	file := tree.Pod("shop", "file").Container("main")
	dir := tree.Pod("shop", "dir").Container("main")
	for _, c := range []*kit.LoggedContainer{healthy, file, dir} {
		c.Write(50)
	}
	check(t, os.Chmod(file.Path(), 0))
	check(t, os.Chmod(filepath.Dir(dir.Path()), 0))
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(dir.Path()), 0o755) })
	p := kit.Start(t, kit.ProcessConfig{
		Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir)), Wrap: withoutOverride(t),
	})
	kit.Eventually(t, soon, "both listed as unreadable", func() error {
		status, err := logs(p)
		if err != nil {
			return err
		}
		have := make(map[string]string)
		for _, s := range status.Skipped {
			have[s.Path] = s.Reason + " " + s.Error
		}
		for _, path := range []string{file.Path(), filepath.Dir(dir.Path())} {
			if !strings.HasPrefix(have[path], "unreadable") || !strings.Contains(have[path], "permission denied") {
				return fmt.Errorf("%s is %q, want unreadable, permission denied", path, have[path])
			}
		}
		return nil
	})
	healthy.Write(50)
	kit.Eventually(t, soon, "the lines of the healthy pod", func() error {
		if n := len(loki.Texts("", "")); n != 100 {
			return fmt.Errorf("%d lines, want 100", n)
		}
		return nil
	})
	check(t, os.Chmod(file.Path(), 0o644))
	check(t, os.Chmod(filepath.Dir(dir.Path()), 0o755))
	fixed := time.Now()
	wantOnce(t, tree, loki)
	if took := time.Since(fixed); took > time.Minute {
		t.Errorf("recovered %s after it could be read, want a minute at most", took)
	}
	kit.Eventually(t, soon, "nothing listed as unreadable", func() error {
		status, err := logs(p)
		if err == nil && len(status.Skipped) > 0 {
			err = errors.New(status.Skipped[0].Path + " is still listed")
		}
		return err
	})
	waitBalance(t, p)
}
