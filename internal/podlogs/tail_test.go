package podlogs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
)

func TestLinesArriveInOrderWithTheLabelsOfThePath(t *testing.T) {
	r := newRig(t)
	openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("one", "two", "")
	r.start()
	r.sink.wait(t, 3)
	labels := `{container="nginx", job="shop/nginx", namespace="shop", service_name="nginx", service_namespace="shop"}`
	metadata := `{pod="web", service_instance_id="shop.web.nginx"}`
	const at = 1767323045123456789
	want := []line{{labels, metadata, at, "one"}, {labels, metadata, at, "two"}, {labels, metadata, at, ""}}
	if diff := cmp.Diff(want, r.sink.all(), cmp.AllowUnexported(line{})); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
}

func TestRotationByRenameLosesNothing(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	live := filepath.Join(dir, "0.log")
	r.start()
	var want []string
	for i := range 20 {
		ids := numbered(fmt.Sprint("gen", i), 0, 500)
		want = append(want, ids...)
		f := openLog(t, live)
		f.out(ids[:250]...)
		rename(t, live, fmt.Sprintf("%s.20260102-0304%02d", live, i))
		f.out(ids[250:]...) // The runtime has not reopened its log yet.
	}
	openLog(t, live).out("last")
	got := r.sink.wait(t, len(want)+1)
	wantSet(t, got, append(want, "last"))
}

