package podlogs

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// onlyNotices makes a running collector that finds nothing new but by notices.
func (r *rig) onlyNotices() {
	r.t.Helper()
	r.cfg.Pods.ScanInterval = config.Duration(time.Hour)
	r.build()
	r.c.timing.pollIdle, r.c.timing.idleAge = time.Hour, time.Millisecond
	r.run()
}

func TestSilentFileIsReadOnAtItsNotice(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	f := openLog(t, filepath.Join(dir, "0.log")).out("0")
	r.onlyNotices()
	for i := 1; i <= 20; i++ {
		r.sink.wait(t, i)
		r.parked(1)
		if i == 10 {
			rename(t, filepath.Join(dir, "0.log"), filepath.Join(dir, "0.log.20260102-030405"))
		}
		f.out(fmt.Sprint(i)) // Also to the file under its other name.
	}
	r.sink.wait(t, 21)
	r.finish()
	r.conserved()
}

func TestRotationRestartAndDeletionAreFoundByNotices(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	live := filepath.Join(dir, "0.log")
	openLog(t, live).out("a")
	r.onlyNotices()
	r.sink.wait(t, 1)
	rename(t, live, live+".20260102-030405")
	openLog(t, live).out("b")
	openLog(t, filepath.Join(dir, "1.log")).out("c")
	openLog(t, filepath.Join(r.dir("web", "late"), "0.log")).out("d")
	wantSet(t, r.sink.wait(t, 4), []string{"a", "b", "c", "d"})
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) == 0 })
	openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("of a pod with the same directory")
	r.sink.wait(t, 5)
}

func TestLostNoticesAreMadeUpFor(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	f := openLog(t, path).out("a")
	r.onlyNotices()
	r.sink.wait(t, 1)
	r.parked(1)
	// As if the queue of the kernel were full: it tells only that it was.
	r.c.watch.mu.Lock()
	for wd := range r.c.watch.files {
		r.c.watch.n.drop(wd)
		delete(r.c.watch.files, wd)
	}
	for wd := range r.c.watch.dirs {
		r.c.watch.n.drop(wd)
	}
	r.c.watch.mu.Unlock()
	f.out("b")
	openLog(t, filepath.Join(r.dir("other", "c"), "0.log")).out("c")
	r.c.watch.note([]notice{{wd: -1, lost: true}})
	wantSet(t, r.sink.wait(t, 3), []string{"a", "b", "c"})
}

func TestScanMakesUpForALostNoticeOfAWrite(t *testing.T) {
	r := newRig(t)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("a")
	r.build()
	r.c.timing.pollIdle, r.c.timing.idleAge = time.Hour, time.Millisecond
	r.run()
	r.sink.wait(t, 1)
	r.parked(1)
	r.c.watch.mu.Lock()
	for wd := range r.c.watch.files {
		r.c.watch.n.drop(wd)
		delete(r.c.watch.files, wd)
	}
	r.c.watch.mu.Unlock()
	f.out("b")
	r.sink.wait(t, 2)
}

