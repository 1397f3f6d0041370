package app_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// spooled waits until nothing of a container is in its files alone: it is in the spool, or was
// accepted. Each file must be known by its present name: just after a rotation the old one has
// that of the new one, and may be as long.
func spooled(t *testing.T, p *kit.Process, c *kit.LoggedContainer) {
	t.Helper()
	kit.Eventually(t, soon, "every line spooled", func() error {
		status, err := logs(p)
		if err != nil {
			return err
		}
		paths, err := filepath.Glob(c.Path() + "*")
		check(t, err)
		safe := make(map[string]int64)
		for _, f := range status.Files {
			safe[f.Path] = f.Acknowledged
		}
		for _, path := range paths {
			if safe[path] != size(t, path) {
				return fmt.Errorf("of %d bytes of %s not all are safe: %+v", size(t, path), path, status.Files)
			}
		}
		return nil
	})
}

// L36, P10: Loki is away while files are rotated away, and the program is killed and stopped
// meanwhile. What was spooled arrives, with all that was written since, in order.
func TestL36OutageLongerThanTheFilesLosesNothing(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(100)
	wantOnce(t, tree, loki)
	loki.Down()
	kills := 0
	for round := range 8 {
		for range 10 {
			c.Write(20)
			c.Line("stdout", noise(8<<10))
		}
		spooled(t, p, c)
		c.Rotate(2) // Of the rotated files one stays.
		switch round {
		case 2:
			p.Kill()
			kills++
			p = p.Again(t)
		case 5:
			if code, took := p.Stop(); code != 0 || took > stopLimit {
				t.Fatalf("exit code %d after %s", code, took)
			}
			p = p.Again(t)
		}
	}
	check(t, loki.Up())
	c.Write(100)
	kit.Eventually(t, soon, "every line, also of removed files", func() error { return tree.Report(loki, "").Err() })
	repeats := waitLines(t, tree, loki)
	// A second of reading at most, which is the round before the kill and what was noted late.
	if most := kills * 2 * 210; repeats > most {
		t.Errorf("%d lines arrived twice, want %d at most", repeats, most)
	}
	if n, err := p.Metric("ingot_podlogs_lost_bytes_total"); err != nil || n > 0 {
		t.Errorf("%g bytes counted as lost (%v)", n, err)
	}
	waitBalance(t, p)
}

// L36: at the cap of the spool the oldest lines go, as many as are counted, and the newest are
// kept. Two tenants share the space, of which one writes nearly all; a single one would have
// to wait, since its files are a buffer too.
func TestL36AtTheCapTheOldestLinesGoAndAreCounted(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{RequireTenant: true})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL(), "tenant: nobody", "spool: {max_bytes: 16MiB}")}, nil,
		podLogsWith(tree.Dir, "stages: [{tenant: {label: namespace}}]"))})
	c, small := tree.Pod("a", "cart").Container("main"), tree.Pod("b", "shop").Container("main")
	c.Write(100)
	small.Write(100)
	wantOnce(t, tree, loki)
	loki.Down()
	small.Write(10)
	for range 12 {
		for range 10 {
			c.Write(10)
			c.Line("stdout", noise(200<<10))
		}
		spooled(t, p, c)
		c.Rotate(2)
	}
	spooled(t, p, small)
	waitMetric(t, p, `ingot_delivery_dropped_items_total{endpoint="logs"}`, 1)
	c.Write(100)
	small.Write(10)
	check(t, loki.Up())
	kit.Eventually(t, soon, "all lines but those that were dropped", func() error {
		m, err := p.Metrics()
		if err != nil {
			return err
		}
		counted, waiting := m.Sum(`ingot_delivery_dropped_items_total{endpoint="logs"}`), m.Sum(`ingot_delivery_queued_items{endpoint="logs"}`)
		if lost := len(tree.Report(loki, "").Lost); float64(lost) != counted || waiting > 0 {
			return fmt.Errorf("%d lines lost, %g counted as dropped, %g wait", lost, counted, waiting)
		}
		return nil
	})
	// Behind the oldest line that was kept nothing is missing.
	arrived := make(map[string]bool)
	for _, l := range loki.Lines("a", "") {
		arrived[l.Text] = true
	}
	kept, lines := 0, 0
	for _, l := range tree.Written() {
		if l.Namespace != "a" {
			continue
		}
		switch lines++; {
		case lines <= 100: // sent before the outage
		case arrived[l.Text]:
			kept++
		case kept > 0:
			t.Fatalf("line %d is missing and an older one is not: %.60q", lines, l.Text)
		}
	}
	if kept <= 100 {
		t.Error("nothing of the outage was kept")
	}
	rep := tree.Report(loki, "")
	if len(rep.Disorder)+len(rep.Invented) > 0 {
		t.Errorf("%d lines out of order, %d invented", len(rep.Disorder), len(rep.Invented))
	}
	t.Logf("%d lines kept, %d dropped", kept, len(rep.Lost))
	waitBalance(t, p)
}

