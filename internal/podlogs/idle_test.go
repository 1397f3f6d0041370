package podlogs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// idleTree makes that many containers with a file each.
func (r *rig) idleTree(files int) {
	r.t.Helper()
	for i := range files {
		dir := filepath.Join(r.root, fmt.Sprintf("namespace_deployment-5d9c7b6f4-%05d_8c1b3c1e-7a39-4f0e-9d0f-%012d", i, i), "main")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			r.t.Fatal(err)
		}
		spit(r.t, filepath.Join(dir, "0.log"), []byte(cri("stdout", "F", fmt.Sprint("the first line of ", i))))
	}
}

// parked waits until that many files are left to notices.
func (r *rig) parked(files int) {
	r.t.Helper()
	eventually(r.t, "the files to be taken for idle", func() bool {
		r.c.mu.Lock()
		w := r.c.watch
		r.c.mu.Unlock()
		if w == nil {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.files) == files
	})
}

// TestIdleFileTakesLittleMemory bounds what one more silent file, in a pod and container of its
// own, takes of the memory that stays.
func TestIdleFileTakesLittleMemory(t *testing.T) {
	const files, most = 2000, 3000
	r := newRig(t)
	r.idleTree(files)
	used := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := used()
	r.build()
	r.c.sink = &discard{}
	r.c.timing.idleAge = time.Millisecond
	r.run()
	r.parked(files)
	r.p.write()
	got := (used() - before - turnSize - headRoom) / files
	t.Logf("each file takes %d bytes", got)
	if got > most {
		t.Errorf("each file takes %d bytes, want at most %d", got, most)
	}
}
