package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// L38: Loki refuses some lines of a request and stores the others. Those it refuses are counted
// with its reason, as many as they are, and nothing is sent again.
func TestL38RefusedLinesCostOnlyThemselves(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * time.Hour
	for _, c := range []struct {
		name   string
		limits func(*kit.StreamLimits)
		bad    func(tree *kit.PodLogWriter, c *kit.LoggedContainer, at func(time.Duration))
		lines  int
		reason string // in Loki's words
	}{
		{
			name: "too far behind", lines: 5, reason: "too far behind",
			bad: func(_ *kit.PodLogWriter, c *kit.LoggedContainer, at func(time.Duration)) {
				at(-70 * time.Minute)
				c.Write(5)
			},
		},
		{
			name: "one too far behind", lines: 1, reason: "too far behind",
			bad: func(_ *kit.PodLogWriter, c *kit.LoggedContainer, at func(time.Duration)) {
				at(-70 * time.Minute)
				c.Write(1)
			},
		},
		{
			name: "too old", lines: 3, reason: "too old",
			bad: func(_ *kit.PodLogWriter, c *kit.LoggedContainer, at func(time.Duration)) {
				for i := range 3 {
					at(-week - time.Duration(i+1)*time.Minute)
					c.Write(1)
				}
			},
		},
		{
			name: "too new", lines: 2, reason: "too new",
			bad: func(_ *kit.PodLogWriter, c *kit.LoggedContainer, at func(time.Duration)) {
				at(time.Hour)
				c.Write(2)
			},
		},
		{
			name: "line too long", lines: 1, reason: "max entry size",
			limits: func(l *kit.StreamLimits) { l.MaxLineSize = 64 << 10 },
			bad: func(_ *kit.PodLogWriter, c *kit.LoggedContainer, _ func(time.Duration)) {
				c.Long("stdout", strings.Repeat("long ", 20<<10))
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			limits := kit.DefaultStreamLimits()
			if c.limits != nil {
				c.limits(&limits)
			}
			loki := kit.StartLogs(t, kit.LogsConfig{Limits: limits})
			tree := kit.NewPodLogWriter(t, t.TempDir())
			shift := time.Duration(0)
			tree.Now = func() time.Time { return time.Now().Add(shift) }
			container := tree.Pod("shop", "cart").Container("main")
			container.Write(50)
			c.bad(tree, container, func(d time.Duration) { shift = d })
			shift = 0
			container.Write(50)
			p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
			kit.Eventually(t, soon, "all good lines", func() error {
				if n := len(loki.Lines("", "")); n != 100 {
					return fmt.Errorf("%d lines, want 100", n)
				}
				return nil
			})
			q := untilQueue(t, p, "logs", "the refused lines counted", func(q queue) bool { return len(q.Dropped) > 0 })
			n := int64(0)
			for _, d := range q.Dropped {
				n += d.Items
			}
			if n != int64(c.lines) || q.Sent.Items != 100 {
				t.Errorf("%d lines counted as sent, dropped %v, want 100 and %d", q.Sent.Items, q.Dropped, c.lines)
			}
			for _, r := range loki.Refused() {
				if !strings.Contains(r.Reason, c.reason) {
					t.Errorf("refused as %s, want %s: the test is wrong", r.Reason, c.reason)
				}
			}
			if len(loki.Refused()) != c.lines || loki.Repeats("", "") > 0 || resent(loki.Requests()) > 0 {
				t.Errorf("%d lines refused, want %d; %d repeated", len(loki.Refused()), c.lines, loki.Repeats("", ""))
			}
			if !strings.Contains(p.Log(), c.reason) {
				t.Errorf("the log does not say %q", c.reason)
			}
			// The next lines go on behind them.
			container.Write(10)
			kit.Eventually(t, soon, "later lines", func() error {
				if n := len(loki.Lines("", "")); n != 110 {
					return fmt.Errorf("%d lines, want 110", n)
				}
				return nil
			})
			waitBalance(t, p)
		})
	}
}

// L37, P20: of three tenants in one destination one is answered 429 for long. The lines of the
// other two arrive at once, its own when Loki takes them again.
func TestL37ThrottledTenantDelaysNoOther(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{RequireTenant: true})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	containers := make(map[string]*kit.LoggedContainer)
	for _, name := range []string{"a", "b", "c"} {
		containers[name] = tree.Pod(name, "pod").Container("main")
	}
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL(), "tenant: nobody")}, nil,
		strings.Replace(podLogs(tree.Dir), "}", ", stages: [{tenant: {label: namespace}}]}", 1))})
	arrived := func(tenant string, n int) {
		t.Helper()
		kit.Eventually(t, soon, "the lines of tenant "+tenant, func() error {
			if have := len(loki.Lines(tenant, "")); have != n {
				return fmt.Errorf("%d lines, want %d", have, n)
			}
			return nil
		})
	}
	for name, c := range containers {
		c.Write(10)
		arrived(name, 10)
	}
	loki.Faults.SetFor("b", kit.TooMany("1"))
	worst := time.Duration(0)
	for round := range 5 {
		for _, c := range containers {
			c.Write(1000)
		}
		began := time.Now()
		for _, name := range []string{"a", "c"} {
			arrived(name, 10+1000*(round+1))
		}
		worst = max(worst, time.Since(began))
	}
	if n := len(loki.Lines("b", "")); n != 10 {
		t.Errorf("%d lines of the throttled tenant, want 10", n)
	}
	t.Logf("slowest arrival %s", worst.Round(time.Millisecond))
	if most := 2 * time.Second; worst > most {
		t.Errorf("beside a throttled tenant lines took %s, want %s at most", worst, most)
	}
	loki.Faults.Clear()
	arrived("b", 5010)
	if n := len(loki.Lines("nobody", "")); n > 0 {
		t.Errorf("%d lines of the default tenant, want none", n)
	}
	wantOnce(t, tree, loki)
	waitBalance(t, p)
}

// L39: Loki stores a request and the connection breaks before its answer. The same request
// comes again, so that Loki knows every line of it, and keeps none of them twice.
func TestL39BrokenAnswersLeaveNothingTwice(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree, stop := startTree(t, 200, 2)
	loki.Faults.Script(kit.Fault{CutAfter: true}, kit.Fault{}, kit.Fault{CutAfter: true}, kit.Fault{CutAfter: true}, kit.Fault{}, kit.Fault{CutAfter: true})
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	kit.Eventually(t, soon, "requests after the broken ones", func() error {
		if n := len(loki.Requests()); n < 10 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	stop()
	repeats := waitLines(t, tree, loki)
	if again := resent(loki.Requests()); again < 4 || repeats == 0 {
		t.Errorf("%d requests came again with %d lines, want the 4 that were broken, as they were", again, repeats)
	}
	for _, l := range loki.Lines("", "") {
		if l.Kept > 0 {
			t.Fatalf("Loki has kept %q twice", l.Text)
		}
	}
	if q := untilQueue(t, p, "logs", "an end", func(q queue) bool { return q.Memory.Items+q.Disk.Items == 0 }); len(q.Dropped) > 0 {
		t.Errorf("dropped %v", q.Dropped)
	}
	waitBalance(t, p)
}
