package delivery

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// degradation runs a queue on a disk that breaks and heals, with the endpoint up or away.
func degradation(t *testing.T, away bool, setup, spoil, mend func(q *Queue)) {
	t.Helper()
	b := &backend{}
	b.set(refuse)
	q := newQueue(t, testConfig(), t.TempDir(), b)
	setup(q)
	r := start(t, q)
	synctest.Wait()
	put(t, q, 0, 10, 1000)
	synctest.Wait()
	spoil(q)
	if !away {
		b.set(nil)
	}
	put(t, q, 10, 20, 1000)
	time.Sleep(90 * time.Second)
	synctest.Wait()
	s := balanced(t, q)
	if away && (s.Memory.Blocks != 10 || s.DiskError == "" || s.DiskErrors == 0 || s.State != StateRetrying) {
		t.Errorf("while broken: %+v, want 10 blocks in memory and the error", s)
	}
	if !away {
		if !slices.Equal(b.accepted(), numbers(0, 20)) {
			t.Errorf("while broken with the endpoint up: sent %v, want all", b.accepted())
		}
	}
	mend(q)
	put(t, q, 20, 30, 1000)
	time.Sleep(10 * time.Second)
	synctest.Wait()
	s = balanced(t, q)
	if away && (s.DiskError != "" || s.Disk.Blocks != 30) {
		t.Errorf("after 10 s healed: %+v, want all 30 on disk", s)
	}
	b.set(nil)
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	if diff := cmp.Diff(numbers(0, 30), b.accepted()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if s := r.shutdown(); s.DiskError != "" || s.State != StateOK || len(s.Dropped) > 0 {
		t.Errorf("at the end %+v, want ok and nothing dropped", s)
	}
}

// R32, R33.
func TestFullDiskIsBypassedAndHeals(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var full bool // guarded by the queue's lock
			spoil := func(q *Queue) { q.mu.Lock(); full = true; q.mu.Unlock() }
			mend := func(q *Queue) { q.mu.Lock(); full = false; q.mu.Unlock() }
			setup := func(q *Queue) {
				q.files.writeAt = func(f *os.File, b []byte, at int64) (int, error) {
					q.mu.Lock()
					defer q.mu.Unlock()
					if full && len(b) > 100 { // A full disk takes some bytes more.
						n, _ := f.WriteAt(b[:50], at)
						return n, syscall.ENOSPC
					}
					return f.WriteAt(b, at)
				}
			}
			degradation(t, away, setup, spoil, mend)
		})
	}
}

// R35.
func TestFailingSyncSealsTheSegmentAndHeals(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := newQueue(t, testConfig(), dir, b)
		broken := true
		q.files.sync = func(f *os.File) error {
			q.mu.Lock()
			defer q.mu.Unlock()
			if broken {
				return syscall.EIO
			}
			return syncFile(f)
		}
		r := start(t, q)
		synctest.Wait()
		put(t, q, 0, 5, 1000)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if s := balanced(t, q); s.DiskErrors == 0 || !strings.Contains(s.DiskError, "input/output error") {
			t.Errorf("Status = %+v, want the error of the sync", s)
		}
		q.mu.Lock()
		broken = false
		q.mu.Unlock()
		put(t, q, 5, 10, 1000)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := balanced(t, q); s.DiskError != "" || s.Disk.Blocks != 10 || len(segments(t, dir)) != 2 {
			t.Errorf("%d blocks in %d segments, error %q, want 10 in 2: the file is not trusted again", s.Disk.Blocks, len(segments(t, dir)), s.DiskError)
		}
		b.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 10), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		r.shutdown()
	})
}

// R34.
func TestUnusableDirectoryIsBypassedAndHeals(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			parent := t.TempDir()
			blocker := filepath.Join(parent, "queues")
			if err := os.WriteFile(blocker, nil, 0o600); err != nil { // A file where a directory should be.
				t.Fatal(err)
			}
			b := &backend{}
			q := newQueue(t, testConfig(), filepath.Join(blocker, "test"), b)
			if away {
				b.set(refuse)
			}
			r := start(t, q)
			put(t, q, 0, 10, 1000)
			time.Sleep(20 * time.Second)
			synctest.Wait()
			s := balanced(t, q)
			if s.DiskError == "" || away != (s.Memory.Blocks == 10) {
				t.Errorf("away %v: %+v", away, s)
			}
			if !away && s.State != StateDegraded {
				t.Errorf("state %s, want degraded", s.State)
			}
			if err := os.Remove(blocker); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if s := balanced(t, q); s.DiskError != "" || away && s.Disk.Blocks != 10 {
				t.Errorf("healed: %+v", s)
			}
			b.set(nil)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if diff := cmp.Diff(numbers(0, 10), b.accepted()); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			r.shutdown()
		})
	}
}

func TestDirectoryThatVanishesIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "queue")
		b := &backend{}
		b.set(refuse)
		q := newQueue(t, testConfig(), dir, b)
		r := start(t, q)
		synctest.Wait()
		var acked ledger
		for id := range 5 {
			blk := block(id, 1000)
			blk.Ack = func() { acked.add(id) }
			if err := q.Put(t.Context(), blk); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		put(t, q, 5, 10, 1000)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if s := balanced(t, q); s.DiskError != "" || len(segments(t, dir)) != 1 {
			t.Errorf("20 s later: %+v, segments %v, want the new blocks on disk", s, segments(t, dir))
		}
		b.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		got := b.accepted()
		if len(got) < 5 || !slices.Equal(got[len(got)-5:], numbers(5, 10)) {
			t.Errorf("sent %v, want at least what came after the loss", got)
		}
		if diff := cmp.Diff(numbers(0, 5), acked.all()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		r.shutdown()
	})
}

func TestDirectoryThatVanishesIsNoticedWithoutReading(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(always(503, "", "Retry-After", "300")) //nolint:bodyclose // The queue closes it.
		q := newQueue(t, testConfig(), dir, b)
		r := start(t, q)
		synctest.Wait()
		put(t, q, 0, 5, 1000)
		synctest.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		put(t, q, 5, 10, 1000) // Written to a file that has no name any more.
		time.Sleep(10 * time.Second)
		put(t, q, 10, 15, 1000)
		synctest.Wait()
		r.shutdown()
	})
	got, _ := drain(t, testConfig(), dir)
	if diff := cmp.Diff(numbers(10, 15), got); diff != "" {
		t.Errorf("sent after a restart (-want +got):\n%s", diff)
	}
}

func TestDirectoryThatOpensLateComesFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	fill(t, testConfig(), dir, 0, 10, 1000)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(request) (*http.Response, error) { // In flight while the directory comes back.
			time.Sleep(12 * time.Second)
			return respond(500, ""), nil
		})
		q := newQueue(t, testConfig(), dir, b)
		r := start(t, q)
		put(t, q, 10, 20, 1000)
		time.Sleep(time.Second)
		if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := balanced(t, q); s.Restored.Blocks != 10 || s.Disk.Blocks+s.Memory.Blocks != 20 {
			t.Errorf("with a block in flight: %+v, want 10 restored and 20 kept", s)
		}
		time.Sleep(2 * time.Second)
		b.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 20), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		r.shutdown()
	})
}

// R43.
func TestMemoryIsBoundedWhileTheDiskFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := newQueue(t, testConfig(), dir, b)
		q.files.writeAt = failingWrite
		r := start(t, q)
		put(t, q, 0, 100, 1<<20)
		synctest.Wait()
		s := balanced(t, q)
		if s.Memory.Bytes > memoryBehind || s.Memory.Blocks < 28 || s.Dropped[dropMemoryFull].Blocks != 100-s.Memory.Blocks {
			t.Errorf("Status = %+v, want 32 MiB in memory and the oldest dropped", s)
		}
		b.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		got := b.accepted()
		if !slices.Equal(got, numbers(100-len(got), 100)) {
			t.Errorf("sent %v, want the newest in order", got)
		}
		r.shutdown()
	})
}

// R43.
func TestHangingDiskDoesNotHoldUpThePut(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Durability = Always
		b := &backend{}
		q := newQueue(t, cfg, dir, b)
		hang := make(chan struct{})
		q.files.writeAt = func(f *os.File, b []byte, at int64) (int, error) {
			<-hang
			return f.WriteAt(b, at)
		}
		r := start(t, q)
		begin := time.Now()
		put(t, q, 0, 5, 1000)
		if took := time.Since(begin); took > diskPatience {
			t.Errorf("five blocks took %s with a hanging disk, want at most %s", took, diskPatience)
		}
		synctest.Wait()
		if s := balanced(t, q); s.State != StateDegraded || !slices.Equal(b.accepted(), numbers(0, 5)) {
			t.Errorf("state %s, sent %v, want degraded and everything sent from memory", s.State, b.accepted())
		}
		close(hang)
		time.Sleep(time.Minute)
		synctest.Wait()
		put(t, q, 5, 6, 1000)
		time.Sleep(time.Second)
		if s := r.shutdown(); s.State != StateOK || s.Sent.Blocks != 6 || s.Disk.Blocks != 0 {
			t.Errorf("healed: %+v, want ok and six blocks sent once", s)
		}
	})
}

