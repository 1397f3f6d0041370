package podlogs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// L3: of two rotations that fall into one look at a directory it finds the newest file first. That
// is not read while another one may come in before it, however long the old one has been silent.
func TestFileFoundBetweenTwoOthersIsReadBeforeTheNewest(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	live := filepath.Join(dir, "0.log")
	openLog(t, live).out("a")
	middle := filepath.Join(t.TempDir(), "middle")
	openLog(t, middle).out("b")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(live, old, old); err != nil {
		t.Fatal(err)
	}
	r.build()
	r.c.timing.settle = time.Second
	r.run()
	r.sink.wait(t, 1)
	rename(t, live, live+".20260102-030405")
	openLog(t, live).out("c")
	eventually(t, "finding the newest", func() bool { return len(r.c.Status().Files) == 2 })
	time.Sleep(100 * time.Millisecond) // In which the newest must not be read.
	rename(t, middle, live+".20260102-030406")
	if got := r.sink.wait(t, 3); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("lines came as %q, want oldest first", got)
	}
}

// A runtime may write to the old file a moment after the next one has begun, and be stopped there.
func TestWhatALateWriteLeavesOpenIsPushedAtTheEnd(t *testing.T) {
	r := newRig(t)
	live := filepath.Join(r.dir("web", "nginx"), "0.log")
	old := openLog(t, live).out("a")
	r.start()
	r.sink.wait(t, 1)
	rename(t, live, live+".20260102-030405")
	openLog(t, live).out("b")
	r.sink.wait(t, 2)
	whole := strings.TrimSuffix(cri("stderr", "F", "no line feed"), "\n")
	old.write(cri("stdout", "P", "no end") + whole)
	if err := os.Remove(live + ".20260102-030405"); err != nil {
		t.Fatal(err)
	}
	wantSet(t, r.sink.wait(t, 4), []string{"a", "b", "no end", "no line feed"})
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) == 1 })
	r.finish()
	r.start()
	eventually(t, "reading", func() bool { f, _ := r.status("0.log"); return f.State == stateName(stateIdle) })
	time.Sleep(2 * r.c.timing.goneAge) // After which a file with unread bytes is a loss.
	if lost := r.c.Status().Lost; len(lost) > 0 {
		t.Errorf("losses = %+v, want none", lost)
	}
}

// L24: the first part of a line is in a file that is removed long before the line ends.
func TestRemovedFileOfAnOpenLineIsNoLoss(t *testing.T) {
	r := newRig(t)
	live := filepath.Join(r.dir("web", "nginx"), "0.log")
	openLog(t, live).out("a").write(cri("stdout", "P", "be"))
	r.start()
	r.sink.wait(t, 1)
	rename(t, live, live+".20260102-030405")
	f := openLog(t, live).write(cri("stderr", "F", "b"))
	r.sink.wait(t, 2)
	if err := os.Remove(live + ".20260102-030405"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "noticing the deletion", func() bool {
		x, ok := r.status("0.log.20260102-030405")
		return !ok || x.Deleted
	})
	time.Sleep(2 * r.c.timing.closeAge) // After which a removed file is closed.
	f.write(cri("stdout", "F", "gun"))
	wantSet(t, r.sink.wait(t, 3), []string{"a", "b", "begun"})
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) == 1 })
	r.finish()
	r.start()
	eventually(t, "reading", func() bool { x, _ := r.status("0.log"); return x.State == stateName(stateIdle) })
	time.Sleep(2 * r.c.timing.goneAge)
	if lost := r.c.Status().Lost; len(lost) > 0 {
		t.Errorf("losses = %+v, want none", lost)
	}
}
