package kit

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// read returns a file's text, decompressed when its name ends in .gz.
func read(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		gz, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body, err = io.ReadAll(gz); err != nil {
			t.Fatal(err)
		}
	}
	return string(body)
}

// names returns the file names of a container, sorted, with rotation times replaced by T.
func names(t *testing.T, c *LoggedContainer) []string {
	t.Helper()
	entries, err := os.ReadDir(c.dir())
	if err != nil {
		t.Fatal(err)
	}
	stamp := regexp.MustCompile(`\d{8}-\d{6}`)
	var all []string
	for _, e := range entries {
		all = append(all, stamp.ReplaceAllString(e.Name(), "T"))
	}
	return all
}

func TestPodLogWriterWritesCRILines(t *testing.T) {
	w := NewPodLogWriter(t, t.TempDir())
	w.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC) }
	c := w.Pod("ns", "web-1").Container("app")
	c.Write(1)
	c.Part("stdout", "half ", false)
	c.Line("stderr", "oops")
	c.Part("stdout", "and half", true)
	want := strings.ReplaceAll(`T stdout F seq=1 pod=ns/web-1 container=app
T stdout P half 
T stderr F oops
T stdout F and half
`, "T ", "2026-01-02T03:04:05.000000600Z ")
	if got := read(t, c.Path()); got != want {
		t.Errorf("file:\n%s\nwant:\n%s", got, want)
	}
	if got, err := filepath.Rel(w.Dir, c.Path()); err != nil || !regexp.MustCompile(`^ns_web-1_[0-9a-f-]{36}/app/0\.log$`).MatchString(got) {
		t.Errorf("path %s", got)
	}
	var texts []string
	for _, l := range w.Written() {
		texts = append(texts, l.Stream+" "+l.Text)
	}
	if want := []string{"stdout seq=1 pod=ns/web-1 container=app", "stderr oops", "stdout half and half"}; !slices.Equal(texts, want) {
		t.Errorf("ledger %q, want %q", texts, want)
	}
	c.Long("stdout", strings.Repeat("x", 40<<10))
	if got := w.Written(); len(got[3].Text) != 40<<10 || len(got[3].Times) != 3 {
		t.Errorf("long line: %d bytes in %d parts, want 40960 in 3", len(got[3].Text), len(got[3].Times))
	}
}