// L42: watches for a few of 10 000 files.
func TestWithoutWatchesNothingIsLost(t *testing.T) {
	files, active := 10_000, 200
	if most := mostDescriptors(); most < files+1000 {
		files = most - 1000
	}
	r := newRig(t)
	r.cfg.Pods.ScanInterval = config.Duration(10 * time.Second)
	r.idleTree(files)
	r.build()
	r.c.timing.pollIdle = 2 * time.Second
	r.c.timing.hot, r.c.timing.gather = 100*time.Millisecond, 10*time.Millisecond
	r.c.maxWatches = 300
	r.run()
	r.sink.wait(t, files)
	if n := r.c.Status().Notices; n.Unwatched < 2*files-300 || !strings.Contains(n.Err, "max_user_watches") {
		t.Errorf("notices = %+v, want all but 300 of %d directories unwatched", n, 2*files+1)
	}
	names, err := os.ReadDir(r.root)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range active {
		dir := filepath.Join(r.root, names[i*len(names)/active].Name(), "main")
		ids := numbered(fmt.Sprint("active", i), 0, 20)
		want = append(want, ids...)
		f := openLog(t, filepath.Join(dir, "0.log")).out(ids[:10]...)
		if i%10 == 0 { // Some are rotated meanwhile, and some containers start.
			rename(t, filepath.Join(dir, "0.log"), filepath.Join(dir, "0.log.20260102-030405"))
			f = openLog(t, filepath.Join(dir, "0.log"))
		}
		f.out(ids[10:]...)
	}
	started := time.Now()
	openLog(t, filepath.Join(r.dir("late", "c"), "0.log")).out("late")
	r.sink.wait(t, files+len(want)+1)
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("what was new arrived after %s, want within ten seconds", took)
	}
	wantSet(t, r.sink.texts()[files:], append(want, "late"))
}

func TestNewPodIsFoundSoonWithoutWatches(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.ScanInterval = config.Duration(time.Hour)
	r.build()
	r.c.maxWatches = 1 // The tree's root alone.
	r.run()
	eventually(t, "the first scan", func() bool { return !r.c.Status().Scanned.IsZero() })
	dir := r.dir("web", "nginx")
	time.Sleep(20 * time.Millisecond)
	start := time.Now()
	openLog(t, filepath.Join(dir, "0.log")).out("a")
	r.sink.wait(t, 1)
	if took := time.Since(start); took > time.Second {
		t.Errorf("the file was found after %s", took)
	}
}

func TestDescriptorsThatRunOutAreShownAndTriedAgain(t *testing.T) {
	r := newRig(t)
	for i := range 20 {
		openLog(t, filepath.Join(r.dir(fmt.Sprintf("pod%02d", i), "c"), "0.log")).out(fmt.Sprint(i))
	}
	r.build()
	s := newScanner(r.c)
	free, err := os.Open(r.root)
	if err != nil {
		t.Fatal(err)
	}
	s.most = int(free.Fd()) + 12
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, x := range r.c.byID {
			_ = x.file.close()
		}
	}()
	s.scan(time.Now())
	status := r.c.Status()
	if open, not := len(status.Files), len(status.Skipped); open < 5 || open+not != 20 {
		t.Fatalf("%d files are open and %d are not, want some of each of 20", open, not)
	}
	if x := status.Skipped[0]; x.Reason != skipUnreadable || !strings.Contains(x.Err, "too many open files") || !strings.Contains(x.Err, "ulimit") {
		t.Errorf("a file that was not opened is shown as %+v", x)
	}
	s.most = 0
	s.scan(time.Now())
	if status := r.c.Status(); len(status.Files) != 20 || len(status.Skipped) != 0 {
		t.Errorf("%d files are open and %d are not after the limit was raised", len(status.Files), len(status.Skipped))
	}
	rd := newReader(r.c)
	eventually(t, "all lines", func() bool { rd.round(t.Context()); return len(r.sink.texts()) == 20 })
}

