package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ingot-telemetry/ingot/test/demo/steps"
	"github.com/ingot-telemetry/ingot/test/kit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCompareLinesSeesWhatIsLostAndWhatCameTwice(t *testing.T) {
	due := []kit.WrittenLine{
		{Namespace: "n", Pod: "p", Container: "c", Text: strings.Repeat("x", 100) + "1"},
		{Namespace: "n", Pod: "p", Container: "c", Text: strings.Repeat("x", 100) + "2"},
		{Namespace: "n", Pod: "p", Container: "c", Text: "three"},
	}
	line := func(i int, pod string) logLine {
		return logLine{labels: map[string]string{"namespace": "n", "pod": pod, "container": "c"}, text: due[i].Text}
	}
	rep := compareLines(due, []logLine{line(0, "p"), line(0, "p"), line(1, "other"), line(2, "p"), {text: "of the machine"}})
	if len(rep.Lost) != 1 || !strings.Contains(rep.Lost[0], "n/p/c") || len(rep.Repeated) != 1 || len(rep.Invented) != 0 {
		t.Errorf("compareLines = %+v, want the second lost and the first twice", rep)
	}
}

func TestTableHasNoControlCharacters(t *testing.T) {
	s := snapshot{
		jobs:    []jobRow{{name: "shop", up: 1, targets: 2, series: 30, sps: 12.34}},
		streams: []streamRow{{name: "shop/nginx", lines: 7, perSecs: 0.5}},
		last:    []logLine{{labels: map[string]string{"job": "shop/nginx"}, t: time.Unix(0, 0), text: "\x1b[31mred\tend " + strings.Repeat("ü", 200)}},
	}
	got := s.table()
	for _, want := range []string{"\n  1/2      30       12.3  shop\n", "\n      7      0.5  shop/nginx\n", " [31mred end üü", "üü..."} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.ContainsAny(got, "\x1b\t") {
		t.Errorf("control characters in %q", got)
	}
}

func TestMissingNamesEveryJobAndStreamThatIsNotThere(t *testing.T) {
	d := &demo{
		exporters: &exporters{jobs: []exporterJob{{"shop", []string{"a", "b"}}}},
		pods:      &pods{containers: []string{"shop/nginx"}},
		files:     []string{"/var/log/x.log"},
	}
	jobs := []jobRow{{"shop", 2, 2, 11, 1}, {selfJob, 1, 1, 50, 1}, {absentJob, 0, 1, 5, 1}}
	streams := []streamRow{{name: "shop/nginx"}, {name: "machine /var/log/x.log"}}
	if got := append(d.missingJobs(jobs), d.missingStreams(streams)...); len(got) != 0 {
		t.Errorf("missing %v of everything", got)
	}
	jobs[0].up, jobs[1].series, jobs[2].up = 1, 5, 1
	got := append(d.missingJobs(jobs), d.missingStreams(streams[:1])...)
	if len(got) != 4 {
		t.Errorf("missing %q, want shop, ingot, the absent job and the file", got)
	}
	if got := append(d.missingJobs(nil), d.missingStreams(nil)...); len(got) != 5 {
		t.Errorf("missing %q of nothing, want all five", got)
	}
}

func TestProgramsWriteLinesThatAreAllDifferent(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	p := startPods(ctx, filepath.Join(t.TempDir(), "pods"), cancel)
	defer p.stop()
	kit.Eventually(t, 20*time.Second, "every container writes", func() error {
		seen := make(map[string]bool)
		for _, l := range p.writer.Written() {
			seen[l.Namespace+"/"+l.Container] = true
		}
		if len(seen) < len(p.containers) {
			return context.DeadlineExceeded
		}
		return nil
	})
	p.stop()
	texts := make(map[string]bool)
	for _, l := range p.writer.Written() {
		if key := l.Pod + l.Container + l.Text; texts[key] {
			t.Errorf("twice: %v", l.Text)
		} else {
			texts[key] = true
		}
	}
	if err := context.Cause(ctx); err != nil {
		t.Error(err)
	}
}

func TestDemoWithoutTheProgramFailsAndCleansUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if code := run(steps.New(f), []string{"-dir", dir, "-once"}); code != 1 {
		t.Errorf("code %d, want 1", code)
	}
	if _, err = os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil || !strings.Contains(string(got), "start ingot") {
		t.Errorf("output %q, %v, want the reason", got, err)
	}
	if code := run(steps.New(f), []string{"-nonsense"}); code != 2 {
		t.Errorf("code for a wrong flag %d, want 2", code)
	}
}