func TestRotatedFilesAreReadOldestFirst(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	var want []string
	for i, name := range []string{"0.log.20260101-000000", "0.log", "1.log.20260102-000000", "1.log.20260102-000010", "1.log", "10.log"} {
		openLog(t, filepath.Join(dir, name)).out(fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	r.start()
	if diff := cmp.Diff(want, r.sink.wait(t, len(want))); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestRotatedFileThatIsFoundLateIsReadBeforeABusyOne(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	busy := openLog(t, path).out("a")
	late := filepath.Join(t.TempDir(), "late")
	openLog(t, late).out("late").write(cri("stdout", "P", "open"))
	r.build()
	s := newScanner(r.c)
	s.scan(time.Now())
	rd := newReader(r.c)
	rd.round(t.Context())
	rename(t, late, path+".20260102-030405")
	s.scan(time.Now().Add(time.Hour))
	// The present file is never silent as long as a file has to be before the next one.
	r.c.timing.settle = time.Hour
	if err := os.Chtimes(path+".20260102-030405", time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	read := func(want ...string) {
		t.Helper()
		for start := time.Now(); len(r.sink.texts()) < len(want) && time.Since(start) < patience; time.Sleep(time.Millisecond) {
			rd.round(t.Context())
		}
		if diff := cmp.Diff(want, r.sink.texts()); diff != "" {
			t.Fatalf("lines (-want +got):\n%s", diff)
		}
	}
	// The open line has no end in what the present file goes on with.
	read("a", "late", "open")
	busy.out("b")
	read("a", "late", "open", "b")
}

func TestFileOnABadDiskHoldsUpItsContainerForAWhileOnly(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	old := path + ".20260102-030405"
	openLog(t, old).out("old")
	openLog(t, path).out("new")
	r.build()
	s := newScanner(r.c)
	s.scan(time.Now())
	bad := r.c.order[0].tails[0]
	// Reading from a descriptor that is for writing fails as it does from a bad disk.
	broken, err := os.OpenFile(old, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	if err = syscall.Dup3(int(broken.Fd()), int(bad.file), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	rd := newReader(r.c)
	eventually(t, "reading the next file", func() bool { rd.round(t.Context()); return len(r.sink.texts()) > 0 })
	if f, _ := r.status(filepath.Base(old)); f.State != "failed" || f.Err == "" {
		t.Errorf("state of the bad file = %+v, want failed", f)
	}
	// It may recover, and is not lost then.
	repaired, err := os.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	defer repaired.Close()
	if err := syscall.Dup3(int(repaired.Fd()), int(bad.file), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reading the repaired file", func() bool { rd.round(t.Context()); return len(r.sink.texts()) > 1 })
	wantSet(t, r.sink.texts(), []string{"old", "new"})
	// Bad again, and deleted: nothing keeps it open.
	openLog(t, old).out("late")
	if err := syscall.Dup3(int(broken.Fd()), int(bad.file), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	s.scan(time.Now().Add(time.Hour))
	eventually(t, "closing the bad file", func() bool { rd.round(t.Context()); return len(r.c.Status().Files) == 1 })
}

func TestDeletedFileIsReadToItsEndAfterAnOutage(t *testing.T) {
	r := newRig(t)
	r.sink.shut = true
	ids := numbered("id", 0, 30_000) // several turns
	dir := r.dir("web", "nginx")
	openLog(t, filepath.Join(dir, "0.log")).out(ids...)
	r.start()
	eventually(t, "opening", func() bool { _, ok := r.status("0.log"); return ok })
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "noticing the deletion", func() bool { f, _ := r.status("0.log"); return f.Deleted })
	if got := r.c.Status(); got.LagBytes == 0 {
		t.Errorf("lag is 0 with %d lines unread", len(ids))
	}
	r.sink.set(func() { r.sink.shut = false })
	wantSet(t, r.sink.wait(t, len(ids)), ids)
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) == 0 })
}

func TestFilesAreFoundWhileTheDestinationIsAway(t *testing.T) {
	r := newRig(t)
	r.sink.shut = true
	openLog(t, filepath.Join(r.dir("first", "c"), "0.log")).out("first")
	r.start()
	eventually(t, "opening", func() bool { return len(r.c.Status().Files) == 1 })
	dir := r.dir("second", "c")
	openLog(t, filepath.Join(dir, "0.log")).out("second")
	eventually(t, "opening", func() bool { return len(r.c.Status().Files) == 2 })
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	r.sink.set(func() { r.sink.shut = false })
	wantSet(t, r.sink.wait(t, 2), []string{"first", "second"})
}

func TestTruncatedFileIsReadFromItsStart(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	f := openLog(t, path).out("before", "before2")
	r.start()
	r.sink.wait(t, 2)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "noticing the truncation", func() bool { s, _ := r.status("0.log"); return s.Problem != "" })
	f.out("after")
	if diff := cmp.Diff([]string{"before", "before2", "after"}, r.sink.wait(t, 3)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	r.finish()
	r.sink = newLedger()
	f.out("later")
	r.start()
	if diff := cmp.Diff([]string{"later"}, r.sink.wait(t, 1)); diff != "" {
		t.Errorf("lines after a restart (-want +got):\n%s", diff)
	}
}

func TestFileThatShrinksAndGrowsBetweenTwoLooksIsReadFromItsStart(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	openLog(t, path).out("before")
	r.build()
	newScanner(r.c).scan(time.Now())
	rd := newReader(r.c)
	rd.round(t.Context())
	after := []string{"after, which is longer than before", "and after"}
	if err := os.WriteFile(path, []byte(cri("stdout", "F", after[0])+cri("stdout", "F", after[1])), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another look", func() bool { rd.round(t.Context()); return len(r.sink.texts()) == 3 })
	if diff := cmp.Diff(append([]string{"before"}, after...), r.sink.texts()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if got := r.metric("ingot_podlogs_truncations_total"); got != 1 {
		t.Errorf("%v truncations, want 1", got)
	}
}

func TestRecreatedFileIsReadFromItsStart(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	openLog(t, path).out("old")
	r.start()
	r.sink.wait(t, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	openLog(t, path).out("new")
	if diff := cmp.Diff([]string{"old", "new"}, r.sink.wait(t, 2)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestContainerRestartKeepsOrder(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	r.start()
	openLog(t, filepath.Join(dir, "0.log")).out("a").write(cri("stdout", "P", "killed in mid"))
	r.sink.wait(t, 1)
	openLog(t, filepath.Join(dir, "1.log")).out("b")
	if diff := cmp.Diff([]string{"a", "killed in mid", "b"}, r.sink.wait(t, 3)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestRestartGoesOnWhereItWasAcknowledged(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	path := filepath.Join(dir, "0.log")
	f := openLog(t, path).out("1", "2")
	r.start()
	r.sink.wait(t, 2)
	r.finish()
	f.out("3")
	rename(t, path, path+".20260102-030405")
	openLog(t, path).out("4")
	r.start()
	if diff := cmp.Diff([]string{"1", "2", "3", "4"}, r.sink.wait(t, 4)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestKillRepeatsOnlyWhatWasNotAcknowledged(t *testing.T) {
	r := newRig(t)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("1")
	r.start()
	r.sink.wait(t, 1)
	r.p.write()
	r.sink.set(func() { r.sink.hold = true })
	f.out("2").write(cri("stdout", "P", "3a")).write(cri("stdout", "F", "3b"))
	r.sink.wait(t, 3)
	r.p.write()
	r.kill()
	first := r.sink.all()
	r.sink = newLedger()
	r.start()
	r.sink.wait(t, 2)
	if diff := cmp.Diff(first[1:], r.sink.all(), cmp.AllowUnexported(line{})); diff != "" {
		t.Errorf("repeated lines are not identical (-first +again):\n%s", diff)
	}
}

func TestKillsAtRandomLoseNothing(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	path := filepath.Join(dir, "0.log")
	var want []string
	var got []string
	f := openLog(t, path)
	for i := range 30 {
		r.sink = newLedger()
		r.sink.hold = i%3 == 1
		r.start()
		ids := numbered(fmt.Sprint("run", i), 0, 2000)
		want = append(want, ids...)
		for j := 0; j < len(ids); j += 100 {
			f.out(ids[j : j+100]...)
			if j == 700 && i%2 == 0 {
				rename(t, path, fmt.Sprintf("%s.20260102-0304%02d", path, i))
				f = openLog(t, path)
			}
			if j == 1000 {
				r.p.write()
			}
		}
		if i%4 != 0 {
			r.sink.wait(t, 100)
		}
		r.kill()
		got = append(got, r.sink.texts()...)
	}
	r.sink = newLedger()
	f.out("end")
	r.start()
	eventually(t, "the last line", func() bool { return slices.Contains(r.sink.texts(), "end") })
	wantAll(t, append(got, r.sink.texts()...), append(want, "end"))
}

func TestPartsOfALineAreJoined(t *testing.T) {
	out := func(tag, s string) string { return cri("stdout", tag, s) }
	err := func(tag, s string) string { return cri("stderr", tag, s) }
	f := func(name string, want []string, files ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			dir := r.dir("web", "nginx")
			for i, content := range files {
				file := "0.log"
				if i+1 < len(files) {
					file = fmt.Sprintf("0.log.20260102-03040%d", i)
				}
				openLog(t, filepath.Join(dir, file)).write(content)
			}
			r.start()
			if diff := cmp.Diff(want, r.sink.wait(t, len(want))); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			r.finish()
			if got := r.metric("ingot_podlogs_parts_pending"); got != 0 {
				t.Errorf("%v parts are pending, want 0", got)
			}
			r.conserved()
		})
	}
	f("of one stream", []string{"abc", "d"}, out("P", "a")+out("P", "b")+out("F", "c")+out("F", "d"))
	f("of both streams", []string{"AB", "ab", "C"}, out("P", "a")+err("P", "A")+err("F", "B")+out("F", "b")+err("F", "C"))
	f("across a rotation", []string{"x", "ab", "y"}, out("F", "x")+out("P", "a"), out("F", "b")+out("F", "y"))
	f("across two rotations", []string{"z", "abc"}, out("P", "a"), out("P", "b")+err("F", "z"), out("F", "c"))
	f("with an empty part and more tags", []string{"ab"}, out("P:x", "a")+out("P", "")+out("F:y:z", "b"))
	f("cut within a character", []string{"aé"}, out("P", "a\xc3")+out("F", "\xa9"))
}

func TestOpenLineSurvivesAKill(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	openLog(t, path).out("x").write(cri("stdout", "P", "a") + cri("stderr", "F", "e"))
	r.start()
	r.sink.wait(t, 2)
	r.finish()
	rename(t, path, path+".20260102-030405")
	next := openLog(t, path).write(cri("stderr", "F", "e2"))
	r.start()
	r.sink.wait(t, 4) // e repeats, since it follows the open line
	r.finish()
	next.write(cri("stdout", "F", "b")).out("y")
	r.start()
	eventually(t, "the last line", func() bool { return slices.Contains(r.sink.texts(), "y") })
	wantAll(t, r.sink.texts(), []string{"x", "e", "e2", "ab", "y"})
	r.finish()
	r.sink = newLedger()
	next.out("z")
	r.start()
	if diff := cmp.Diff([]string{"z"}, r.sink.wait(t, 1)); diff != "" {
		t.Errorf("lines after the line was closed (-want +got):\n%s", diff)
	}
}

func TestOpenLineDoesNotHoldPositionsForEver(t *testing.T) {
	r := newRig(t)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).write(cri("stdout", "P", "left alone"))
	filler := cri("stderr", "F", strings.Repeat("x", 1000))
	f.write(strings.Repeat(filler, 1500))
	r.start()
	r.sink.wait(t, 1501)
	if !slices.Contains(r.sink.texts(), "left alone") {
		t.Fatal("the open line was not given up")
	}
	eventually(t, "everything to be acknowledged", func() bool { return r.c.Status().LagBytes == 0 })
	r.finish()
	r.conserved()
}

func TestOpenLineOfASilentFileIsPushed(t *testing.T) {
	r := newRig(t)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log"))
	f.write(cri("stdout", "P", "half") + cri("stderr", "P", strings.Repeat("x", maxLine)) + cri("stderr", "P", "x"))
	r.build()
	r.c.timing.openAge = 20 * time.Millisecond
	r.run()
	got := r.sink.wait(t, 2)
	if want := strings.Repeat("x", maxLine-len(cutMarker)) + cutMarker; got[0] != "half" || got[1] != want {
		t.Errorf("lines = %.20q, want the open ones", got)
	}
	eventually(t, "the acknowledgement", func() bool { s, _ := r.status("0.log"); return s.Acknowledged == s.Size })
	eventually(t, "counting", func() bool { return r.metric("ingot_podlogs_lines_altered_total", "reason", "unfinished") == 2 })
	f.write(cri("stdout", "F", "other half") + cri("stderr", "F", "rest of what was cut")).out("b")
	if diff := cmp.Diff([]string{"other half", "b"}, r.sink.wait(t, 4)[2:]); diff != "" {
		t.Errorf("lines afterwards (-want +got):\n%s", diff)
	}
	r.finish()
	r.conserved()
}

func TestLongLinesAreCut(t *testing.T) {
	part := strings.Repeat("0123456789abcdef", 1024)
	long := strings.Repeat(part, 100)
	f := func(name, content string, format Format) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			path := filepath.Join(filepath.Dir(r.root), "long.log")
			r.cfg.Pods.Enabled = false
			r.cfg.Files = []FileConfig{{Paths: []string{path}, Format: format}}
			openLog(t, path).write(content)
			r.start()
			got := r.sink.wait(t, 2)
			if len(got) != 2 || got[0] != long[:maxLine-len(cutMarker)]+cutMarker {
				t.Errorf("the first of %d lines has %d bytes and ends with %q", len(got), len(got[0]), got[0][len(got[0])-50:])
			}
			if got[1] != "next" {
				t.Errorf("the second line is %.100q, want next", got[1])
			}
			r.finish()
			if got := r.metric("ingot_podlogs_lines_altered_total", "reason", "cut"); got != 1 {
				t.Errorf("%v lines were counted as cut, want 1", got)
			}
			r.conserved()
			r.sink = newLedger()
			openLog(t, path).write(cri("stdout", "F", "later"))
			r.start()
			if got := r.sink.wait(t, 1); len(got) != 1 || !strings.HasSuffix(got[0], "later") {
				t.Errorf("after a restart %d lines, the first is %.100q", len(got), got[0])
			}
		})
	}
	f("raw", long+"\nnext\n", FormatRaw)
	f("one part", cri("stdout", "F", long)+cri("stdout", "F", "next"), FormatCRI)
	f("many parts", strings.Repeat(cri("stdout", "P", part), 100)+cri("stdout", "F", part)+cri("stdout", "F", "next"), FormatCRI)
}

func TestUnpleasantBytesBecomeValidText(t *testing.T) {
	r := newRig(t)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log"))
	f.out("bad \xff\xfe utf8", "nul \x00 inside", "esc \x1b[31m", "cr\r", "\u2028")
	f.write("\x00\x00\x00" + cri("stdout", "F", "after a hole"))
	f.write("\x00\x00\n" + "not a log line\n" + "2026-13-02T03:04:05Z stdout F x\n" + "0001-01-01T00:00:00Z stdout F x\n")
	f.out("good")
	r.start()
	want := []string{"bad \uFFFD utf8", "nul \x00 inside", "esc \x1b[31m", "cr\r", "\u2028", "after a hole", "good"}
	if diff := cmp.Diff(want, r.sink.wait(t, len(want))); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	s, _ := r.status("0.log")
	if !strings.HasPrefix(s.Problem, "malformed line: ") {
		t.Errorf("problem = %q, want a malformed line", s.Problem)
	}
	r.finish()
	r.conserved()
	if got := r.metric("ingot_podlogs_lines_dropped_total", "reason", "malformed"); got != 3 {
		t.Errorf("%v malformed lines, want 3", got)
	}
	if got := r.metric("ingot_podlogs_lines_dropped_total", "reason", "nul"); got != 1 {
		t.Errorf("%v lines of NUL, want 1", got)
	}
}

func TestSparseHoleIsSkipped(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	f := openLog(t, path)
	if err := os.Truncate(path, 3_000_000); err != nil {
		t.Fatal(err)
	}
	f.out("after")
	r.start()
	if diff := cmp.Diff([]string{"after"}, r.sink.wait(t, 1)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestLineWithoutEndIsHeldUntilTheFileIsFinal(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	f := openLog(t, path).out("a").write("2026-01-02T03:04:05Z stdout F ha")
	r.start()
	r.sink.wait(t, 1)
	f.write("lf\n2026-01-02T03:04:05Z stdout F tail")
	if diff := cmp.Diff([]string{"a", "half"}, r.sink.wait(t, 2)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "half", "tail"}, r.sink.wait(t, 3)); diff != "" {
		t.Errorf("lines after deletion (-want +got):\n%s", diff)
	}
}

func TestFiveHundredFiles(t *testing.T) {
	r := newRig(t)
	var want []string
	var files []*logFile
	for i := range 500 {
		f := openLog(t, filepath.Join(r.dir(fmt.Sprint("pod", i), "c"), "0.log"))
		files = append(files, f)
		ids := numbered(fmt.Sprint("f", i), 0, 20)
		want = append(want, ids...)
		f.out(ids[:10]...)
	}
	r.start()
	r.sink.wait(t, 5000)
	for i, f := range files {
		f.out(want[i*20+10 : i*20+20]...)
	}
	wantSet(t, r.sink.wait(t, len(want)), want)
	r.finish()
	r.conserved()
}

func TestMetadataIsWaitedForAndKeptCurrent(t *testing.T) {
	r := newRig(t)
	pods := &fakePods{}
	r.pods = pods
	r.cfg.Pods.MetadataTimeout = config.Duration(time.Hour)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("1")
	r.start()
	eventually(t, "opening", func() bool { return len(r.c.Status().Files) == 1 })
	if s, _ := r.status("0.log"); s.State != "waiting" {
		t.Errorf("state = %s without metadata, want waiting", s.State)
	}
	pods.put("uid-web", kube.Pod{Namespace: "shop", Name: "web", Labels: map[string]string{"app.kubernetes.io/name": "storefront"}})
	r.sink.wait(t, 1)
	pods.put("uid-web", kube.Pod{Namespace: "shop", Name: "web", Annotations: map[string]string{"k8s.grafana.com/logs.job": "mine"}})
	for n := 2; !strings.Contains(r.sink.all()[len(r.sink.all())-1].labels, `job="mine"`); n++ {
		f.out(fmt.Sprint(n))
		r.sink.wait(t, n)
		if n > 1_000_000 {
			t.Fatal("the new annotation did not reach the labels")
		}
	}
	if got := r.sink.all()[0].labels; !strings.Contains(got, `app_kubernetes_io_name="storefront"`) {
		t.Errorf("labels of the first line = %s", got)
	}
}

func TestMetadataOfAPodThatCameAndWentDuringAnOutageIsKept(t *testing.T) {
	r := newRig(t)
	pods := &fakePods{}
	r.pods = pods
	r.sink.shut = true
	openLog(t, filepath.Join(r.dir("first", "c"), "0.log")).out("first")
	pods.put("uid-first", kube.Pod{Namespace: "shop", Name: "first"})
	r.start()
	eventually(t, "the reader to wait", func() bool { s, _ := r.status("0.log"); return s.Read > 0 })
	openLog(t, filepath.Join(r.dir("second", "c"), "0.log")).out("second")
	eventually(t, "discovery", func() bool { return len(r.c.Status().Files) == 2 })
	// The cluster tells of a pod after its first file is there, and forgets it before Loki is back.
	pods.put("uid-second", kube.Pod{Namespace: "shop", Name: "second", Labels: map[string]string{nameLabel: "app"}})
	passes := r.c.Status().Scanned
	eventually(t, "two more scans", func() bool {
		now := r.c.Status().Scanned
		return now.Sub(passes) > 3*time.Duration(r.cfg.Pods.ScanInterval)
	})
	pods.forget("uid-second")
	r.sink.set(func() { r.sink.shut = false })
	r.sink.wait(t, 2)
	const want = `{app_kubernetes_io_name="app", container="c", job="shop/c", namespace="shop", service_name="app", service_namespace="shop"}`
	if got := r.sink.all()[1].labels; got != want {
		t.Errorf("labels = %s, want %s", got, want)
	}
}

func TestLinesGoOutWithoutMetadataAfterTheTimeout(t *testing.T) {
	r := newRig(t)
	pods := &fakePods{}
	r.pods = pods
	r.cfg.Pods.MetadataTimeout = config.Duration(20 * time.Millisecond)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("1")
	r.start()
	r.sink.wait(t, 1)
	if got := r.sink.all()[0].labels; !strings.Contains(got, `namespace="shop"`) {
		t.Errorf("labels = %s, want those of the path", got)
	}
	pods.put("uid-web", kube.Pod{Namespace: "shop", Name: "web"})
	eventually(t, "asking for the pod again", func() bool {
		f.out("2")
		return r.metric("ingot_podlogs_lines_pushed_total") > r.metric("ingot_podlogs_lines_without_metadata_total")
	})
	if got := r.metric("ingot_podlogs_lines_without_metadata_total"); got < 1 {
		t.Errorf("%v lines are counted as sent without metadata, want at least 1", got)
	}
}

func TestNamespacesAreChosenByAnchoredExpressions(t *testing.T) {
	f := func(keep, drop, want []string) {
		t.Helper()
		r := newRig(t)
		r.cfg.Pods.Namespaces, r.cfg.Pods.ExcludeNamespaces = keep, drop
		for _, ns := range []string{"a", "ab", "abc", "b"} {
			dir := filepath.Join(r.root, ns+"_p_u", "c")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			openLog(t, filepath.Join(dir, "0.log")).out(ns)
		}
		r.build()
		s := newScanner(r.c)
		s.scan(time.Now())
		var got []string
		for _, file := range r.c.Status().Files {
			got = append(got, file.Namespace)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("keep %q drop %q (-want +got):\n%s", keep, drop, diff)
		}
	}
	f(nil, nil, []string{"a", "ab", "abc", "b"})
	f([]string{"a", "b"}, nil, []string{"a", "b"})
	f([]string{"a.*"}, []string{"ab"}, []string{"a", "abc"})
	f(nil, []string{"a|b", "abc"}, []string{"ab"})
}

func TestKubeletsRotationAtSpeedLosesNothing(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	live := filepath.Join(dir, "0.log")
	r.start()
	var want []string
	for i := range 40 {
		f := openLog(t, live)
		var st unix.Stat_t
		if err := unix.Fstat(int(f.f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		// A rotation takes the kubelet at least seconds; here it waits for the discovery.
		eventually(t, "discovery", func() bool { return r.c.claim(idOf(&st)) != nil })
		ids := numbered(fmt.Sprint("gen", i), 0, 2000)
		want = append(want, ids...)
		f.out(ids...)
		rename(t, live, fmt.Sprintf("%s.20260102-0304%02d", live, i))
		for j := range i { // The rest of what was rotated before is removed, read or not.
			_ = os.Remove(fmt.Sprintf("%s.20260102-0304%02d", live, j))
		}
		_ = f.f.Close()
	}
	wantSet(t, r.sink.wait(t, len(want)), want)
	if !slices.Equal(r.sink.texts(), want) {
		t.Error("lines are out of order")
	}
	eventually(t, "closing", func() bool { return len(r.c.Status().Files) <= 1 })
}

func TestFileThatIsRenamedBackGoesOn(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	f := openLog(t, path).out("a")
	r.build()
	s := newScanner(r.c)
	scan := func() { s.scan(time.Now().Add(time.Hour)) }
	scan()
	away := filepath.Join(r.t.TempDir(), "away")
	rename(t, path, away)
	scan()
	if f, _ := r.status("0.log"); !f.Deleted {
		t.Fatal("the file is not taken for deleted")
	}
	rename(t, away, path)
	scan()
	if f, ok := r.status("0.log"); f.Deleted || !ok {
		t.Error("the file is still taken for deleted")
	}
	tl := r.c.order[0].tails[0]
	r.c.remove(tl)
	if f.out("b"); len(r.c.Status().Files) != 1 {
		t.Error("a file with a name was removed")
	}
}

func TestLateWritesToARotatedFileComeBeforeTheNewFile(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	old := openLog(t, path).out("x")
	r.build()
	r.c.timing.settle = time.Second
	r.run()
	r.sink.wait(t, 1)
	rename(t, path, path+".20260102-030405")
	openLog(t, path).write(cri("stdout", "F", "b"))
	eventually(t, "discovery", func() bool { return len(r.c.Status().Files) == 2 })
	old.write(cri("stdout", "P", "a"))
	if diff := cmp.Diff([]string{"x", "ab"}, r.sink.wait(t, 2)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	old.out("very late")
	r.sink.wait(t, 3)
}

func TestOverlongLineIsRecognisedAfterAKill(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	f := openLog(t, path).out("a").write("2026-01-02T03:04:05Z stdout F " + strings.Repeat("x", 2*turnSize))
	r.start()
	r.sink.wait(t, 2)
	eventually(t, "reading on", func() bool { s, _ := r.status("0.log"); return s.Read == s.Size })
	r.finish()
	first := r.sink.all()
	f.write("rest\n").out("b")
	r.sink = newLedger()
	r.start()
	r.sink.wait(t, 2)
	want := append(first[1:], line{first[0].labels, first[0].metadata, first[0].t, "b"})
	if diff := cmp.Diff(want, r.sink.all(), cmp.AllowUnexported(line{})); diff != "" {
		t.Errorf("lines (-want +got):\n%.2000s", diff)
	}
}
