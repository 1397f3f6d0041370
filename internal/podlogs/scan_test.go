package podlogs

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// skippedNow scans once and returns what is not read, by path below root.
func (r *rig) skippedNow(s *scanner) map[string]string {
	r.t.Helper()
	s.scan(time.Now())
	got := map[string]string{}
	for _, x := range r.c.Status().Skipped {
		rel, err := filepath.Rel(filepath.Dir(r.root), x.Path)
		if err != nil {
			r.t.Fatal(err)
		}
		got[rel] = x.Reason
	}
	return got
}

func TestNothingOutsideTheTreeIsRead(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	other := r.dir("other", "c")
	openLog(t, filepath.Join(other, "0.log")).out("of another pod")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink("/etc/passwd", filepath.Join(dir, "0.log")))
	must(os.Symlink("../../../../../../../../etc/passwd", filepath.Join(dir, "1.log")))
	must(os.Symlink("3.log", filepath.Join(dir, "3.log")))
	must(os.Symlink(filepath.Join(other, "0.log"), filepath.Join(dir, "4.log")))
	must(syscall.Mkfifo(filepath.Join(dir, "5.log"), 0o644))
	must(os.Mkdir(filepath.Join(dir, "6.log"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "7.log.20260101-000000.gz.tmp"), nil, 0o644))
	must(os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644))
	must(os.Symlink("/etc", filepath.Join(filepath.Dir(dir), "linked")))
	must(os.Symlink(r.root, filepath.Join(filepath.Dir(dir), "loop")))
	must(os.WriteFile(filepath.Join(filepath.Dir(dir), "file"), nil, 0o644))
	must(os.Symlink(filepath.Dir(other), filepath.Join(r.root, "shop_evil_uid")))
	must(os.Mkdir(filepath.Join(r.root, "lost+found"), 0o755))
	r.build()
	got := r.skippedNow(newScanner(r.c))
	const pod = "pods/shop_web_uid-web/"
	want := map[string]string{
		pod + "nginx/0.log":     skipSymlink,
		pod + "nginx/1.log":     skipSymlink,
		pod + "nginx/3.log":     skipSymlink,
		pod + "nginx/4.log":     skipSymlink,
		pod + "nginx/5.log":     skipIrregular,
		pod + "nginx/6.log":     skipIrregular,
		pod + "nginx/notes.txt": skipName,
		pod + "linked":          skipSymlink,
		pod + "loop":            skipSymlink,
		pod + "file":            skipNotDir,
		"pods/shop_evil_uid":    skipSymlink,
		"pods/lost+found":       skipName,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if files := r.c.Status().Files; len(files) != 1 || files[0].Pod != "other" {
		t.Errorf("files = %v, want the one of the other pod", files)
	}
}

func TestUnreadableFileRecoversAndDisturbsNoOther(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	bad, good := filepath.Join(dir, "0.log"), filepath.Join(dir, "1.log")
	openLog(t, bad).out("x")
	openLog(t, good).out("y")
	closed := r.dir("closed", "c")
	openLog(t, filepath.Join(closed, "0.log")).out("z")
	for path, mode := range map[string]os.FileMode{bad: 0, closed: 0, filepath.Dir(filepath.Dir(r.root)): 0o755, filepath.Dir(r.root): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	r.build()
	s := newScanner(r.c)
	asNobody(t, func() {
		want := map[string]string{"pods/shop_web_uid-web/nginx/0.log": skipUnreadable, "pods/shop_closed_uid-closed/c": skipUnreadable}
		if diff := cmp.Diff(want, r.skippedNow(s)); diff != "" {
			t.Errorf("skipped (-want +got):\n%s", diff)
		}
		if n := len(r.c.Status().Files); n != 1 {
			t.Errorf("%d files are open, want the readable one", n)
		}
	})
	if err := os.Chmod(bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		if diff := cmp.Diff(map[string]string{}, r.skippedNow(s)); diff != "" {
			t.Errorf("skipped after the repair (-want +got):\n%s", diff)
		}
	})
	if n := len(r.c.Status().Files); n != 3 {
		t.Errorf("%d files are open, want 3", n)
	}
}

