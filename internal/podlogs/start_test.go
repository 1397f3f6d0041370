package podlogs

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// aged returns lines that are of ago before now, a second apart from each other.
func aged(prefix string, n int, ago time.Duration) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(stamped(ago-time.Duration(i)*time.Second, "F", fmt.Sprintf("%s-%06d", prefix, i)))
	}
	return b.String()
}

func pack(t *testing.T, path, text string, modified time.Time) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil || z.Close() != nil {
		t.Fatal("cannot compress")
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}

// TestFirstStart lays out a container that began three hours ago, has a compressed file, a
// rotated one and one that is written to, and another that began ten minutes ago.
func TestFirstStart(t *testing.T) {
	for _, x := range []struct {
		name  string
		start StartConfig
		want  []string // which begins of lines arrive
	}{
		{"by the start of the pod", startConfig(fromPodStart), []string{"young", "open", "new"}},
		{"by the start of the pod, far back", StartConfig{fromPodStart, config.Duration(5 * time.Hour)}, []string{"packed", "rotated", "live", "young", "open", "new"}},
		{"from the end", startConfig(fromEnd), []string{"open", "new"}},
		{"from the beginning", startConfig(fromBeginning), []string{"packed", "rotated", "live", "young", "open", "new"}},
		{"by age", StartConfig{fromBeginning, config.Duration(30 * time.Minute)}, []string{"live", "young", "open", "new"}},
		{"by age within a file", StartConfig{fromBeginning, config.Duration(85 * time.Minute)}, []string{"rotated half", "live", "young", "open", "new"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := newRig(t)
			r.cfg.Pods.FirstStart = x.start
			r.cfg.Pods.ScanInterval = config.Duration(time.Minute) // What comes later is noticed between two scans.
			old, young := r.dir("old", "app"), r.dir("young", "app")
			pack(t, filepath.Join(old, "0.log.20260101-000000.gz"), aged("packed", 100, 3*time.Hour), time.Now().Add(-2*time.Hour))
			// It goes on for 5000 seconds, so that half of it is older than 85 minutes.
			openLog(t, filepath.Join(old, "0.log.20260101-010000")).write(aged("rotated", 5000, 7600*time.Second))
			// The unfinished line belongs to what comes after the start.
			live := openLog(t, filepath.Join(old, "0.log")).write(aged("live", 100, 20*time.Minute)).write(time.Now().UTC().Format(time.RFC3339Nano) + " stdout F op")
			openLog(t, filepath.Join(young, "0.log")).write(aged("young", 100, 10*time.Minute))

			var want []string
			for _, w := range x.want {
				switch w {
				case "open":
					want = append(want, "open-end")
				case "new":
					want = append(want, "new")
				case "rotated":
					want = append(want, numbered("rotated", 0, 5000)...)
				case "rotated half":
					want = append(want, numbered("rotated", 2501, 5000)...)
				default:
					want = append(want, numbered(w, 0, 100)...)
				}
			}
			r.start()
			eventually(t, "the first scan", func() bool { return !r.c.Status().Scanned.IsZero() })
			live.write("en-end\n").write(stamped(0, "F", "new"))
			// What comes later is read from its start, whatever time it carries.
			openLog(t, filepath.Join(r.dir("soon", "app"), "0.log")).write(aged("soon", 10, 10*time.Hour))
			want = append(want, numbered("soon", 0, 10)...)
			got := r.sink.wait(t, len(want))
			if strings.Contains(x.name, "half") || strings.Contains(x.name, "within") {
				got = near(got, want)
			}
			wantSet(t, got, want)

			// At the second start all files are known, and what is new is read from its start.
			r.finish()
			openLog(t, filepath.Join(r.dir("later", "app"), "0.log")).write(aged("later", 10, 10*time.Hour))
			n := len(r.sink.texts())
			r.start()
			wantSet(t, r.sink.wait(t, n+10)[n:], numbered("later", 0, 10))
		})
	}
}

