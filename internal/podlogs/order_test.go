package podlogs

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestContainersOfOneStreamAreReadSideBySide has two pods of a Deployment, one of which writes
// much and the other little, and a third that comes late with old lines. Loki would refuse what
// is an hour behind.
func TestContainersOfOneStreamAreReadSideBySide(t *testing.T) {
	r := newRig(t)
	noisy := openLog(t, filepath.Join(r.dir("noisy", "app"), "0.log"))
	quiet := openLog(t, filepath.Join(r.dir("quiet", "app"), "0.log"))
	rotated := openLog(t, filepath.Join(r.dir("rotated", "app"), "0.log.20260101-000000"))
	live := openLog(t, filepath.Join(r.dir("rotated", "app"), "0.log"))
	want := 0
	for i := range 180 {
		age := time.Duration(180-i) * time.Minute
		quiet.write(stamped(age, "F", fmt.Sprint("quiet ", i)))
		f := rotated
		if i >= 90 {
			f = live
		}
		f.write(stamped(age, "F", fmt.Sprint("rotated ", i)))
		noisy.write(strings.Repeat(stamped(age, "F", strings.Repeat("x", 500)), 50))
		want += 52
	}
	r.start()
	r.sink.wait(t, want)
	newest, late := int64(0), 0
	for _, l := range r.sink.all() {
		newest = max(newest, l.t)
		if l.t < newest-int64(time.Hour) {
			late++
		}
	}
	if late > 0 {
		t.Errorf("%d of %d lines came an hour or more behind the newest of their stream", late, want)
	}
}
