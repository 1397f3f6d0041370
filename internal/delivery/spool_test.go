package delivery

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func newSpool(t *testing.T, cfg Config, dir string, rt http.RoundTripper) *Queue {
	t.Helper()
	q := newQueue(t, cfg, dir, rt)
	q.ep.Spool = true
	q.memoryLimit = spoolMemory
	return q
}

// rereader puts blocks as a reader of files does: what was acknowledged it never makes again.
type rereader struct {
	ledger // what was acknowledged, in order
}

func (s *rereader) put(t *testing.T, q *Queue, from, to, size int) {
	t.Helper()
	for id := from; id < to; id++ {
		b := block(id, size)
		b.Ack = func() { s.add(id) }
		if err := q.Put(t.Context(), b); err != nil {
			t.Fatalf("Put(%d) = %v", id, err)
		}
	}
}

// L36, P10: six hours of 1 MB/s, which is a body of about 130 KB a second.
func TestSpoolHoldsSixHoursInOrder(t *testing.T) {
	dir := t.TempDir()
	const hours6, size = 6 * 3600, 2000 // The bodies are smaller here, to spare the disk.
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		cfg := DefaultConfig()
		cfg.MaxBytes = 8 * config.GiB * size / (130 << 10)
		q := newSpool(t, cfg, dir, b)
		q.files.sync = func(*os.File) error { return nil }
		r := start(t, q)
		var s rereader
		for id := range hours6 {
			s.put(t, q, id, id+1, size)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		st := balanced(t, q)
		if st.Disk.Blocks != hours6 || len(st.Dropped) != 0 || st.OldestAgeSeconds < 6*3600 {
			t.Errorf("after the outage: %+v, want all on disk", st)
		}
		if got := s.all(); !slices.Equal(got, numbers(0, hours6)) {
			t.Errorf("%d blocks are acknowledged, want all, in order", len(got))
		}
		b.set(nil)
		for id := hours6; q.Status().Disk.Blocks > 0; id++ {
			s.put(t, q, id, id+1, size)
			time.Sleep(time.Second)
			if id > 2*hours6 {
				t.Fatal("the backlog does not shrink")
			}
		}
		synctest.Wait()
		got := b.accepted()
		if len(got) < hours6 || !slices.Equal(got, numbers(0, len(got))) {
			t.Errorf("%d blocks arrived, want all, in order, the spooled ones first", len(got))
		}
		r.shutdown()
	})
}

func TestSpoolWritesNothingWhileAllIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newSpool(t, testConfig(), t.TempDir(), &backend{answer: func(request) (*http.Response, error) {
			time.Sleep(time.Second)
			return respond(204, ""), nil
		}})
		q.memoryLimit = 400 << 10 // Full all the time, and acknowledged within 4 s.
		wrote := 0
		q.files.writeAt = func(f *os.File, b []byte, at int64) (int, error) { wrote++; return f.WriteAt(b, at) }
		r := start(t, q)
		var s rereader
		begin := time.Now()
		s.put(t, q, 0, 50, 100<<10)
		if took := time.Since(begin); took < 40*time.Second {
			t.Errorf("50 blocks were taken in %v by an endpoint that takes one a second", took)
		}
		r.shutdown()
		if wrote > 0 {
			t.Errorf("%d writes although every block was taken in time", wrote)
		}
	})
}

func TestSpoolTakesWhatWaitsTooLong(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) { // Hangs, as far as anybody can tell.
			<-r.ctx.Done()
			return nil, r.ctx.Err()
		})
		q := newSpool(t, testConfig(), dir, b)
		r := start(t, q)
		var s rereader
		s.put(t, q, 0, 3, 1000)
		time.Sleep(spoolAfter - time.Millisecond)
		synctest.Wait()
		if got := s.all(); len(got) != 0 || len(segments(t, dir)) != 0 {
			t.Errorf("acknowledged %v before the time", got)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 3), s.all()); diff != "" || len(segments(t, dir)) != 1 {
			t.Errorf("acknowledged on disk (-want +got):\n%s", diff)
		}
		b.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 3), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if got := s.all(); len(got) != 3 {
			t.Errorf("acknowledged %v, want each once", got)
		}
		r.shutdown()
	})
}

func TestSpoolComesFirstAfterARestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := newSpool(t, testConfig(), dir, b)
		r := start(t, q)
		var s rereader
		s.put(t, q, 0, 10, 1000)
		if st := r.shutdown(); st.Disk.Blocks != 10 || st.Memory.Blocks != 0 {
			t.Errorf("stopped with %+v, want all on disk", st)
		}
		if diff := cmp.Diff(numbers(0, 10), s.all()); diff != "" {
			t.Errorf("acknowledged at the stop (-want +got):\n%s", diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		q := newSpool(t, testConfig(), dir, b)
		var s rereader
		s.put(t, q, 10, 20, 1000) // Before anything of the directory is known.
		r := start(t, q)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 20), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		r.shutdown()
	})
}

