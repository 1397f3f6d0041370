package podlogs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func TestPatternsMatchPaths(t *testing.T) {
	for _, x := range []struct {
		pattern, path string
		want          bool
	}{
		{"/var/log/*.log", "/var/log/a.log", true},
		{"/var/log/*.log", "/var/log/sub/a.log", false},
		{"/var/log/**/*.log", "/var/log/a.log", true},
		{"/var/log/**/*.log", "/var/log/sub/deep/a.log", true},
		{"/var/log/**/*.log", "/var/log/sub/a.txt", false},
		{"/var/log/**/*.log", "/var/a.log", false},
		{"/var/log/**/*.log", "/var/logs/a.log", false},
		{"/var/*/x/**/*.log", "/var/y/x/z/a.log", true},
		{"/var/*/x/**/*.log", "/var/y/z/a.log", false},
		{"/**/a.log", "/a.log", true},
		{"/**/a.log", "/x/y/a.log", true},
		{"/var/log//a.log", "/var/log/a.log", true},
	} {
		if got := matchesPath(x.pattern, x.path); got != x.want {
			t.Errorf("%s matches %s: %t, want %t", x.pattern, x.path, got, x.want)
		}
	}
}

func TestFilesBelowADirectoryAreFoundAndSomeLeftOut(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		openLog(t, path).write(text + "\n")
	}
	write("a.log", "top")
	write("one/b.log", "one")
	write("one/two/c.log", "two")
	write("one/two/c.txt", "of another name")
	write("one/debug.log", "a file left out")
	write("private/d.log", "in a directory left out")
	write("private/deep/d.log", "below a directory left out")
	if err := os.Symlink(filepath.Join(dir, "one"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.cfg.Files = []FileConfig{{
		Paths: []string{dir + "/**/*.log"}, Format: FormatRaw, FirstStart: startConfig(fromBeginning),
		ExcludePaths: []string{dir + "/**/debug.log", dir + "/priv*"},
	}}
	r.start()
	wantSet(t, r.sink.wait(t, 3), []string{"top", "one", "two"})
	write("one/new/e.log", "new directory")
	write("one/two/f.log", "new file")
	got := r.sink.wait(t, 5)
	wantSet(t, got, []string{"top", "one", "two", "new directory", "new file"})

	// What is left out and goes away is no loss, what is taken and goes away is.
	f := &r.c.cfg.Files[0]
	for path, want := range map[string]bool{"one/x.log": true, "one/debug.log": false, "private/x.log": false, "private/a/x.log": false, "x.txt": false} {
		if got := f.takes(filepath.Join(dir, path)); got != want {
			t.Errorf("%s is taken: %t, want %t", path, got, want)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the closing of removed files", func() bool { return len(r.c.Status().Files) == 1 })
}

func TestLabelsComeFromThePath(t *testing.T) {
	talos := regexp.MustCompile(`/(?P<service_name>[^/]+)\.log$`)
	for _, x := range []struct {
		path   string
		labels map[string]string
		re     *regexp.Regexp
		want   string
	}{
		{"/var/log/machined.log", map[string]string{"job": "talos"}, talos, `{filename="/var/log/machined.log", job="talos", service_name="machined"}`},
		{"/var/log/machined.log", map[string]string{"service_name": "default"}, talos, `{filename="/var/log/machined.log", service_name="machined"}`},
		{"/var/log/syslog", map[string]string{"service_name": "default"}, talos, `{filename="/var/log/syslog", service_name="default"}`},
		{"/var/log/syslog", map[string]string{"filename": "fixed"}, nil, `{filename="fixed"}`},
		{"/srv/a/b.log", nil, regexp.MustCompile(`^/srv/(?P<filename>[^/]+)/(.+)(?P<none>x?)`), `{filename="a"}`},
	} {
		got := fileLabels(x.path, x.labels, x.re)
		if diff := cmp.Diff(x.want, got[0].index.String()); diff != "" || got[0] != got[1] || got[0].metadata != model.Labels("") {
			t.Errorf("%s (-want +got):\n%s", x.path, diff)
		}
	}
}

func TestLabelsFromThePathReachTheLines(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	openLog(t, filepath.Join(dir, "kubelet.log")).write("line\n")
	c := DefaultFileConfig()
	if err := config.Load([]byte(`{paths: ["`+dir+`/*.log"], labels: {job: talos}, labels_from_path: '/(?P<service>[^/]+)\.log$'}`), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r.cfg.Files = []FileConfig{c}
	r.start()
	r.sink.wait(t, 1)
	if got, want := r.sink.all()[0].labels, `{filename="`+dir+`/kubelet.log", job="talos", service="kubelet"}`; got != want {
		t.Errorf("labels are %s, want %s", got, want)
	}
}

func TestPathSettingsAreChecked(t *testing.T) {
	c := DefaultFileConfig()
	c.Paths = []string{"/a/**", "/a/**/**/b", "/a/b**/c"}
	c.ExcludePaths = []string{"b/*"}
	c.LabelsFromPath = `/(?P<__x>a)(?P<ok>b)`
	c.FirstStart = StartConfig{From: fromPodStart, MaxAge: config.Duration(-time.Second)}
	want := `paths[0]: may have ** only as the directory before the name of the file, as in /var/log/**/*.log, is "/a/**"
paths[1]: may have ** only as the directory before the name of the file, as in /var/log/**/*.log, is "/a/**/**/b"
paths[2]: may have ** only as the directory before the name of the file, as in /var/log/**/*.log, is "/a/b**/c"
exclude_paths[0]: must be an absolute path or pattern, is "b/*"
labels_from_path: must have label names in its groups: letters, digits and _, not starting with a digit or __, has "__x"
first_start.from: must be beginning or end, is "pod_start"
first_start.max_age: must not be negative, is -1s; write 0s for no limit`
	if err := c.Validate(); err == nil {
		t.Error("bad settings were accepted")
	} else if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	c = DefaultFileConfig()
	c.Paths, c.LabelsFromPath = []string{"/a"}, "(a"
	if err := c.Validate(); err == nil {
		t.Error("an expression that is none was accepted")
	}
	c.LabelsFromPath = "(a)"
	if err := c.Validate(); err == nil {
		t.Error("an expression without names was accepted")
	}
}

// A look at a pattern is one for all its directories that have changed.
func TestChangesOfOnePatternAreLookedAtTogether(t *testing.T) {
	const dirs = 50
	r := newRig(t)
	root := t.TempDir()
	for i := range dirs {
		if err := os.Mkdir(filepath.Join(root, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.cfg.Pods.Enabled = false
	r.cfg.Files = []FileConfig{{Paths: []string{root + "/**/*.log"}, Format: FormatRaw, FirstStart: startConfig(fromBeginning)}}
	r.build()
	var err error
	if r.c.watch, err = newWatch(r.c.poke); err != nil {
		t.Skip(err)
	}
	defer r.c.watch.close()
	s := newScanner(r.c)
	later := time.Now().Add(time.Hour)
	s.scan(later)
	var batch []notice
	for wd := range r.c.watch.dirs {
		batch = append(batch, notice{wd: wd, name: []byte("x.log")})
	}
	r.c.watch.note(batch)
	s.looks = 0
	s.changes(later)
	if s.looks < dirs || s.looks > 2*dirs {
		t.Errorf("%d looks at directories, want one at each of %d", s.looks, len(batch))
	}
}
