package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// L33, L36: SIGKILL at random points while lines go to the spool. Then the files are gone, so that
// what the written positions have passed must have been accepted or be in the spool.
func TestPositionsAreNeverAheadOfTheSpool(t *testing.T) {
	t.Parallel()
	rnd := random(t)
	noticed := 0
	for range 6 {
		loki := kit.StartLogs(t, kit.LogsConfig{})
		tree, stop := startTree(t, 3000, 2)
		p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
		live(t, p, between(rnd, 100*time.Millisecond, 600*time.Millisecond))
		loki.Down()
		live(t, p, between(rnd, 20*time.Millisecond, 1500*time.Millisecond))
		p.Kill()
		stop()
		passed := passedLines(t, filepath.Join(p.Dir(), "data", "positions", "logs"))
		noticed += len(passed)

		check(t, loki.Up())
		p = kit.Start(t, kit.ProcessConfig{Dir: p.Dir(), Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(t.TempDir()))})
		untilQueue(t, p, "logs", "an empty spool", func(q queue) bool { return q.Disk.Blocks+q.Memory.Blocks == 0 })
		arrived := map[string]bool{}
		for _, l := range loki.Lines("", "") {
			arrived[fmt.Sprint(l.T, l.Text)] = true
		}
		missing := 0
		for line := range passed {
			if !arrived[line] {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("%d of %d lines that the positions have passed were not accepted and are not in the spool", missing, len(passed))
		}
		p.Kill()
	}
	if noticed == 0 {
		t.Error("no position was written in any life")
	}
}

// passedLines returns time and text of the lines before the positions in a file of positions.
func passedLines(t *testing.T, file string) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil // Killed before the first was written.
	}
	check(t, err)
	offsets := map[string]int64{}
	for line := range bytes.Lines(content) {
		var pos struct {
			Path   string
			Offset int64
		}
		if json.Unmarshal(line, &pos) == nil && pos.Path != "" {
			offsets[pos.Path] = max(offsets[pos.Path], pos.Offset)
		}
	}
	lines := map[string]bool{}
	for path, offset := range offsets {
		text, err := os.ReadFile(path)
		check(t, err)
		for line := range bytes.Lines(text[:offset]) {
			fields := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
			if len(fields) < 4 || string(fields[2]) != "F" {
				continue
			}
			at, err := time.Parse(time.RFC3339Nano, string(fields[0]))
			check(t, err)
			lines[fmt.Sprint(at.UnixNano(), string(fields[3]))] = true
		}
	}
	return lines
}
