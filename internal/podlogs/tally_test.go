package podlogs

import (
	"fmt"
	"testing"
	"time"
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