// L36.
func TestSpoolAtItsCapDropsTheOldestAndCounts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		cfg := testConfig()
		cfg.MaxBytes = 1 << 20
		q := newSpool(t, cfg, dir, b)
		q.files.sync = func(*os.File) error { return nil }
		r := start(t, q)
		var s rereader
		for id := range 400 {
			s.put(t, q, id, id+1, 10_000)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		st := balanced(t, q)
		lost := st.Dropped[dropQueueFull]
		if lost.Blocks < 290 || lost.Blocks > 320 || lost.Bytes != 10_000*lost.Blocks || lost.Items < lost.Blocks || st.DiskBytes > 1<<20 {
			t.Errorf("%+v, want the oldest of 4 MB dropped and the newest megabyte kept", st)
		}
		if len(s.all()) != 400 {
			t.Errorf("%d blocks are acknowledged, want all: dropped ones are done with", len(s.all()))
		}
		b.set(nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(int(lost.Blocks), 400), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		r.shutdown()
	})
}

func TestSpoolDropsWhatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		cfg := testConfig()
		cfg.MaxAge = config.Duration(time.Hour)
		q := newSpool(t, cfg, t.TempDir(), b)
		r := start(t, q)
		var s rereader
		s.put(t, q, 0, 5, 1000)
		time.Sleep(2 * time.Hour)
		s.put(t, q, 5, 8, 1000)
		time.Sleep(time.Minute)
		b.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if st := r.shutdown(); st.Dropped[dropTooOld].Blocks != 5 || st.Dropped[dropTooOld].Bytes != 5000 {
			t.Errorf("dropped %+v, want five blocks for their age", st.Dropped)
		}
		if diff := cmp.Diff(numbers(5, 8), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	})
}

// L43.
func TestSpoolWhoseDiskRefusesMakesItsSourceWait(t *testing.T) {
	kinds := map[string]func(q *Queue, broken *bool){
		"full": func(q *Queue, broken *bool) {
			q.files.writeAt = func(f *os.File, b []byte, at int64) (int, error) {
				q.mu.Lock()
				defer q.mu.Unlock()
				if *broken {
					n, _ := f.WriteAt(b[:min(len(b), 50)], at)
					return n, syscall.ENOSPC
				}
				return f.WriteAt(b, at)
			}
		},
		"fsync": func(q *Queue, broken *bool) {
			q.files.sync = func(*os.File) error {
				q.mu.Lock()
				defer q.mu.Unlock()
				if *broken {
					return syscall.EIO
				}
				return nil
			}
		},
	}
	for name, breakIt := range kinds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b := &backend{}
				b.set(refuse)
				cfg := testConfig()
				cfg.MaxBytes = config.GiB
				q := newSpool(t, cfg, dir, b)
				broken := true
				breakIt(q, &broken)
				r := start(t, q)
				var s rereader
				done := make(chan struct{})
				go func() {
					defer close(done)
					s.put(t, q, 0, 100, 100<<10)
				}()
				time.Sleep(time.Hour)
				synctest.Wait()
				st := balanced(t, q)
				if st.Memory.Bytes > spoolMemory || st.Memory.Bytes < spoolMemory-(100<<10) || len(st.Dropped) > 0 || st.DiskError == "" || len(s.all()) != 0 {
					t.Errorf("while the disk refuses: %+v, acknowledged %v; want full memory and nothing else", st, s.all())
				}
				q.mu.Lock()
				broken = false
				q.mu.Unlock()
				<-done
				time.Sleep(time.Minute)
				synctest.Wait()
				if st := balanced(t, q); st.Disk.Blocks != 100 || st.DiskError != "" {
					t.Errorf("healed: %+v, want all on disk", st)
				}
				b.set(nil)
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if diff := cmp.Diff(numbers(0, 100), b.accepted()); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(numbers(0, 100), s.all()); diff != "" {
					t.Errorf("acknowledged (-want +got):\n%s", diff)
				}
				r.shutdown()
			})
		})
	}
}

// L43 on a real file system.
func TestSpoolOnAFullDiskGoesOnWhenThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a file system of its own needs root: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := newSpool(t, testConfig(), filepath.Join(dir, "queue"), b)
		r := start(t, q)
		var s rereader
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.put(t, q, 0, 60, 100<<10)
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		st := balanced(t, q)
		if st.DiskError == "" || st.Disk.Blocks < 5 || len(s.all()) != int(st.Disk.Blocks) || len(st.Dropped) > 0 {
			t.Errorf("on a full disk: %+v, acknowledged %v", st, s.all())
		}
		b.set(nil) // What is on the full disk is sent, and makes room.
		<-done
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 60), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if st := r.shutdown(); len(st.Dropped) > 0 || st.DiskError != "" {
			t.Errorf("at the end %+v", st)
		}
	})
}

func TestTornSpoolLosesOnlyTheTornRecord(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		r := start(t, newSpool(t, testConfig(), dir, b))
		var s rereader
		s.put(t, r.Queue, 0, 10, 1000)
		synctest.Wait()
		if len(s.all()) != 10 {
			t.Fatalf("acknowledged %v", s.all())
		}
		// As a power cut would leave it, were the disk to lie about the last record.
		segs := segments(t, dir)
		last := segs[len(segs)-1]
		content, err := os.ReadFile(last)
		if err != nil {
			t.Fatal(err)
		}
		r.shutdown()
		if err := os.WriteFile(last, content[:len(content)-500], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, cursorName)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		r := start(t, newSpool(t, testConfig(), dir, b))
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 9), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if st := r.shutdown(); st.CorruptRecords != 1 {
			t.Errorf("corrupt records: %d, want the torn one", st.CorruptRecords)
		}
	})
}
