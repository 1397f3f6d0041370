package podfiles

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var record = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)$`)

// A written line, its parts joined.
type written struct {
	id, output string
	size       int // Of all its records.
	parts      int
}

// lines reads all lines of a file as a reader of CRI logs does.
func lines(t *testing.T, path string) []written {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []written
	var open written
	for line := range strings.Lines(string(text)) {
		m := record.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("%s: not a CRI record: %q", path, line)
		}
		if open.parts == 0 {
			open.id, open.output = m[3][:22], m[1]
		}
		open.parts++
		open.size += len(line)
		if m[2] == "F" {
			all = append(all, open)
			open = written{}
		}
	}
	if open.parts != 0 {
		t.Errorf("%s ends in a part", path)
	}
	return all
}

func logFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*_*_*", "main", "0.log*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestWhatIsWrittenIsWhatWasCounted(t *testing.T) {
	dir := t.TempDir()
	w, err := New(Config{Dir: dir, Files: 20, Busy: 10, LineSize: 289})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Backlog(4 << 20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := w.Run(ctx, 1000); err != nil {
		t.Fatal(err)
	}
	names := logFiles(t, dir)
	if len(names) != 20 {
		t.Fatalf("%d files, want 20", len(names))
	}
	var count Counts
	var partial, long, stderr int
	idle := 0
	for _, name := range names {
		got := lines(t, name)
		if len(got) == 1 {
			idle++
		}
		var ids []string
		for _, l := range got {
			count.Lines++
			count.Bytes += int64(l.size)
			ids = append(ids, l.id[12:])
			partial += l.parts - 1
			if l.output == "stderr" {
				stderr++
			}
			if l.size > cutAt {
				long++
			}
		}
		if !slices.IsSorted(ids) || len(slices.Compact(ids)) != len(got) {
			t.Errorf("%s: the numbers of its lines do not count up", name)
		}
	}
	if idle != 10 {
		t.Errorf("%d files have their first line only, want 10", idle)
	}
	if count != w.Counts() {
		t.Errorf("read %+v, counted %+v", count, w.Counts())
	}
	within := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > want/3 {
			t.Errorf("%s: %.4f, want about %.4f", what, got, want)
		}
	}
	all := float64(count.Lines)
	within("partial lines", float64(partial)/all, 1.0/partialEvery)
	within("long lines", float64(long)/all, 1.0/partialEvery/longEvery)
	within("lines of stderr", float64(stderr)/all, 1.0/stderrEvery)
	if mean := float64(count.Bytes) / all; math.Abs(mean-289) > 10 {
		t.Errorf("a line has %.0f bytes, want about 289", mean)
	}
}

func TestFullFilesAreRenamed(t *testing.T) {
	dir := t.TempDir()
	w, err := New(Config{Dir: dir, Files: 1, LineSize: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f := w.files[0]
	f.size = rotateAt
	for range 3 {
		if err := w.write(f); err != nil {
			t.Fatal(err)
		}
	}
	names := logFiles(t, dir)
	if len(names) != 2 || len(lines(t, names[0])) != 2 || len(lines(t, names[1])) != 2 {
		t.Errorf("files %q, want the first two lines in one that was renamed and two in the new one", names)
	}
}

func TestTheBusiestFileGetsMostButNotAll(t *testing.T) {
	w, err := New(Config{Dir: t.TempDir(), Files: 200, LineSize: 289})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	hits := make([]int, 200)
	for range 100_000 {
		hits[w.zipf.Uint64()]++
	}
	if hits[0] < 10_000 || hits[0] > 30_000 || hits[199] == 0 {
		t.Errorf("of 100 000 lines the first file gets %d and the last %d", hits[0], hits[199])
	}
}

func TestLinesThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir, Files: 1, LineSize: 289}); err == nil {
		t.Error("no error for a folder that cannot be made")
	}
}