// L20, L36: the pods and their files go while Loki is away, and the program is started anew
// meanwhile. Their lines come with the labels that they had.
func TestL20SpooledLinesOfADeletedNamespaceKeepTheirLabels(t *testing.T) {
	t.Parallel()
	k, loki, tree, p := onNode(t)
	pod := tree.Pod("doomed", "cart")
	k.Put(t, kit.KubePod("doomed", "cart", pod.UID, "node-1", map[string]string{"app.kubernetes.io/name": "cart-service"}, nil))
	c := pod.Container("main")
	want := map[string]string{"namespace": "doomed", "app_kubernetes_io_name": "cart-service", "service_name": "cart-service"}
	c.Write(10)
	waitLabels(t, loki, 10, "cart", "main", want)
	loki.Down()
	c.Write(20)
	spooled(t, p, c)
	pod.Remove(c)
	k.Delete(t, "Pod", "doomed", "cart")
	p.Kill()
	p = p.Again(t)
	check(t, loki.Up())
	waitLabels(t, loki, 30, "cart", "main", want)
	waitBalance(t, p)
}

// L43: the spool cannot be written and Loki is away. Reading pauses, the process stays, and
// all lines arrive when Loki is back, also those of files that were deleted meanwhile.
func TestL43UnwritableSpoolPausesReading(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	c := tree.Pod("shop", "cart").Container("main")
	c.Write(10)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "data"), "this is a file\n") // which stops root too
	p := kit.Start(t, kit.ProcessConfig{Dir: dir, Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	wantOnce(t, tree, loki)
	loki.Down()
	for range 2000 { // More than a queue takes into memory.
		c.Write(1)
		c.Line("stdout", noise(12<<10))
	}
	unread := int64(0)
	kit.Eventually(t, soon, "reading paused", func() error {
		status, err := logs(p)
		if err != nil || len(status.Files) != 1 {
			return fmt.Errorf("%d files (%w)", len(status.Files), err)
		}
		have, err := queues(p)
		before := unread
		unread = status.Files[0].Size - status.Files[0].Read
		if q := have["logs"]; err != nil || q.State == "ok" || q.Memory.Items == 0 || unread == 0 || unread != before {
			return fmt.Errorf("%d bytes unread, %d before, queue %+v (%w)", unread, before, q, err)
		}
		return nil
	})
	have, err := queues(p)
	check(t, err)
	if q := have["logs"]; q.Memory.Bytes > 16<<20 || len(q.Dropped) > 0 {
		t.Errorf("%d bytes in memory, dropped %v", q.Memory.Bytes, q.Dropped)
	}
	c.Rotate(5)
	c.Write(10)
	check(t, loki.Up())
	waitLines(t, tree, loki)
	if p.Ended() {
		t.Errorf("the process has ended:\n%s", p.Log())
	}
	waitBalance(t, p)
}

// L36, L37: the spools of tenants are apart, also over a SIGKILL: each tenant's lines come as
// that tenant's, and one that is refused at the end holds up no other.
func TestL37SpoolsOfTenantsSurviveAKillAndStayApart(t *testing.T) {
	t.Parallel()
	loki := kit.StartLogs(t, kit.LogsConfig{RequireTenant: true})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL(), "tenant: nobody")}, nil,
		podLogsWith(tree.Dir, "stages: [{tenant: {label: namespace}}]"))})
	tenants := []string{"a", "b", "c"}
	containers := make(map[string]*kit.LoggedContainer)
	for _, name := range tenants {
		containers[name] = tree.Pod(name, "pod").Container("main")
		containers[name].Write(10)
	}
	wantOnce(t, tree, loki)
	loki.Down()
	for range 3 {
		for _, name := range tenants {
			containers[name].Write(100)
			spooled(t, p, containers[name])
			containers[name].Rotate(2)
		}
		p.Kill()
		p = p.Again(t)
	}
	loki.Faults.SetFor("b", kit.TooMany("1"))
	check(t, loki.Up())
	arrived := func(tenant string) {
		t.Helper()
		kit.Eventually(t, soon, "the lines of tenant "+tenant, func() error {
			if n := len(loki.Lines(tenant, "")); n != 310 {
				return fmt.Errorf("%d lines, want 310", n)
			}
			for _, l := range loki.Lines(tenant, "") {
				if l.Get("namespace") != tenant {
					t.Fatalf("a line of %s came as tenant %s", l.Get("namespace"), tenant)
				}
			}
			return nil
		})
	}
	arrived("a")
	arrived("c")
	loki.Faults.Clear()
	arrived("b")
	if n := len(loki.Lines("nobody", "")); n > 0 {
		t.Errorf("%d lines of the default tenant, want none", n)
	}
	if rep := tree.Report(loki, ""); rep.Err() != nil {
		t.Error(rep.Err())
	}
	waitBalance(t, p)
}

// L20, P6: a stop while Loki is away brings what was read to the spool, so that the node may
// remove the file before the next start.
func TestStopSpoolsWhatWasRead(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	pod := tree.Pod("shop", "cart")
	c := pod.Container("main")
	c.Write(10)
	wantOnce(t, tree, loki)
	loki.Down()
	c.Write(100)
	kit.Eventually(t, soon, "the lines read", func() error {
		status, err := logs(p)
		if err != nil || len(status.Files) != 1 || status.Files[0].Read != size(t, c.Path()) {
			return fmt.Errorf("files are %+v (%w)", status.Files, err)
		}
		return nil
	})
	if code, took := p.Stop(); code != 0 || took > stopLimit {
		t.Fatalf("exit code %d after %s", code, took)
	}
	pod.Remove(c)
	check(t, loki.Up())
	p = p.Again(t)
	wantAll(t, tree, loki)
	waitBalance(t, p)
}
