package podlogs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// L34: a power cut at any point of writing positions leaves those before or those after. The
// states are what a disk may hold when the file is written to a temporary file, synced and
// renamed, the one before is kept as a backup, and names may become durable in any order
// unless a sync lies between them.
func TestPowerCutLeavesPositionsOfBeforeOrAfter(t *testing.T) {
	at := func(offset int64) string {
		return string(encodePositions([]storedPosition{
			{Path: "/var/log/pods/a_b_c/d/0.log", Dev: 1, Ino: 2, Offset: offset, HeadSize: 4, HeadSum: 5, Size: 1000},
			{Path: "/var/log/pods/a_b_c/d/0.log.20260102-030405.gz", Dev: 1, Ino: 3, Offset: 2 * offset, HeadSize: 4, HeadSum: 6, Size: 1000},
		}))
	}
	oldest, before, after := at(100), at(200), at(300)
	const file, backup, temporary = "p.json", "p.json.bak", "p.json.tmp"
	states := []map[string]string{
		{file: before, backup: oldest},
		{file: before, backup: oldest, temporary: after},
		{backup: before, temporary: after},
		{file: after, backup: before},
		{file: after, backup: oldest}, // the second name without the first
		{file: after},
		{file: before, temporary: after}, // the very first write but one
	}
	for n := range len(after) { // The temporary file was not synced yet.
		states = append(states, map[string]string{file: before, backup: oldest, temporary: after[:n]})
	}
	for _, zeros := range []int{1, 512, len(after)} {
		states = append(states, map[string]string{file: before, backup: oldest, temporary: string(make([]byte, zeros))})
	}
	for i, state := range states {
		dir := t.TempDir()
		for name, text := range state {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p := NewPositions(filepath.Join(dir, file), "loki", testLogger(t), NewMetrics(prometheus.NewRegistry()))
		p.load()
		var got []int64
		p.mu.Lock()
		for _, pos := range p.files {
			got = append(got, pos.acked.Load())
		}
		p.mu.Unlock()
		slices.Sort(got)
		if !slices.Equal(got, []int64{200, 400}) && !slices.Equal(got, []int64{300, 600}) {
			t.Errorf("state %d, %v: offsets %v, want those of before or after", i, slices.Sorted(maps.Keys(state)), got)
		}
	}
}