// L16, and pods that have finished.
func TestCrashLoopGrowsNeitherDescriptorsNorMemory(t *testing.T) {
	const finished, restarts = 350, 1000
	r := newRig(t)
	r.idleTree(finished)
	r.build()
	r.c.timing.idleAge, r.c.timing.settle = time.Millisecond, 2*time.Millisecond
	r.run()
	r.sink.wait(t, finished)
	r.parked(finished)
	dir := r.dir("crash", "c")
	measure := func() (descriptors int, heap uint64) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return len(fds), m.HeapAlloc
	}
	var want []string
	var before uint64
	fds := 0
	var start, end unix.Rusage
	begin := time.Now()
	if err := unix.Getrusage(unix.RUSAGE_SELF, &start); err != nil {
		t.Fatal(err)
	}
	for i := range restarts {
		if i == restarts/5 {
			fds, before = measure()
		}
		id := fmt.Sprintf("restart-%04d", i)
		want = append(want, id)
		spit(t, filepath.Join(dir, fmt.Sprint(i, ".log")), []byte(cri("stdout", "F", id)))
		if i > 1 {
			r.sink.wait(t, finished+i-1)
			erase(t, filepath.Join(dir, fmt.Sprint(i-2, ".log")))
		}
	}
	wantOrder(t, r.sink.wait(t, finished+restarts)[finished:], want)
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) == finished+2 })
	if err := unix.Getrusage(unix.RUSAGE_SELF, &end); err != nil {
		t.Fatal(err)
	}
	used := time.Duration(end.Utime.Nano() + end.Stime.Nano() - start.Utime.Nano() - start.Stime.Nano())
	fdsAfter, after := measure()
	t.Logf("%d restarts in %s beside %d finished pods: %s of a processor, the test's own work included, %d descriptors",
		restarts, time.Since(begin).Round(time.Millisecond), finished, used.Round(time.Millisecond), fdsAfter)
	if fdsAfter > fds+5 {
		t.Errorf("%d descriptors are open, %d were after a fifth of the restarts", fdsAfter, fds)
	}
	// The ledger has them all, and the positions keep those of ten minutes.
	if grown := (int64(after) - int64(before)) / (restarts * 4 / 5); grown > 1000 {
		t.Errorf("memory grew by %d bytes a restart", grown)
	}
}

func TestFileLogsOfARemovedDirectoryAreReleased(t *testing.T) {
	r := newRig(t)
	base := filepath.Join(filepath.Dir(r.root), "logs")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	r.cfg.Pods.Enabled = false
	r.cfg.Files = []FileConfig{{Paths: []string{base + "/*.log"}, Format: FormatRaw}}
	openLog(t, base+"/a.log").write("a\n")
	r.start()
	r.sink.wait(t, 1)
	if err := os.RemoveAll(base); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) == 0 })
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	openLog(t, base+"/b.log").write("b\n")
	wantSet(t, r.sink.wait(t, 2), []string{"a", "b"})
}

func TestReaderSleepsWhileNothingHappens(t *testing.T) {
	r := newRig(t)
	r.idleTree(10)
	r.build()
	r.c.timing.idleAge = time.Millisecond
	defer r.c.startWatch()()
	newScanner(r.c).scan(time.Now())
	rd := newReader(r.c)
	eventually(t, "the reader to have nothing to do", func() bool { rd.round(t.Context()); return rd.next.Equal(rd.far) })
	if len(rd.active) != 0 {
		t.Errorf("%d chains are looked at, want none", len(rd.active))
	}
	_ = r.c.Run(canceled(t))
}

// watchedTree returns a scanner that has seen that many containers, all of which it watches with
// nobody to take the notices. grow gives each container a second file, and opened returns how many
// files are open.
func (r *rig) watchedTree(pods int) (s *scanner, later time.Time, grow func(), opened func() int) {
	r.t.Helper()
	r.idleTree(pods)
	r.build()
	var err error
	if r.c.watch, err = newWatch(r.c.poke); err != nil {
		r.t.Skip(err)
	}
	r.t.Cleanup(func() {
		r.c.watch.close()
		for _, x := range r.c.byID {
			_ = x.file.close()
		}
	})
	s, later = newScanner(r.c), time.Now().Add(time.Hour) // Nothing has changed just now then.
	s.scan(later)
	grow = func() {
		names, err := os.ReadDir(r.root)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, name := range names {
			openLog(r.t, filepath.Join(r.root, name.Name(), "main", "1.log")).out("a")
		}
	}
	return s, later, grow, func() int { return len(r.c.Status().Files) }
}

