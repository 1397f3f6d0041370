package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// logsStatus is what /status/logs says about one destination, as far as these tests look.
type logsStatus struct {
	Endpoint string    `json:"endpoint"`
	Scanned  time.Time `json:"scanned"`
	Lag      int64     `json:"lag_bytes"`
	Files    []struct {
		Path, State string
		Error       string `json:"error"`

		Size, Read, Acknowledged int64
	} `json:"files"`
	Skipped []struct {
		Path, Reason, Error string
	} `json:"skipped"`
	Lost []struct {
		Path, Pod, Reason string
	} `json:"lost"`
}

// logs returns the status of the only collector of logs.
func logs(p *kit.Process) (logsStatus, error) {
	var all []logsStatus
	if err := getJSON(p, "/status/logs", &all); err != nil {
		return logsStatus{}, err
	}
	if len(all) != 1 {
		return logsStatus{}, fmt.Errorf("%d collectors, want one", len(all))
	}
	return all[0], nil
}

// waitMetric waits until the sum of the program's own series is at least least.
func waitMetric(t *testing.T, p *kit.Process, selector string, least float64) {
	t.Helper()
	kit.Eventually(t, soon, selector, func() error {
		if n, err := p.Metric(selector); err != nil || n < least {
			return fmt.Errorf("%g (%w), want %g", n, err, least)
		}
		return nil
	})
}

// L12, L13, L22, L29, L30, L31: bytes in a file that are no clean lines. Each is counted, the
// good lines in the same file and those of the healthy container arrive.
func TestBadLinesCostOnlyThemselves(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	pod := tree.Pod("bad", "pod")
	const mib = 1 << 20
	long := strings.Repeat("0123456789abcde ", mib/16)
	header, _, _ := strings.Cut(criLine(""), " ")
	cases := []struct {
		name    string
		bad     func(c *kit.LoggedContainer)
		counter string
		// texts checks what arrived between the lines first and last.
		texts func(texts []string) bool
	}{
		{
			name:    "nuls",
			bad:     func(c *kit.LoggedContainer) { c.Raw(append(make([]byte, 4096), '\n')) },
			counter: `ingot_podlogs_lines_dropped_total{reason="nul"}`,
			texts:   func(texts []string) bool { return len(texts) == 0 },
		},
		{
			name: "hole",
			bad: func(c *kit.LoggedContainer) {
				c.Raw(make([]byte, 4096))
				c.Line("stdout", "behind the hole")
			},
			counter: `ingot_podlogs_lines_altered_total{reason="nul"}`,
			texts:   func(texts []string) bool { return slices.Equal(texts, []string{"behind the hole"}) },
		},
		{
			name:    "utf8",
			bad:     func(c *kit.LoggedContainer) { c.Line("stdout", "caf\xe9 \xff\xfe\x80") },
			counter: `ingot_podlogs_lines_altered_total{reason="invalid_utf8"}`,
			texts: func(texts []string) bool {
				return len(texts) == 1 && strings.HasPrefix(texts[0], "caf\uFFFD ") && strings.ToValidUTF8(texts[0], "") == texts[0]
			},
		},
		{
			name: "malformed",
			bad: func(c *kit.LoggedContainer) {
				for _, line := range []string{"no header at all", "yesterday stdout F text", header + " stdlog F text", header + " stdout", ""} {
					c.Raw([]byte(line + "\n"))
				}
			},
			counter: `ingot_podlogs_lines_dropped_total{reason="malformed"}`,
			texts:   func(texts []string) bool { return len(texts) == 0 },
		},
		{
			name:    "long",
			bad:     func(c *kit.LoggedContainer) { c.Line("stdout", long) },
			counter: `ingot_podlogs_lines_altered_total{reason="cut"}`,
			texts: func(texts []string) bool {
				return len(texts) == 1 && len(texts[0]) < mib/2 && strings.HasPrefix(texts[0], long[:100<<10])
			},
		},
		{
			name:    "longparts",
			bad:     func(c *kit.LoggedContainer) { c.Long("stderr", long) },
			counter: `ingot_podlogs_lines_altered_total{reason="cut"}`,
			texts: func(texts []string) bool {
				return len(texts) == 1 && len(texts[0]) < mib/2 && strings.HasPrefix(texts[0], long[:100<<10])
			},
		},
	}
	var containers []*kit.LoggedContainer
	for _, c := range cases {
		container := pod.Container(c.name)
		container.Line("stdout", "first "+c.name)
		containers = append(containers, container)
	}
	healthy := tree.Pod("shop", "cart").Container("main")
	healthy.Write(100)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	for i, c := range cases {
		c.bad(containers[i])
		containers[i].Line("stdout", "last "+c.name)
	}
	healthy.Write(100)

	for _, c := range cases {
		var between []string
		kit.Eventually(t, soon, "the lines around bad ones: "+c.name, func() error {
			texts := loki.Texts("", fmt.Sprintf("{container=%q}", c.name))
			between = slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return s == "first "+c.name || s == "last "+c.name })
			if len(texts)-len(between) != 2 {
				return fmt.Errorf("%d lines, the first and the last are not among them", len(texts))
			}
			return nil
		})
		waitMetric(t, p, c.counter, 1)
		if !c.texts(between) {
			t.Errorf("%s: %d lines came from between the good ones: %.300q", c.name, len(between), between)
		}
	}
	waitTexts(t, loki, `{namespace="shop"}`, texts(tree, "shop"))
	if refused := loki.Refused(); len(refused) > 0 {
		t.Errorf("refused: %.300v", refused)
	}
	if n, err := p.Metric(`ingot_podlogs_lines_dropped_total{reason="malformed"}`); err != nil || n != 5 {
		t.Errorf("%g lines counted as malformed (%v), want 5", n, err)
	}
	waitBalance(t, p)
}

