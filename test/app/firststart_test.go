package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// L41: what is read at the first start of what is there already: what is young by default, all,
// or nothing. What is left out is counted and said, and everything that comes later is read
// from its beginning, whatever time it carries.
func TestL41FirstStartReadsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, keys string
		old, young bool // whether their first lines arrive
	}{
		{name: "default", young: true},
		{name: "beginning", keys: "first_start: {from: beginning}", old: true, young: true},
		{name: "end", keys: "first_start: {from: end}"},
		{name: "beginning max_age", keys: "first_start: {from: beginning, max_age: 1h}", young: true},
		{name: "pod_start max_age", keys: "first_start: {from: pod_start, max_age: 4h}", old: true, young: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			loki, tree := kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
			shift := time.Duration(0)
			tree.Now = func() time.Time { return time.Now().Add(shift) }
			// Each has a stream of its own, or Loki would refuse what is hours behind another pod.
			old, young := tree.Pod("shop", "old").Container("old"), tree.Pod("shop", "young").Container("young")
			want := make(map[string]int)
			shift = -3 * time.Hour
			old.Write(50)
			old.Rotate(5)
			old.Write(50)
			shift = -10 * time.Minute
			young.Write(100)
			left := int64(0)
			for pod, read := range map[*kit.LoggedContainer]bool{old: c.old, young: c.young} {
				name := map[*kit.LoggedContainer]string{old: "old", young: "young"}[pod]
				if read {
					want[name] = 100
				} else {
					left += size(t, pod.Path())
				}
			}
			block := podLogs(tree.Dir)
			if c.keys != "" {
				block = podLogsWith(tree.Dir, c.keys)
			}
			p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, block)})
			arrived := func() {
				t.Helper()
				kit.Eventually(t, soon, "the lines that are asked for", func() error {
					for pod, n := range want {
						if have := len(ofPod(loki, pod)); have != n {
							return fmt.Errorf("%d lines of %s, want %d", have, pod, n)
						}
					}
					return nil
				})
			}
			arrived()
			waitMetric(t, p, `ingot_podlogs_skipped_bytes_total`, float64(left))
			if left > 0 && !strings.Contains(p.Log(), "first start") {
				t.Error("the log says nothing of what is left out")
			}
			shift = -2 * time.Hour // Whatever comes later is no matter of the first start.
			late := tree.Pod("shop", "late").Container("late")
			late.Write(30)
			shift = -3 * time.Hour
			old.Write(20)
			shift = 0
			young.Write(20)
			want["late"], want["old"], want["young"] = 30, want["old"]+20, want["young"]+20
			arrived()
			// Neither is what comes while the program is away.
			if code, took := p.Stop(); code != 0 {
				t.Fatalf("exit code %d after %s", code, took)
			}
			shift = -2 * time.Hour
			away := tree.Pod("shop", "away").Container("away")
			away.Write(30)
			want["away"] = 30
			p = p.Again(t)
			arrived()
			if n := loki.Repeats("", ""); n > 0 {
				t.Errorf("%d lines arrived twice", n)
			}
			if n, err := p.Metric("ingot_podlogs_lost_bytes_total"); err != nil || n > 0 {
				t.Errorf("%g bytes counted as lost (%v)", n, err)
			}
			waitBalance(t, p)
		})
	}
}
