package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// podLogsWith is podLogs with further keys, each `key: value`.
func podLogsWith(dir string, keys ...string) string {
	return strings.TrimSuffix(podLogs(dir), "}") + ", " + strings.Join(keys, ", ") + "}"
}

// collectWith is collect with further keys of pod_logs.
func collectWith(t *testing.T, keys ...string) (*kit.LogsReceiver, *kit.PodLogWriter, *kit.Process) {
	t.Helper()
	loki, tree := kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogsWith(tree.Dir, keys...))})
	return loki, tree, p
}

// ofPod returns the texts of a pod's lines.
func ofPod(loki *kit.LogsReceiver, pod string) (texts []string) {
	for _, l := range loki.Lines("", "") {
		if l.Get("pod") == pod {
			texts = append(texts, l.Text)
		}
	}
	return texts
}

// A container over its limit is delayed and loses nothing; its neighbour is not delayed.
func TestRateLimitDelaysTheNoisyContainerAlone(t *testing.T) {
	t.Parallel()
	loki, tree, p := collectWith(t, "limits: {container: {bytes_per_second: 100KB, burst: 20KB}}")
	noisy, quiet := tree.Pod("shop", "noisy").Container("main"), tree.Pod("shop", "quiet").Container("main")
	for range 40 {
		noisy.Line("stdout", noise(10<<10))
	}
	began := time.Now()
	for round := 1; round <= 3; round++ {
		quiet.Write(10)
		written := time.Now()
		kit.Eventually(t, soon, "the lines of the quiet container", func() error {
			if n := len(ofPod(loki, "quiet")); n != 10*round {
				return fmt.Errorf("%d lines, want %d", n, 10*round)
			}
			return nil
		})
		if took := time.Since(written); took > 2*time.Second {
			t.Errorf("a line beside a noisy container took %s, want 2s at most", took)
		}
	}
	wantOnce(t, tree, loki)
	// 400 KiB of which 20 KB may come at once, at 100 KB/s.
	if took, least := time.Since(began), 3*time.Second; took < least {
		t.Errorf("400 KiB took %s, want %s at least", took, least)
	}
	waitBalance(t, p)
}

// What has waited for a limit too long is dropped, and counted to the line.
func TestRateLimitDropsWhatHasWaitedTooLong(t *testing.T) {
	t.Parallel()
	loki, tree, p := collectWith(t, "limits: {container: {bytes_per_second: 20KB, burst: 20KB}, max_delay: 2s}")
	c := tree.Pod("shop", "noisy").Container("main")
	for range 30 {
		c.Line("stdout", noise(10<<10))
	}
	dropped := 0
	kit.Eventually(t, soon, "every line arrived or counted", func() error {
		n, err := p.Metric(`ingot_podlogs_lines_dropped_total{reason="rate_limited"}`)
		if err != nil {
			return err
		}
		dropped = int(n)
		if rep := tree.Report(loki, ""); len(rep.Lost) != dropped || dropped == 0 || len(loki.Texts("", "")) == 0 {
			return fmt.Errorf("%d lines lost, %d counted", len(rep.Lost), dropped)
		}
		return nil
	})
	kit.Eventually(t, soon, "the pod named", func() error {
		body, err := p.Get("/status/logs")
		if err != nil || !strings.Contains(string(body), `"reason": "rate_limited"`) || !strings.Contains(p.Log(), "namespace=shop pod=noisy") {
			return fmt.Errorf("status is %s (%w)", body, err)
		}
		return nil
	})
	c.Write(5)
	kit.Eventually(t, soon, "lines after that", func() error {
		if n := len(tree.Report(loki, "").Lost); n > dropped+5 {
			return fmt.Errorf("%d lost", n)
		}
		texts := loki.Texts("", "")
		if !strings.HasPrefix(texts[len(texts)-1], "seq=5 ") {
			return fmt.Errorf("the last line is %.40q", texts[len(texts)-1])
		}
		return nil
	})
	waitBalance(t, p)
}

// Annotations leave pods out, take pods in, and limit them.
func TestAnnotationsChooseAndLimitPods(t *testing.T) {
	t.Parallel()
	const enabled = "logs.grafana.com/pods.enabled"
	for _, c := range []struct{ method, with, without string }{
		{method: "all", with: "never said anything", without: "false"},
		{method: "all", with: "true", without: "no"},
		{method: "all", with: "yes", without: "skip"},
		{method: "annotation", with: "true", without: "never said anything"},
		{method: "annotation", with: "anything", without: "false"},
	} {
		t.Run(c.method+" "+c.without, func(t *testing.T) {
			t.Parallel()
			k, loki, tree := kit.StartKube(t), kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
			check(t, k.Up())
			annotate := func(value string) map[string]string {
				if value == "never said anything" {
					return nil
				}
				return map[string]string{enabled: value}
			}
			in, out := tree.Pod("shop", "in"), tree.Pod("shop", "out")
			k.Put(t, kit.KubePod("shop", "in", in.UID, "node-1", nil, annotate(c.with)))
			k.Put(t, kit.KubePod("shop", "out", out.UID, "node-1", nil, annotate(c.without)))
			inC, outC := in.Container("main"), out.Container("main")
			outC.Write(10)
			inC.Write(10)
			p := kit.Start(t, kit.ProcessConfig{
				Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogsWith(tree.Dir, "discovery_method: "+c.method), fmt.Sprintf("kubernetes: {kubeconfig_file: %q}", k.Kubeconfig(t))),
				Args:   []string{"--node-name", "node-1"},
			})
			for round := range 3 {
				outC.Write(10)
				inC.Write(10)
				kit.Eventually(t, soon, "the lines of the pod that is collected", func() error {
					if n := len(ofPod(loki, "in")); n != 20+10*round {
						return fmt.Errorf("%d lines, want %d", n, 20+10*round)
					}
					return nil
				})
			}
			if texts := ofPod(loki, "out"); len(texts) > 0 {
				t.Errorf("%d lines of a pod that is left out, such as %q", len(texts), texts[0])
			}
			waitBalance(t, p)
		})
	}
}