func TestFailingDiskDoesNotHoldUpThePut(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Durability = Always
		b := &backend{}
		q := newQueue(t, cfg, dir, b)
		q.files.writeAt = failingWrite
		r := start(t, q)
		begin := time.Now()
		put(t, q, 0, 5, 1000)
		if took := time.Since(begin); took != 0 {
			t.Errorf("five blocks took %s with a failing disk, want no time", took)
		}
		synctest.Wait()
		if s := r.shutdown(); s.State != StateDegraded || !slices.Equal(b.accepted(), numbers(0, 5)) {
			t.Errorf("state %s, sent %v, want degraded and everything sent from memory", s.State, b.accepted())
		}
	})
}

func TestStopWithAHangingDiskTakesLessThanSevenSeconds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			<-r.ctx.Done()
			return nil, r.ctx.Err()
		})
		q := newQueue(t, testConfig(), dir, b)
		hang := make(chan struct{})
		q.files.writeAt = func(*os.File, []byte, int64) (int, error) {
			<-hang
			return 0, syscall.EIO
		}
		r := start(t, q)
		put(t, q, 0, 5, 1000)
		time.Sleep(time.Second)
		begin := time.Now()
		r.shutdown()
		if took := time.Since(begin); took >= 7*time.Second {
			t.Errorf("the stop took %s, want less than 7 s", took)
		}
		close(hang)
	})
}

// R1, R2, R43: a stop while a sync takes two seconds loses and repeats nothing, though the
// process ends before the disk has done its part.
func TestStopWithASlowDiskLosesAndRepeatsNothing(t *testing.T) {
	for phase := range 10 {
		dir, left := t.TempDir(), filepath.Join(t.TempDir(), "copy")
		b := newStrict(t)
		total := 0
		synctest.Test(t, func(t *testing.T) {
			b.set(func([]int) *http.Response { time.Sleep(700 * time.Millisecond); return respond(200, "") })
			q := lineQueue(t, dir, &lineBackend{answer: b.answer})
			q.files.sync = func(*os.File) error { time.Sleep(2 * time.Second); return nil }
			r := start(t, q)
			synctest.Wait()
			for range 30 + phase {
				for shard := range 3 {
					putLines(t, q, uint32(shard), 1, shard*shardWidth+total)
				}
				total++
				time.Sleep(300 * time.Millisecond)
			}
			r.stop()
			if err := <-r.done; err != nil {
				t.Error(err)
			}
			if err := os.CopyFS(left, os.DirFS(dir)); err != nil { // The process ends here.
				t.Error(err)
			}
			time.Sleep(time.Minute)
		})
		synctest.Test(t, func(t *testing.T) {
			b.set(nil)
			r := start(t, lineQueue(t, left, &lineBackend{answer: b.answer}))
			time.Sleep(time.Minute)
			synctest.Wait()
			r.shutdown()
		})
		got := b.accepted()
		for id, n := range got {
			if n > 1 {
				t.Errorf("phase %d: item %d arrived %d times", phase, id, n)
			}
		}
		if len(got) != 3*total {
			t.Errorf("phase %d: %d items arrived, want %d", phase, len(got), 3*total)
		}
	}
}

// R32, R33.
func TestTinyFileSystemFillsUpAndHeals(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root; TestFullDiskIsBypassedAndHeals has the same with injected errors")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount a tmpfs: %v; TestFullDiskIsBypassedAndHeals has the same with injected errors", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := newQueue(t, testConfig(), filepath.Join(dir, "queue"), b)
		r := start(t, q)
		synctest.Wait()
		put(t, q, 0, 100, 50_000)
		synctest.Wait()
		s := balanced(t, q)
		if s.Disk.Blocks < 15 || s.Memory.Blocks < 75 || !strings.Contains(s.DiskError, "no space left") {
			t.Errorf("full: %+v, want about a megabyte on disk and the rest in memory", s)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := balanced(t, q); s.Disk.Blocks != 100 || s.DiskError != "" {
			t.Errorf("with space: %+v, want all on disk", s)
		}
		b.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 100), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		r.shutdown()
	})
}
