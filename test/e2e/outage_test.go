//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/testbed"
)

// flow is a pod that logs without end while a test disturbs something.
type flow struct {
	d    deployed
	name string
	ip   string
}

// startFlow logs fast enough for anything lost to show, and not so fast that the kubelet
// rotates twice while Ingot is dead: what it has compressed is not read any more.
func startFlow(t *testing.T, d deployed, name string) flow {
	t.Helper()
	startWorkload(t, name, "-run="+name, "-rate=200", "-stderr-every=4", "-long-every=1000")
	ip, err := cluster.Kubectl(t.Context(), "get", "pod", name, "-o", "jsonpath={.status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	f := flow{d, name, ip}
	f.requireAll(t, 300, f.stream())
	return f
}

// stream is the labels of the flow when its pod is known.
func (f flow) stream() stream {
	return podStream("default", f.name, "workload", "service_name", f.name, "app_kubernetes_io_name", f.name)
}

// written returns the number of the last line that the pod has written, or is about to.
func (f flow) written(t *testing.T) int {
	t.Helper()
	_, text, err := fetch(t.Context(), "http://"+f.ip+":8080/metrics")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "workload_lines_total{") {
			n, err := strconv.Atoi(strings.Fields(line)[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	if sum == 0 {
		t.Fatalf("the metrics of pod %s have no lines: %s", f.name, text)
	}
	return sum
}

// requireAll waits until lines 1 to last are in Loki, each once, in no other streams.
func (f flow) requireAll(t *testing.T, last int, streams ...stream) {
	t.Helper()
	var got delivery
	eventually(t, 60*time.Second, func() (err error) {
		if got, err = delivered(t, f.d.begin, "default", f.name, "workload", f.name); err != nil {
			return err
		}
		return got.exactly(last, 1)
	})
	if diff := gocmp.Diff(streams, got.streams); diff != "" {
		t.Errorf("streams of %s -want +got\n%s", f.name, diff)
	}
}

// requireScrapes fails the test when a scrape that was due between from and to is not in
// Cortex or found its target down. Only between dead and alive may one be missing, and in
// the flush interval before a death.
func requireScrapes(t *testing.T, from, to, dead, alive time.Time) {
	t.Helper()
	const lost = 1500 * time.Millisecond // half a second to the disk after at most one second
	for job := range clusterJobs() {
		eventually(t, 60*time.Second, func() error {
			all, err := upSince(t, job, from.Add(-4*interval))
			if err != nil {
				return err
			}
			// A scrape that is a bit late is the one of its turn.
			first, have := all[0].Time, map[int]bool{}
			for _, s := range all {
				have[int(math.Round(float64(s.Time.Sub(first))/float64(interval)))] = true
				if s.Value != 1 {
					return fmt.Errorf("job %s is down at %s", job, s.Time)
				}
			}
			for i := 0; ; i++ {
				due := first.Add(time.Duration(i) * interval)
				if due.After(to) {
					return nil
				}
				excused := due.After(dead.Add(-lost)) && due.Before(alive)
				if !due.Before(from) && !excused && !have[i] {
					return fmt.Errorf("job %s: the scrape of %s is missing", job, due)
				}
			}
		})
	}
}

// upSince returns the samples of up of a job, the first from before t0.
func upSince(t *testing.T, job string, t0 time.Time) ([]testbed.Sample, error) {
	t.Helper()
	seconds := int(time.Since(t0).Seconds()) + 1
	s, err := query(t, fmt.Sprintf(`up{job=%q}[%ds]`, job, seconds))
	return s.Samples, err
}

// TestKilledIngotLosesNoLineAndRepeatsNone claims it for a kill in the middle of a flow,
// with a file that grows on.
func TestKilledIngotLosesNoLineAndRepeatsNone(t *testing.T) {
	d, a := startIngot(t)
	f := startFlow(t, d, "killed")
	begin := time.Now()
	dead := a.kill(t)
	a = awaitRestart(t, a)
	alive := time.Now()
	f.requireAll(t, f.written(t), f.stream())
	requireScrapes(t, begin, time.Now().Add(-interval), dead, alive)
	requireNothingDropped(t, a)
}

// awaitRestart waits until the kubelet has started Ingot again in the same pod.
func awaitRestart(t *testing.T, before agent) agent {
	t.Helper()
	eventually(t, 45*time.Second, func() error {
		a, err := findIngot(t.Context())
		if err == nil && a.restarts == before.restarts {
			err = errors.New("the kubelet has not started Ingot again")
		}
		return err
	})
	a := awaitReady(t, 30*time.Second)
	if a.uid != before.uid || a.restarts != before.restarts+1 {
		t.Errorf("Ingot's pod is %+v, want %s started again once after %d", a, before.uid, before.restarts)
	}
	return a
}

// TestDeletedPodStopsInTimeAndLosesNothing claims that Ingot exits by itself with code 0
// within ten seconds, and that its successor goes on where it was.
func TestDeletedPodStopsInTimeAndLosesNothing(t *testing.T) {
	t.Run("backends answer", func(t *testing.T) { stopInTime(t, "stopped", false) })
	t.Run("backends are away", func(t *testing.T) { stopInTime(t, "stopped-alone", true) })
}

func stopInTime(t *testing.T, name string, away bool) {
	t.Helper()
	d, a := startIngot(t)
	f := startFlow(t, d, name)
	begin := time.Now()
	if away {
		killServers(t, "cortex", "loki")
	}
	pid, err := a.process()
	if err != nil {
		t.Fatal(err)
	}
	// With a finalizer the object outlives its containers, and has their exit codes.
	setFinalizer(t, a, `["e2e.test/look"]`)
	early := f.written(t)
	time.Sleep(2 * time.Second) // Time enough to read and send what was written until here.
	stop := time.Now()
	if _, err := cluster.Kubectl(t.Context(), "-n", "ingot", "delete", "pod", a.name, "--wait=false"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() error {
		if now, err := a.process(); err == nil && now == pid {
			return errors.New("Ingot runs on")
		}
		return nil
	})
	exit := time.Now()
	if took := exit.Sub(stop); took > 10*time.Second {
		t.Errorf("Ingot ended %s after its pod was deleted, want at most 10s", took)
	}
	eventually(t, 10*time.Second, func() error {
		code, err := cluster.Kubectl(t.Context(), "-n", "ingot", "get", "pod", a.name, "-o",
			"jsonpath={.status.containerStatuses[0].state.terminated.exitCode}")
		if err == nil && code != "0" {
			err = fmt.Errorf("exit code of Ingot = %q, want 0", code)
		}
		return err
	})
	if away {
		restartServers(t.Context(), t, "cortex", "loki")
	} else {
		// There is no other Ingot yet.
		f.requireAll(t, early, f.stream())
		requireScrapes(t, begin, stop.Add(-interval/5), exit, exit)
	}
	setFinalizer(t, a, `null`)
	eventually(t, 30*time.Second, func() error {
		next, err := findIngot(t.Context())
		if err == nil && next.uid == a.uid {
			err = errors.New("the pod is not deleted yet")
		}
		return err
	})
	a = awaitReady(t, 30*time.Second)
	alive := time.Now()
	f.requireAll(t, f.written(t), f.stream())
	requireScrapes(t, begin, time.Now().Add(-interval), stop.Add(1500*time.Millisecond), alive)
	requireNothingDropped(t, a)
}

func setFinalizer(t *testing.T, a agent, list string) {
	t.Helper()
	patch := `{"metadata":{"finalizers":` + list + `}}`
	if _, err := cluster.Kubectl(t.Context(), "-n", "ingot", "patch", "pod", a.name, "--type=merge", "-p", patch); err != nil {
		t.Fatal(err)
	}
}

// killServers crashes servers of the testbed. When the test ends early they come back.
func killServers(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := cluster.Kill(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			restartServers(context.Background(), t, names...) // That of the test is over.
		}
	})
}

func restartServers(ctx context.Context, t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := cluster.Restart(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackendsAwayAndAKillLoseNothing claims that while both backends are down, and Ingot
// is killed meanwhile, lines wait in their files and samples on disk, and that all of it
// arrives in an order that the backends accept.
func TestBackendsAwayAndAKillLoseNothing(t *testing.T) {
	d, a := startIngot(t)
	f := startFlow(t, d, "outage")
	begin := time.Now()
	killServers(t, "loki", "cortex")
	eventually(t, 30*time.Second, func() error {
		mimir, loki := a.queues(t)["mimir"], a.queues(t)["loki"]
		if mimir.State != "retrying" || loki.State != "retrying" || mimir.Disk.Items < 500 {
			return fmt.Errorf("mimir is %+v and loki %+v, want both retrying and two rounds of samples on disk", mimir, loki)
		}
		return nil
	})
	dead := a.kill(t)
	a = awaitRestart(t, a)
	alive := time.Now()
	if q := a.queues(t)["mimir"]; q.Disk.Items < 500 {
		t.Errorf("after the kill %d samples wait on disk, want at least the 500 from before", q.Disk.Items)
	}
	restartServers(t.Context(), t, "loki", "cortex")
	f.requireAll(t, f.written(t), f.stream())
	requireScrapes(t, begin, time.Now().Add(-interval), dead, alive)
	requireNothingDropped(t, a)
	for name, q := range a.queues(t) {
		if q.State != "ok" {
			t.Errorf("destination %s is %s, want ok: %s", name, q.State, q.LastError)
		}
	}
}

// TestMissingPermissionHealsWithoutARestart claims that without the right to watch pods
// lines and metrics arrive, the state is there to see, and that it ends within 30 s of the
// right being granted.
func TestMissingPermissionHealsWithoutARestart(t *testing.T) {
	d, a := startIngot(t)
	const rule = `- {apiGroups: [""], resources: [pods], verbs: [list, watch]}`
	less := strings.Replace(d.manifest, rule, "", 1)
	if less == d.manifest {
		t.Fatalf("the manifest has no rule %s", rule)
	}
	apply := func(ctx context.Context, manifest string) {
		t.Helper()
		if err := cluster.Apply(ctx, manifest); err != nil {
			t.Fatal(err)
		}
	}
	apply(t.Context(), less)
	t.Cleanup(func() {
		if t.Failed() {
			apply(context.Background(), d.manifest)
		}
	})
	// An open watch outlives the right to it.
	if _, err := cluster.Kubectl(t.Context(), "-n", "ingot", "delete", "pod", a.name); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() (err error) {
		if a, err = findIngot(t.Context()); err != nil {
			return err
		}
		status, text, err := fetch(t.Context(), a.url("/-/ready"))
		if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(text, "resources: [pods], verbs: [list, watch]")) {
			err = fmt.Errorf("/-/ready = status %d: %s, want 503 and the missing rule", status, text)
		}
		return err
	})
	if got := watchErrors(t, a); !strings.Contains(got["pods"], "forbidden") || got["nodes"] != "" {
		t.Errorf("errors of /status/kubernetes = %q, want that pods are forbidden and none of nodes", got)
	}
	startWorkload(t, "unknown", "-run=unknown", "-rate=200")
	ip, err := cluster.Kubectl(t.Context(), "get", "pod", "unknown", "-o", "jsonpath={.status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	f := flow{d, "unknown", ip}
	byPath := podStream("default", "unknown", "workload")
	f.requireAll(t, 200, byPath)
	for job := range clusterJobs() {
		if err := awaitScrape(t, job, time.Now()); err != nil {
			t.Error(err)
		}
	}
	apply(t.Context(), d.manifest)
	healed := awaitReady(t, 30*time.Second)
	if healed.uid != a.uid || healed.restarts != 0 {
		t.Errorf("Ingot's pod is %+v, want %s without a restart", healed, a.uid)
	}
	eventually(t, 10*time.Second, func() error {
		got, err := delivered(t, d.begin, "default", "unknown", "workload", "unknown")
		if err == nil && len(got.streams) < 2 {
			err = errors.New("lines still have the labels of their path alone")
		}
		return err
	})
	f.requireAll(t, f.written(t), byPath, f.stream())
	if got := watchErrors(t, healed); got["pods"] != "" {
		t.Errorf("error of pods on /status/kubernetes = %q, want none", got["pods"])
	}
	requireNothingDropped(t, healed)
}

// watchErrors returns what /status/kubernetes says is wrong, by kind of object.
func watchErrors(t *testing.T, a agent) map[string]string {
	t.Helper()
	var watches []struct{ Kind, Error string }
	a.status(t, "/status/kubernetes", &watches)
	found := map[string]string{}
	for _, w := range watches {
		found[w.Kind] = w.Error
	}
	if len(found) != 2 {
		t.Fatalf("/status/kubernetes has %v, want pods and nodes", watches)
	}
	return found
}

// TestIngotWorksWithoutTheAPIServer claims that while the API server is away known pods
// and nodes go on as before, and that the log of a new container is read at once.
func TestIngotWorksWithoutTheAPIServer(t *testing.T) {
	d, a := startIngot(t)
	f := startFlow(t, d, "headless")
	killServers(t, "kube-apiserver")
	down := time.Now()
	static, err := manifest("static.yaml", "@WORKLOAD@", testbed.WorkloadImage, "@NAME@", "adrift")
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.StaticPod("adrift", static); err != nil {
		t.Fatal(err)
	}
	name := "adrift-" + cluster.NodeName
	requireLines(t, d, "default", name, "workload", "adrift", 1000, podStream("default", name, "workload"))
	f.requireAll(t, f.written(t), f.stream())
	requireScrapes(t, down, down.Add(2*interval), time.Time{}, time.Time{})
	if got := watchErrors(t, a); got["pods"] == "" || got["nodes"] == "" {
		t.Errorf("errors of /status/kubernetes = %q, want one of pods and one of nodes", got)
	}
	if status, text, err := fetch(t.Context(), a.url("/-/ready")); err != nil || status != http.StatusOK {
		t.Errorf("/-/ready = status %d, %v: %s, want ready while what it needs is known", status, err, text)
	}
	up := time.Now()
	restartServers(t.Context(), t, "kube-apiserver")
	eventually(t, 45*time.Second, func() error {
		if got := watchErrors(t, a); got["pods"] != "" || got["nodes"] != "" {
			return fmt.Errorf("watches have not recovered: %q", got)
		}
		return nil
	})
	f.requireAll(t, f.written(t), f.stream())
	requireScrapes(t, down, up, time.Time{}, time.Time{})
	requireNothingDropped(t, a)
}