// trace of a program in Java.
const javaTrace = `java.lang.IllegalStateException: no %d
	at com.example.Shop.cart(Shop.java:12)
	at com.example.Shop.main(Shop.java:3)
Caused by: java.io.IOException: gone
	... 2 more`

// Lines of stack traces are joined by annotation, over a rotation and a SIGKILL in their midst;
// none is lost and none comes as a part of a trace and alone.
func TestMultilineByAnnotationSurvivesKillsAndRotations(t *testing.T) {
	t.Parallel()
	k, loki, tree, p := onNode(t)
	pod, other := tree.Pod("shop", "cart"), tree.Pod("shop", "plain")
	k.Put(t, kit.KubePod("shop", "cart", pod.UID, "node-1", nil, map[string]string{"ingot.dev/logs.multiline": "java"}))
	k.Put(t, kit.KubePod("shop", "plain", other.UID, "node-1", nil, nil))
	c, plain := pod.Container("main"), other.Container("main")
	var want []string
	for i := range 6 {
		head, trace := fmt.Sprintf("ERROR request %d failed", i), fmt.Sprintf(javaTrace, i)
		want = append(want, head+"\n"+trace, fmt.Sprintf("INFO request %d done", i))
		all := append([]string{head}, strings.Split(trace, "\n")...)
		for n, line := range append(all, fmt.Sprintf("INFO request %d done", i)) {
			c.Line("stdout", line)
			plain.Line("stdout", fmt.Sprintf("%d %s", i, line))
			switch {
			case n != 2:
			case i == 1:
				c.Rotate(5)
			case i == 3:
				live(t, p, time.Second)
				p.Kill()
				p = p.Again(t)
			case i == 4:
				if code, took := p.Stop(); code != 0 || took > stopLimit {
					t.Fatalf("exit code %d after %s", code, took)
				}
				p = p.Again(t)
			}
		}
	}
	kit.Eventually(t, soon, "every trace as one line", func() error {
		if rep := kit.Compare(want, ofPod(loki, "cart")); rep.Err() != nil {
			return rep.Err()
		}
		return nil
	})
	kit.Eventually(t, soon, "every line of the pod without annotation", func() error {
		if n := len(ofPod(loki, "plain")); n != 6*7 {
			return fmt.Errorf("%d lines, want %d", n, 6*7)
		}
		return nil
	})
	waitBalance(t, p)
}

// A list as promtail has it works on the way: it parses, labels, drops and hides, and loses
// nothing when the program is killed.
func TestStagesWorkOnTheWayAndLoseNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collectWith(t, `labels_to_keep: []`, `stages: [{cri: {}}, {json: {expressions: {level: lvl, text: msg}}}, {labels: {level: ""}}, {drop: {source: level, value: debug}}, `+
		`{replace: {source: text, expression: "(hunter2)", replace: "****"}}, {output: {source: text}}]`)
	c := tree.Pod("shop", "cart").Container("main")
	var want []string
	n := 0
	round := func() {
		for range 100 {
			n++
			level := [...]string{"info", "debug", "error"}[n%3]
			c.Raw([]byte(criLine(fmt.Sprintf(`{"lvl":%q,"msg":"line %d with hunter2"}`, level, n)) + "\n"))
			if level != "debug" {
				want = append(want, fmt.Sprintf("line %d with ****", n))
			}
		}
	}
	arrived := func() {
		t.Helper()
		kit.Eventually(t, soon, "every line but those of debug", func() error { return kit.Compare(want, loki.Texts("", "")).Err() })
	}
	for range 4 {
		round()
		live(t, p, 300*time.Millisecond)
		p.Kill()
		p = p.Again(t)
		round()
		c.Rotate(5)
	}
	arrived()
	for _, l := range loki.Lines("", "") {
		if level := l.Stream.Get("level"); level != "info" && level != "error" {
			t.Fatalf("level is %q in %s", level, l.Stream)
		}
	}
	waitMetric(t, p, `ingot_podlogs_lines_dropped_total{reason="drop_stage"}`, 1)
	waitBalance(t, p)
}

// A container with a large backlog does not hold up the others.
func TestBacklogOfOneContainerDelaysNoOther(t *testing.T) {
	t.Parallel()
	flood := kit.NewFlood(250)
	loki := kit.StartLogs(t, kit.LogsConfig{Take: flood.Take})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	noisy, quiet := tree.Pod("shop", "noisy").Container("main"), tree.Pod("shop", "quiet").Container("main")
	flood.Write(noisy, 1_000_000)
	flood.Write(quiet, 10)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	worst, during := time.Duration(0), 0
	for round := 1; flood.Arrived(noisy) < 1_000_000; round++ {
		began := time.Now()
		kit.Eventually(t, soon, "the lines of the quiet container", func() error {
			if n := flood.Arrived(quiet); n != 10*round {
				return fmt.Errorf("%d lines, want %d", n, 10*round)
			}
			return nil
		})
		worst, during = max(worst, time.Since(began)), round
		flood.Write(quiet, 10)
	}
	t.Logf("%d rounds, slowest %s", during, worst.Round(time.Millisecond))
	if worst > 2*time.Second {
		t.Errorf("a line beside a backlog took %s, want 2s at most", worst)
	}
	if during < 3 {
		t.Errorf("%d rounds beside the backlog, which shows nothing", during)
	}
	kit.Eventually(t, soon, "every line", func() error { return flood.Report().Err() })
	waitBalance(t, p)
}