// asNobody runs f without root's rights over files, on this thread alone.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody = 65534
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
		t.Skipf("set the user of file accesses: %v", errno)
	}
	defer func() {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0); errno != 0 {
			t.Errorf("set the user of file accesses back: %v", errno)
		}
	}()
	f()
}

func TestOpenFilesOutliveAnUnreadableDirectory(t *testing.T) {
	r := newRig(t)
	openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("x")
	r.build()
	s := newScanner(r.c)
	s.scan(time.Now())
	away := r.root + "-away"
	rename(t, r.root, away)
	got := r.skippedNow(s)
	if diff := cmp.Diff(map[string]string{"pods": skipUnreadable}, got); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if f, _ := r.status("0.log"); f.Deleted {
		t.Error("a file was taken for deleted because its directory could not be listed")
	}
	rename(t, away, r.root)
	if got := r.skippedNow(s); len(got) != 0 {
		t.Errorf("skipped after the repair: %v", got)
	}
}

func TestUnchangedDirectoriesAreNotReadAgain(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	openLog(t, filepath.Join(dir, "0.log")).out("x")
	r.build()
	s := newScanner(r.c)
	s.scan(time.Now())
	d := s.tops[dirKey{0, r.root}].at(dir)
	if d.listed {
		t.Error("the listing of a directory that changed just now is believed")
	}
	s.scan(time.Now().Add(time.Second))
	if !d.listed {
		t.Fatal("the listing of an old directory is not believed")
	}
	before := s.reads
	s.scan(time.Now().Add(time.Second))
	if n := s.reads - before; n != 0 {
		t.Errorf("%d directories were read again", n)
	}
	openLog(t, filepath.Join(dir, "1.log"))
	s.scan(time.Now().Add(time.Second))
	if n := len(r.c.Status().Files); n != 2 {
		t.Errorf("%d files after one was added, want 2", n)
	}
}

func TestPositionsOfGoneFilesAreDropped(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	openLog(t, path).out("x")
	r.start()
	r.sink.wait(t, 1)
	r.finish()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.build()
	r.p.load()
	s := newScanner(r.c)
	s.scan(time.Now().Add(keepGone / 2))
	if n := len(r.p.files); n != 1 {
		t.Errorf("%d positions soon after the file went, want 1", n)
	}
	rename(t, r.root, r.root+"-away")
	s.scan(time.Now().Add(2 * keepGone))
	if n := len(r.p.files); n != 1 {
		t.Errorf("%d positions while the directory cannot be listed, want 1", n)
	}
	rename(t, r.root+"-away", r.root)
	s.scan(time.Now().Add(5 * keepGone / 2))
	s.scan(time.Now().Add(5 * keepGone))
	if n := len(r.p.files); n != 0 {
		t.Errorf("%d positions long after the file went, want 0", n)
	}
}