// near leaves out a line or two around the boundary, which the time that a test takes moves.
func near(got, want []string) []string {
	have := map[string]bool{}
	for _, w := range want {
		have[w] = true
	}
	var out []string
	for _, g := range got {
		if have[g] || !strings.HasPrefix(g, "rotated-0025") {
			out = append(out, g)
		}
	}
	return out
}

func TestWhatTheFirstStartLeavesOutIsCountedByPod(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.FirstStart = startConfig(fromPodStart)
	text := aged("old", 100, 3*time.Hour)
	openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).write(text)
	r.start()
	eventually(t, "the first scan", func() bool { return !r.c.Status().Scanned.IsZero() })
	want := []PodLoss{{Namespace: "shop", Pod: "web", Reason: skipFirstStart, Bytes: int64(len(text))}}
	if diff := cmp.Diff(want, withoutTimes(r.c.Status().Pods)); diff != "" {
		t.Errorf("left out by pod (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(r.c.m.skippedFirst); got != float64(len(text)) {
		t.Errorf("%v bytes counted, want %d", got, len(text))
	}
	if s := r.c.Status(); len(s.Lost) > 0 || s.LagBytes != 0 {
		t.Errorf("what is left out counts as lost or lag: %+v", s)
	}
}

func TestLostPositionsAreNoFirstStart(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.FirstStart = startConfig(fromEnd)
	path := filepath.Join(r.dir("web", "app"), "0.log")
	openLog(t, path).write(aged("line", 10, 3*time.Hour))
	r.start()
	eventually(t, "the first scan", func() bool { return !r.c.Status().Scanned.IsZero() })
	r.finish()
	for _, name := range []string{r.positions, r.positions + ".bak"} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	r.start()
	wantSet(t, r.sink.wait(t, 10), numbered("line", 0, 10))
	if got := testutil.ToFloat64(r.p.m.positionRecoveries.WithLabelValues("loki", "from_beginning")); got != 1 {
		t.Errorf("%v recoveries counted, want 1", got)
	}
}

func TestFileLogsBeginWhereTheySay(t *testing.T) {
	for _, x := range []struct {
		start StartConfig
		want  []string
	}{
		{startConfig(fromBeginning), []string{"stale", "recent", "stale new", "recent new"}},
		{startConfig(fromEnd), []string{"stale new", "recent new"}},
		{StartConfig{fromBeginning, config.Duration(time.Hour)}, []string{"recent", "stale new", "recent new"}},
	} {
		t.Run(fmt.Sprint(x.start.From, x.start.MaxAge), func(t *testing.T) {
			r := newRig(t)
			dir := t.TempDir()
			stale := openLog(t, filepath.Join(dir, "stale.log")).write("stale\n")
			recent := openLog(t, filepath.Join(dir, "recent.log")).write("recent\n")
			past := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(filepath.Join(dir, "stale.log"), past, past); err != nil {
				t.Fatal(err)
			}
			r.cfg.Files = []FileConfig{{Paths: []string{dir + "/*.log"}, Format: FormatRaw, FirstStart: x.start}}
			r.start()
			eventually(t, "the first scan", func() bool { return !r.c.Status().Scanned.IsZero() })
			stale.write("stale new\n")
			recent.write("recent new\n")
			wantSet(t, r.sink.wait(t, len(x.want)), x.want)
		})
	}
}

func TestFirstStartConfigHasTheAgeOfItsKind(t *testing.T) {
	for text, want := range map[string]StartConfig{
		"{}":                             {fromPodStart, config.Duration(time.Hour)},
		"first_start: {from: beginning}": {fromBeginning, 0},
		"first_start: {from: end}":       {fromEnd, 0},
		"first_start: {max_age: 2h}":     {fromPodStart, config.Duration(2 * time.Hour)},
		"first_start: {from: beginning, max_age: 0s}": {fromBeginning, 0},
	} {
		var c PodConfig
		if err := config.Load([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		if c.FirstStart != want {
			t.Errorf("%s: %+v, want %+v", text, c.FirstStart, want)
		}
	}
}