func TestPodLogWriterRotatesAsTheKubeletDoes(t *testing.T) {
	w := NewPodLogWriter(t, t.TempDir())
	c := w.Pod("ns", "web-1").Container("app")
	for i, want := range [][]string{
		{"0.log", "0.log.T"},
		{"0.log", "0.log.T.gz", "0.log.T"},
		{"0.log", "0.log.T.gz", "0.log.T.gz", "0.log.T"},
		{"0.log", "0.log.T.gz", "0.log.T.gz", "0.log.T.gz", "0.log.T"},
		{"0.log", "0.log.T.gz", "0.log.T.gz", "0.log.T.gz", "0.log.T"},
	} {
		c.Write(2)
		if i == 2 {
			if err := os.WriteFile(c.Path()+".20200101-000000.tmp", []byte("left over"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c.Rotate(5)
		if got := names(t, c); !slices.Equal(got, want) {
			t.Errorf("after rotation %d: %v, want %v", i+1, got, want)
		}
	}
	oldest, err := filepath.Glob(c.Path() + ".*.gz")
	if err != nil || !strings.Contains(read(t, oldest[0]), "seq=3 ") {
		t.Errorf("the oldest file does not begin with seq=3: %v %v", oldest, err)
	}
	var removed int
	for i, l := range w.Written() {
		if l.Removed {
			removed++
		}
		if l.Removed != (i < 2) {
			t.Errorf("line %d: removed %v", i, l.Removed)
		}
	}
	before := read(t, c.Path())
	c.Write(1)
	c.RotateFailed()
	c.Write(1)
	if got := read(t, c.Path()); before != "" || !strings.Contains(got, "seq=11 ") || !strings.Contains(got, "seq=12 ") {
		t.Errorf("after a failed rotation: %q", got)
	}
	c.Restart()
	if c.Write(1); !strings.HasSuffix(c.Path(), "1.log") || !strings.Contains(read(t, c.Path()), "seq=13 ") {
		t.Errorf("after a restart: %s", c.Path())
	}
}

func TestPodLogWriterKeepsTwoFilesWithoutCompression(t *testing.T) {
	w := NewPodLogWriter(t, t.TempDir())
	c := w.Pod("ns", "web-1").Container("app")
	for range 3 {
		c.Write(1)
		c.Rotate(2)
	}
	if got, want := names(t, c), []string{"0.log", "0.log.T"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestPodLogReportTellsEveryKindOfDifference(t *testing.T) {
	type arrival struct {
		line int           // index into what was written
		off  time.Duration // added to its time
		text string        // instead of its text
	}
	for _, tc := range []struct {
		name                               string
		got                                []arrival
		lost, invented, repeated, disorder int
	}{
		{"everything", []arrival{{line: 0}, {line: 1}, {line: 2}}, 0, 0, 0, 0},
		{"one lost", []arrival{{line: 0}, {line: 2}}, 1, 0, 0, 0},
		{"a repeat does not hide a loss", []arrival{{line: 0}, {line: 0}, {line: 2}}, 1, 0, 1, 0},
		{"corrupt text", []arrival{{line: 0}, {line: 1, text: "seq=x"}, {line: 2}}, 1, 1, 0, 0},
		{"wrong time", []arrival{{line: 0}, {line: 1, off: 1}, {line: 2}}, 1, 1, 0, 0},
		{"again under another time", []arrival{{line: 0}, {line: 1}, {line: 1, off: 1}, {line: 2}}, 0, 0, 1, 0},
		{"reordered", []arrival{{line: 0}, {line: 2}, {line: 1}}, 0, 0, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, r := NewPodLogWriter(t, t.TempDir()), StartLogs(t, LogsConfig{})
			w.Pod("ns", "web-1").Container("app").Write(3)
			written := w.Written()
			for _, a := range tc.got {
				l := written[a.line]
				if a.text != "" {
					l.Text = a.text
				}
				e := PushEntry{T: l.Times[0].Add(a.off).UnixNano(), Line: l.Text, Metadata: []Pair{{"pod", l.Pod}}}
				pushLogs(t, r, "", pushStream(`{namespace="ns",container="app"}`, e))
			}
			rep := w.Report(r, "")
			if len(rep.Lost) != tc.lost || len(rep.Invented) != tc.invented || len(rep.Repeated) != tc.repeated || len(rep.Disorder) != tc.disorder {
				t.Errorf("Report = %+v, want %d lost, %d invented, %d repeated, %d out of order", rep, tc.lost, tc.invented, tc.repeated, tc.disorder)
			}
		})
	}
}

func TestPodLogReportKeepsRemovedLinesApart(t *testing.T) {
	w, r := NewPodLogWriter(t, t.TempDir()), StartLogs(t, LogsConfig{})
	p := w.Pod("ns", "web-1")
	c := p.Container("app")
	c.Write(2)
	c.Truncate()
	c.Write(1)
	if rep := w.Report(r, ""); len(rep.Lost) != 3 {
		t.Errorf("Report: %d lost, want 3", len(rep.Lost))
	}
	if rep := w.ReportPresent(r, ""); len(rep.Lost) != 1 {
		t.Errorf("ReportPresent: %d lost, want 1", len(rep.Lost))
	}
	p.Remove(c)
	if rep := w.ReportPresent(r, ""); len(rep.Lost) != 0 {
		t.Errorf("ReportPresent after the pod was removed: %d lost, want 0", len(rep.Lost))
	}
	if _, err := os.Stat(p.Dir()); !os.IsNotExist(err) {
		t.Errorf("the pod's directory is still there: %v", err)
	}
}