func TestTroubleElsewhereKeepsNoPositions(t *testing.T) {
	r := newRig(t)
	// A node need not have every directory of the configuration, nor let us into each.
	r.cfg.Files = []FileConfig{{Paths: []string{filepath.Dir(r.root) + "/none/*.log"}, Format: FormatRaw}}
	gone, kept := filepath.Join(r.dir("gone", "c"), "0.log"), filepath.Join(r.dir("kept", "c"), "0.log")
	openLog(t, gone).out("x")
	openLog(t, kept).out("x")
	if err := os.Chmod(filepath.Dir(filepath.Dir(r.root)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(r.root), 0o755); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.sink.wait(t, 2)
	r.finish()
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(kept, 0); err != nil {
		t.Fatal(err)
	}
	rename(t, kept, kept+".20260102-030405")
	r.build()
	r.p.load()
	s := newScanner(r.c)
	asNobody(t, func() {
		s.scan(time.Now())
		s.scan(time.Now().Add(2 * keepGone))
	})
	var got []string
	for _, pos := range r.p.files {
		got = append(got, pos.path)
	}
	if diff := cmp.Diff([]string{kept}, got); diff != "" {
		t.Errorf("positions long after one file went and another became unreadable (-want +got):\n%s", diff)
	}
}

func TestFileLogsAreFoundByPattern(t *testing.T) {
	r := newRig(t)
	base := filepath.Dir(r.root)
	r.cfg.Pods.Enabled = false
	r.cfg.Files = []FileConfig{
		{Paths: []string{base + "/logs/*.log", base + "/logs/a.*"}, Format: FormatRaw, Labels: map[string]string{"job": "integrations/talos"}},
		{Paths: []string{base + "/logs/*/x.json"}, Format: FormatDocker, Labels: map[string]string{"filename": "mine"}},
		{Paths: []string{base + "/logs/b.log", base + "/none/*.log"}, Format: FormatRaw},
	}
	if err := os.MkdirAll(base+"/logs/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub", base+"/logs/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", base+"/logs/evil.log"); err != nil {
		t.Fatal(err)
	}
	openLog(t, base+"/logs/a.log").write("raw a\r\n")
	openLog(t, base+"/logs/b.log").write("raw b\n")
	openLog(t, base+"/logs/sub/x.json").write(
		`{"log":"do","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}` + "\n" +
			`{"log":"err\n","stream":"stderr","time":"2026-01-02T03:04:06Z"}` + "\n" +
			`{"log":"cker\n","stream":"stdout","time":"2026-01-02T03:04:07Z"}` + "\n" +
			"garbage\n{}\n")
	before := time.Now()
	r.start()
	r.sink.wait(t, 4)
	got := map[string]line{}
	for _, l := range r.sink.all() {
		got[l.text] = l
	}
	if l := got["raw a"]; l.labels != `{filename="`+base+`/logs/a.log", job="integrations/talos"}` || l.t < before.UnixNano() || l.metadata != "{}" {
		t.Errorf("raw line = %v", l)
	}
	if l := got["docker"]; l.labels != `{filename="mine"}` || l.t != 1767323047e9 {
		t.Errorf("docker line = %v", l)
	}
	r.finish()
	r.conserved()
	reasons := map[string]string{}
	for _, x := range r.c.Status().Skipped {
		reasons[strings.TrimPrefix(x.Path, base)] = x.Reason
	}
	want := map[string]string{"/logs/evil.log": skipSymlink, "/logs/link": skipSymlink, "/logs/b.log": skipTwice, "/none": skipUnreadable}
	delete(reasons, "/logs/pods")
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

func TestRawTimesOfOneFileIncrease(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(filepath.Dir(r.root), "x.log")
	r.cfg.Pods.Enabled = false
	r.cfg.Files = []FileConfig{{Paths: []string{path}, Format: FormatRaw}}
	openLog(t, path).write(strings.Repeat("x\n", 20_000))
	r.start()
	r.sink.wait(t, 20_000)
	var last int64
	for i, l := range r.sink.all() {
		if l.t <= last {
			t.Fatalf("time of line %d is %d after %d", i, l.t, last)
		}
		last = l.t
	}
}

func TestShortLivedPodsAreFoundByNotice(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.ScanInterval *= 400 // 2s
	r.start()
	r.sink.set(func() { r.sink.shut = true })
	for i := range 5 {
		dir := r.dir(string(rune('a'+i)), "c")
		openLog(t, filepath.Join(dir, "0.log")).out(string(rune('a' + i)))
		eventually(t, "opening", func() bool { return len(r.c.Status().Files) == i+1 })
		if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
	}
	r.sink.set(func() { r.sink.shut = false })
	wantSet(t, r.sink.wait(t, 5), []string{"a", "b", "c", "d", "e"})
}

func TestTreeThatAppearsAfterTheStartIsWatched(t *testing.T) {
	r := newRig(t)
	if err := os.Remove(r.root); err != nil {
		t.Fatal(err)
	}
	r.build()
	s := newScanner(r.c)
	defer r.c.startWatch()()
	s.scan(time.Now())
	container := r.dir("web", "nginx")
	s.scan(time.Now())
	var got []string
	s.walk(func(d *dir) {
		if d.wd != 0 {
			got = append(got, d.path)
		}
	})
	slices.Sort(got)
	if diff := cmp.Diff([]string{r.root, filepath.Dir(container), container}, got); diff != "" {
		t.Errorf("watched directories (-want +got):\n%s", diff)
	}
}
