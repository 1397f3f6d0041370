package kit

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

func TestFloodTellsEveryKindOfDifference(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(lines []string) []string
		want   FloodReport // without Missing
	}{
		{"everything", func(l []string) []string { return l }, FloodReport{Written: 100, Arrived: 100}},
		{"one lost", func(l []string) []string { return slices.Delete(l, 40, 41) }, FloodReport{Written: 100, Arrived: 99}},
		{"one again", func(l []string) []string { return append(l, l[3]) }, FloodReport{Written: 100, Arrived: 100, Repeated: 1}},
		{"a repeat does not hide a loss", func(l []string) []string { l[4] = l[3]; return l }, FloodReport{Written: 100, Arrived: 99, Repeated: 1}},
		{"two changed places", func(l []string) []string { l[7], l[8] = l[8], l[7]; return l }, FloodReport{Written: 100, Arrived: 100, Disorder: 1}},
		{"one changed", func(l []string) []string { l[9] = l[9][:150] + "?" + l[9][151:]; return l }, FloodReport{Written: 100, Arrived: 99, Corrupt: 1}},
		{"one cut", func(l []string) []string { l[9] = l[9][:150]; return l }, FloodReport{Written: 100, Arrived: 99, Corrupt: 1}},
		{"one from nowhere", func(l []string) []string { return append(l, "seq=101"+l[0][len("seq=1"):]) }, FloodReport{Written: 100, Arrived: 100, Corrupt: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := NewFlood(200)
			c := NewPodLogWriter(t, t.TempDir()).Pod("ns", "web-1").Container("app")
			f.Write(c, 60)
			f.Write(c, 40)
			var lines []string
			for line := range strings.Lines(read(t, c.Path())) {
				_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " stdout F ")
				lines = append(lines, text)
			}
			for _, text := range tc.change(lines) {
				if f.Take("", labels.EmptyLabels(), PushEntry{Line: text}) {
					t.Fatal("Take wants a line to be kept")
				}
			}
			got := f.Report()
			if missing := got.Written - got.Arrived; len(got.Missing) != missing || f.Arrived(c) != tc.want.Arrived {
				t.Errorf("missing are %v, %d arrived", got.Missing, f.Arrived(c))
			}
			if bad := tc.want.Arrived < 100 || tc.want.Disorder+tc.want.Corrupt > 0; (got.Err() != nil) != bad {
				t.Errorf("Err() = %v, want an error: %t", got.Err(), bad)
			}
			if got.Missing = nil; got.Written != tc.want.Written || got.Arrived != tc.want.Arrived || got.Repeated != tc.want.Repeated ||
				got.Disorder != tc.want.Disorder || got.Corrupt != tc.want.Corrupt {
				t.Errorf("Report() = %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestPruneRemovesAllButTheLastRuns(t *testing.T) {
	c := NewPodLogWriter(t, t.TempDir()).PodUID("ns", "web-1", "0123456789abcdef").Container("app")
	for range 3 {
		c.Write(1)
		c.Rotate(5)
		c.Write(1)
		c.Restart()
	}
	c.Prune(2)
	if got, want := names(t, c), []string{"2.log", "2.log.T", "3.log"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	removed := 0
	for _, l := range c.pod.w.Written() {
		if l.Removed {
			removed++
		}
	}
	if removed != 4 {
		t.Errorf("%d lines count as removed, want 4", removed)
	}
	if _, err := os.Stat(c.Path()); err != nil {
		t.Error(err)
	}
}
