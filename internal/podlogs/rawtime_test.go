package podlogs

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRawLinesAreRepeatedWithTheirTimes(t *testing.T) {
	f := func(name string, end func(r *rig)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			path := filepath.Join(filepath.Dir(r.root), "x.log")
			r.cfg.Pods.Enabled = false
			r.cfg.Files = []FileConfig{{Paths: []string{path}, Format: FormatRaw}}
			f := openLog(t, path).write("settled\n")
			r.start()
			r.sink.wait(t, 1)
			eventually(t, "settling", func() bool { return r.c.Status().LagBytes == 0 })
			r.p.write()
			r.sink.set(func() { r.sink.hold = true })
			f.write("a\nb\n")
			r.sink.wait(t, 3)
			f.write("c\nd\n")
			r.sink.wait(t, 5)
			eventually(t, "reading", func() bool { s, _ := r.status("x.log"); return s.Read == s.Size })
			time.Sleep(time.Millisecond) // What was read last is noted after it was pushed.
			end(r)
			first := r.sink.all()[1:]
			for range 2 { // Also where that ends before anything is settled.
				f.write("e\n")
				r.sink = newLedger()
				r.sink.hold = true
				before := time.Now().UnixNano()
				r.start()
				r.sink.wait(t, len(first)+1)
				got := r.sink.all()
				if diff := cmp.Diff(first, got[:len(first)], cmp.AllowUnexported(line{})); diff != "" {
					t.Fatalf("repeated lines (-first +again):\n%s", diff)
				}
				if last := got[len(first)]; last.text != "e" || last.t < before {
					t.Errorf("the new line is %v, want a time after the start", last)
				}
				eventually(t, "reading", func() bool { s, _ := r.status("x.log"); return s.Read == s.Size })
				r.finish()
				first = slices.Clone(got)
			}
		})
	}
	f("after a stop", (*rig).finish)
	f("after a kill", func(r *rig) { r.p.write(); r.kill() })
}

func TestTimesOfRawLinesAreDroppedWhenSettled(t *testing.T) {
	s := stamps{at: []stamp{{10, 100}, {20, 200}, {30, 300}}, end: 40}
	s.settle(25)
	if diff := cmp.Diff([]stamp{{20, 200}, {30, 300}}, s.at); diff != "" {
		t.Errorf("settled up to 25 (-want +got):\n%s", diff)
	}
	s.settle(40)
	if len(s.at) != 0 {
		t.Errorf("settled up to the end: %v", s.at)
	}
}