// texts returns what the ledger has of a namespace.
func texts(tree *kit.PodLogWriter, namespace string) []string {
	var all []string
	for _, l := range tree.Written() {
		if l.Namespace == namespace {
			all = append(all, l.Text)
		}
	}
	return all
}

// waitTexts waits until exactly the wanted texts have arrived in the selected streams.
func waitTexts(t *testing.T, r *kit.LogsReceiver, selector string, want []string) {
	t.Helper()
	kit.Eventually(t, soon, "all lines of "+selector, func() error {
		return kit.Compare(want, r.Texts("", selector)).Err()
	})
}

// L44, S15, S16: what lies in the tree and is no log file is not read, and is listed with its
// reason. Nothing from outside of the tree is ever sent.
func TestForeignEntriesAreListedAndNotRead(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	healthy := tree.Pod("shop", "cart").Container("main")
	healthy.Write(50)

	const canary = "must-never-be-sent"
	secret := t.TempDir()
	line := criLine(canary) + "\n"
	write(t, filepath.Join(secret, "0.log"), line)
	pod := filepath.Join(tree.Dir, "bad_pod_0f0e0d0c-0000-4000-8000-000000000001")
	want := map[string]string{ // path below the pod or the tree: reason
		"directory/0.log":                "not_a_regular_file",
		"fifo/0.log":                     "not_a_regular_file",
		"socket/0.log":                   "not_a_regular_file",
		"link/0.log":                     "symlink",
		"file":                           "not_a_directory",
		"other/notes.txt":                "unknown_name",
		"other/0.log.20260102-030405.gz": "compressed",
	}
	for path := range want {
		mkdir(t, filepath.Join(pod, filepath.Dir(path)))
	}
	mkdir(t, filepath.Join(pod, "directory/0.log"))
	check(t, syscall.Mkfifo(filepath.Join(pod, "fifo/0.log"), 0o644))
	check(t, syscall.Mknod(filepath.Join(pod, "socket/0.log"), syscall.S_IFSOCK|0o644, 0))
	check(t, os.Symlink(filepath.Join(secret, "0.log"), filepath.Join(pod, "link/0.log")))
	write(t, filepath.Join(pod, "file"), line)
	write(t, filepath.Join(pod, "other/notes.txt"), line)
	write(t, filepath.Join(pod, "other/0.log.20260102-030405.gz"), "")
	// The kubelet makes no links for directories, so these lead out of the tree.
	linked := filepath.Join(tree.Dir, "bad_linked_0f0e0d0c-0000-4000-8000-000000000002")
	check(t, os.Symlink(secret, linked))
	check(t, os.Symlink(secret, filepath.Join(pod, "linkeddir")))
	absolute := map[string]string{linked: "", filepath.Join(pod, "linkeddir"): ""} // any reason
	for path, reason := range want {
		absolute[filepath.Join(pod, path)] = reason
	}
	if os.Geteuid() == 0 {
		t.Log("root reads everything, so a file without permission is left out here")
	} else {
		mkdir(t, filepath.Join(pod, "unreadable"))
		path := filepath.Join(pod, "unreadable/0.log")
		write(t, path, line)
		check(t, os.Chmod(path, 0))
		absolute[path] = "unreadable"
	}

	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	healthy.Write(50)
	kit.Eventually(t, soon, "the list of skipped entries", func() error {
		status, err := logs(p)
		if err != nil {
			return err
		}
		have := make(map[string]string)
		for _, s := range status.Skipped {
			have[s.Path] = s.Reason
		}
		for path, reason := range absolute {
			if got, ok := have[path]; !ok || reason != "" && got != reason {
				return fmt.Errorf("%s is skipped as %q, want %q; all: %v", path, got, reason, have)
			}
			if n, err := p.Metric(fmt.Sprintf("ingot_podlogs_files_skipped{reason=%q}", have[path])); err != nil || n == 0 {
				return fmt.Errorf("%g files counted as %s (%w)", n, have[path], err)
			}
		}
		return nil
	})
	waitLines(t, tree, loki) // nothing was refused either
	for _, l := range loki.Lines("", "") {
		if strings.Contains(l.Text, canary) {
			t.Errorf("a line from outside of the tree was sent in stream %s", l.Stream)
		}
	}
	waitBalance(t, p)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	check(t, os.MkdirAll(path, 0o755))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(text), 0o644))
}