func TestScansLookAtAllThatIsWatchedInTurn(t *testing.T) {
	for pods := 1; pods <= 4; pods++ {
		r := newRig(t)
		s, later, grow, opened := r.watchedTree(pods)
		grow()
		before := s.reads
		s.scan(later)
		if n := s.reads - before; n == pods {
			t.Errorf("one scan has looked at all %d directories, want a part", n)
		}
		for range watchedShare - 1 {
			s.scan(later)
		}
		if n := opened(); n != 2*pods {
			t.Errorf("after all scans %d files are open, want %d", n, 2*pods)
		}
	}
}

// What no notice told of is found by one look at everything, not by six of them a minute later.
func TestLookAfterLostNoticesIsAtEverything(t *testing.T) {
	const pods = 10
	r := newRig(t)
	s, later, grow, opened := r.watchedTree(pods)
	grow()
	r.c.watch.note([]notice{{wd: -1, lost: true}})
	s.changes(later)
	if n := opened(); n != 2*pods {
		t.Errorf("%d files are open, want %d", n, 2*pods)
	}
}

// What came before a directory was watched had no notice.
func TestDirectoriesAreLookedAtWhenTheyAreWatchedAgain(t *testing.T) {
	const pods = 10
	r := newRig(t)
	s, later, grow, opened := r.watchedTree(pods)
	var ended []notice
	for wd := range r.c.watch.dirs {
		ended = append(ended, notice{wd: wd, ended: true})
	}
	for _, n := range ended {
		r.c.watch.n.drop(n.wd)
	}
	r.c.watch.note(ended)
	grow()
	s.scan(later)
	if n := opened(); n != 2*pods {
		t.Errorf("%d files are open, want %d", n, 2*pods)
	}
}

// L17, L18: pods that live for a fifth of a second and are removed at once.
func TestPodsThatLiveShortlyAreReadWhole(t *testing.T) {
	const pods, lines = 300, 20
	r := newRig(t)
	r.cfg.Pods.ScanInterval = config.Duration(time.Hour)
	r.build()
	r.c.timing.gather = defaultTiming().gather
	r.run()
	var want []string
	var wg sync.WaitGroup
	for i := range pods {
		ids := numbered(fmt.Sprint("pod", i), 0, lines)
		want = append(want, ids...)
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 2 * time.Millisecond)
			dir := filepath.Join(r.root, fmt.Sprintf("shop_p%d_uid%d", i, i), "c")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Error(err)
				return
			}
			f, err := os.Create(filepath.Join(dir, "0.log"))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for _, id := range ids {
				if _, err := f.WriteString(cri("stdout", "F", id)); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantSet(t, r.sink.wait(t, len(want)), want)
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) == 0 })
}

func TestStopTellsOfDeletedFilesThatWereNotRead(t *testing.T) {
	r := newRig(t)
	r.sink.shut = true
	dir := r.dir("web", "nginx")
	openLog(t, filepath.Join(dir, "0.log")).out(numbered("id", 0, 30_000)...) // several turns
	r.build()
	var log bytes.Buffer
	r.c.log = slog.New(slog.NewTextHandler(&log, nil))
	r.run()
	eventually(t, "reading", func() bool { f, _ := r.status("0.log"); return f.Read > 0 })
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "noticing the deletion", func() bool { f, _ := r.status("0.log"); return f.Deleted })
	f, _ := r.status("0.log")
	r.finish()
	if want := fmt.Sprintf("pod=web path=%s bytes=%d", f.Path, f.Size-f.Read); !strings.Contains(log.String(), want) {
		t.Errorf("the log is\n%swant %s", log.String(), want)
	}
	r.sink = newLedger()
	r.start()
	eventually(t, "counting the loss", func() bool {
		return r.metric("ingot_podlogs_lost_bytes_total", "reason", lostRotatedAway) == float64(f.Size)
	})
	if lost := r.c.Status().Lost; len(lost) != 1 || lost[0].Time.Year() < 2026 || lost[0].Pod != "web" {
		t.Errorf("losses = %+v, want one of the pod", lost)
	}
}
