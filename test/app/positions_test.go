package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// positionFiles returns the files of positions of a process that has ended, backups included.
func positionFiles(t *testing.T, p *kit.Process) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(filepath.Join(p.Dir(), "data"), func(path string, d os.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && !d.IsDir() && strings.Contains(path, "position") && (ext == "" || ext == ".bak") {
			files = append(files, path)
		}
		return err
	})
	check(t, err)
	return files
}

// L35: whatever has become of the file of positions, and of its backup, no line is lost: the
// program never begins at the end of a file in silence. Lines may come again.
func TestL35DamagedPositionsLoseNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		all  bool // the backup too
		hurt func(t *testing.T, path string)
	}{
		{name: "whole"},
		{name: "torn", hurt: func(t *testing.T, path string) {
			t.Helper()
			check(t, os.Truncate(path, size(t, path)/2))
		}},
		{name: "torn both", all: true, hurt: func(t *testing.T, path string) {
			t.Helper()
			check(t, os.Truncate(path, size(t, path)/2))
		}},
		{name: "empty both", all: true, hurt: func(t *testing.T, path string) {
			t.Helper()
			check(t, os.Truncate(path, 0))
		}},
		{name: "zeros", hurt: func(t *testing.T, path string) {
			t.Helper()
			check(t, os.WriteFile(path, make([]byte, size(t, path)), 0o600))
		}},
		{name: "one digit both", all: true, hurt: func(t *testing.T, path string) {
			t.Helper()
			text, err := os.ReadFile(path)
			check(t, err)
			at := strings.LastIndexAny(string(text), "0123456789")
			text[at] ^= 1
			check(t, os.WriteFile(path, text, 0o600))
		}},
		{name: "newer version", hurt: func(t *testing.T, path string) {
			t.Helper()
			text, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, []byte(strings.Replace(string(text), `"version":`, `"version":9`, 1)), 0o600))
		}},
		{name: "a directory", hurt: func(t *testing.T, path string) {
			t.Helper()
			check(t, os.Remove(path))
			mkdir(t, path)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			loki, tree, p := collect(t)
			// Too old for what a first start reads by default, which this is not.
			tree.Now = func() time.Time { return time.Now().Add(-2 * time.Hour) }
			kit.Eventually(t, soon, "a look at the empty tree", func() error {
				status, err := logs(p)
				if err == nil && status.Scanned.IsZero() {
					err = errors.New("not looked yet")
				}
				return err
			})
			container := tree.Pod("shop", "cart").Container("main")
			for range 3 { // so that there is a backup
				container.Write(100)
				wantOnce(t, tree, loki)
				waitMetric(t, p, "ingot_podlogs_position_writes_total", 1)
			}
			if code, took := p.Stop(); code != 0 {
				t.Fatalf("exit code %d after %s", code, took)
			}
			container.Write(100)
			files := positionFiles(t, p)
			if len(files) < 2 {
				t.Fatalf("files of positions are %v, want one and a backup", files)
			}
			for _, path := range files {
				if c.hurt != nil && (c.all || !strings.HasSuffix(path, ".bak")) {
					c.hurt(t, path)
				}
			}
			p = p.Again(t)
			repeats := waitLines(t, tree, loki)
			if c.hurt == nil && repeats > 0 {
				t.Errorf("%d lines arrived twice although nothing was damaged", repeats)
			}
			if c.hurt != nil {
				waitMetric(t, p, "ingot_podlogs_position_recoveries_total", 1)
			}
			container.Write(10)
			waitLines(t, tree, loki)
			waitBalance(t, p)
			// The damage is gone with the next writing.
			if code, took := p.Stop(); code != 0 {
				t.Fatalf("exit code %d after %s", code, took)
			}
			before := waitLines(t, tree, loki)
			p = p.Again(t)
			container.Write(10)
			if again := waitLines(t, tree, loki) - before; again > 0 {
				t.Errorf("%d lines arrived twice after the repair", again)
			}
		})
	}
}
