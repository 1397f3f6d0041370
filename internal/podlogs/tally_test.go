package podlogs

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLossesByPodAreBoundedAndForgetTheOldest(t *testing.T) {
	c := &Collector{}
	start := time.Unix(1000, 0)
	for i := range maxTallies + 1 {
		c.tally(tallyKey{"ns", fmt.Sprint("pod", i), lostDamaged}, 0, int64(i), start.Add(time.Duration(i)*time.Second))
	}
	c.tally(tallyKey{"ns", "pod7", lostDamaged}, 1, 5000, start)
	all := c.podLosses()
	if len(all) != maxTallies {
		t.Fatalf("%d pods are listed, want %d", len(all), maxTallies)
	}
	if first := all[0]; first.Pod != "pod7" || first.Bytes != 5007 || first.Lines != 1 {
		t.Errorf("the first is %+v, want pod7 with what was added", first)
	}
	for _, l := range all {
		if l.Pod == "pod0" {
			t.Error("the oldest is still listed")
		}
	}
}

func TestLinesLeftOutAreCountedToTheirPod(t *testing.T) {
	r := newRig(t)
	openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).out("good").write("bad\nbad\n").out(strings.Repeat("x", maxLine+1), "last")
	r.start()
	r.sink.wait(t, 3)
	want := []PodLoss{
		{Namespace: "shop", Pod: "web", Reason: dropMalformed, Lines: 2},
		{Namespace: "shop", Pod: "web", Reason: alterCut, Lines: 1},
	}
	if diff := cmp.Diff(want, withoutTimes(r.c.Status().Pods)); diff != "" {
		t.Errorf("left out by pod (-want +got):\n%s", diff)
	}
}
