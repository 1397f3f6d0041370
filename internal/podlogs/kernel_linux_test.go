package podlogs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inNamespace runs the test that calls it again in a user namespace of its own, which has
// limits for inotify of its own, and tells whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "INGOT_TEST_IN_NAMESPACE"
	if os.Getenv(mark) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if len(out) == 0 && err != nil {
		t.Skip("no user namespace:", err)
	}
	if err != nil {
		t.Errorf("in a namespace: %v\n%s", err, out)
	} else if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("in a namespace:\n%s", out)
	}
	return false
}

func setLimit(t *testing.T, name string, n int) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/user/"+name, []byte(fmt.Sprint(n)), 0); err != nil {
		t.Skip(err)
	}
}

// notWatched has a collector find, read and go on with files of a hundred pods, of which it is
// told nothing, and returns what the status says of that.
func notWatched(t *testing.T) Notices {
	t.Helper()
	r := newRig(t)
	r.idleTree(100)
	r.start()
	r.sink.wait(t, 100)
	f := openLog(t, filepath.Join(r.dir("new", "c"), "0.log")).out("a")
	r.sink.wait(t, 101)
	f.out("b")
	r.sink.wait(t, 102)
	return r.c.Status().Notices
}

func TestKernelWithoutWatchesLeft(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	setLimit(t, "max_inotify_watches", 40)
	if n := notWatched(t); n.Unwatched < 100 || !strings.Contains(n.Err, "max_user_watches") {
		t.Errorf("notices = %+v, want most directories unwatched", n)
	}
}

func TestKernelWithoutInotifyInstancesLeft(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	setLimit(t, "max_inotify_instances", 0)
	if n := notWatched(t); n.Unwatched < 200 || !strings.Contains(n.Err, "max_user_instances") {
		t.Errorf("notices = %+v, want all directories unwatched", n)
	}
}
