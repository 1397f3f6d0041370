//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/testbed"
)

// deploy makes the image and the manifests of Ingot and of the pods that it
// observes, once for all tests. Both stay until the testbed ends.
var deploy = sync.OnceValues(func() (deployed, error) {
	d, err := deployAll(context.Background())
	if err != nil {
		err = fmt.Errorf("deploy: %w", err)
	}
	return d, err
})

// deployed is what [deploy] left behind.
type deployed struct {
	manifest string // of Ingot
	targets  string // folder with the files of file discovery
	begin    time.Time
}

func deployAll(ctx context.Context) (deployed, error) {
	d := deployed{begin: time.Now()}
	dir, err := cluster.HostDir("build")
	if err != nil {
		return d, err
	}
	binary := filepath.Join(dir, "ingot")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../../cmd/ingot")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		return d, fmt.Errorf("build ingot: %w\n%s", err, out)
	}
	if err = cluster.Image(ctx, "e2e/ingot:1", binary, nil); err != nil {
		return d, err
	}
	data, err := cluster.HostDir("data")
	if err != nil {
		return d, err
	}
	if d.targets, err = cluster.HostDir("targets"); err != nil {
		return d, err
	}
	d.manifest, err = manifest("ingot.yaml", "@CORTEX@", cluster.CortexURL, "@LOKI@", cluster.LokiURL,
		"@DATA@", data, "@TARGETS@", d.targets)
	if err != nil {
		return d, err
	}
	workloads, err := manifest("workloads.yaml", "@WORKLOAD@", testbed.WorkloadImage)
	if err != nil {
		return d, err
	}
	static, err := manifest("static.yaml", "@WORKLOAD@", testbed.WorkloadImage, "@NAME@", "static")
	if err != nil {
		return d, err
	}
	if err := cluster.Apply(ctx, d.manifest); err != nil {
		return d, err
	}
	if _, err := cluster.Kubectl(ctx, "-n", "ingot", "rollout", "status", "daemonset/ingot", "--timeout=60s"); err != nil {
		logs, _ := cluster.Kubectl(ctx, "-n", "ingot", "logs", "daemonset/ingot", "--tail=50")
		pods, _ := cluster.Kubectl(ctx, "-n", "ingot", "describe", "pods")
		return d, fmt.Errorf("%w\n%s\n%s", err, pods, logs)
	}
	return d, errors.Join(cluster.Apply(ctx, workloads), cluster.StaticPod("static", static))
}

// manifest reads a file of testdata and puts values in the place of its words.
func manifest(name string, replace ...string) (string, error) {
	text, err := os.ReadFile(filepath.Join("testdata", name))
	return strings.NewReplacer(replace...).Replace(string(text)), err
}

// agent is the pod that Ingot runs in at present.
type agent struct {
	name, uid, ip string
	restarts      int
	ready         bool
}

func (a agent) url(path string) string { return "http://" + a.ip + ":12345" + path }

// startIngot returns Ingot's pod, ready and observing. When the test fails it shows
// what Ingot says about itself.
func startIngot(t *testing.T) (deployed, agent) {
	t.Helper()
	d, err := deploy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			describe(t)
		}
	})
	return d, awaitReady(t, 60*time.Second)
}

func describe(t *testing.T) {
	t.Helper()
	ctx := context.Background() // That of the test is over.
	for _, previous := range []string{"--previous=false", "--previous"} {
		logs, err := cluster.Kubectl(ctx, "-n", "ingot", "logs", "daemonset/ingot", "--tail=40", previous)
		if err == nil {
			t.Logf("Ingot's log (%s):\n%s", previous, logs)
		}
	}
	a, err := findIngot(ctx)
	if err != nil {
		t.Log(err)
		return
	}
	_, ready, err := fetch(ctx, a.url("/-/ready"))
	t.Log(ready, err)
	_, queues, err := fetch(ctx, a.url("/status/queues"))
	t.Log(queues, err)
}

// findIngot asks for the one pod of the DaemonSet that is not being deleted.
func findIngot(ctx context.Context) (agent, error) {
	text, err := cluster.Kubectl(ctx, "-n", "ingot", "get", "pods", "-o", "json")
	if err != nil {
		return agent{}, err
	}
	var pods struct {
		Items []struct {
			Metadata struct {
				Name, UID         string
				DeletionTimestamp string
			}
			Status struct {
				PodIP             string
				ContainerStatuses []struct {
					Ready        bool
					RestartCount int
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &pods); err != nil {
		return agent{}, fmt.Errorf("read pods: %w", err)
	}
	for _, p := range pods.Items {
		if p.Metadata.DeletionTimestamp == "" && p.Status.PodIP != "" && len(p.Status.ContainerStatuses) == 1 {
			s := p.Status.ContainerStatuses[0]
			return agent{p.Metadata.Name, p.Metadata.UID, p.Status.PodIP, s.RestartCount, s.Ready}, nil
		}
	}
	return agent{}, fmt.Errorf("find Ingot's pod: none of %d has an address", len(pods.Items))
}

// awaitReady waits until Ingot itself says that it is ready, which is sooner than
// the kubelet finds out.
func awaitReady(t *testing.T, patience time.Duration) (a agent) {
	t.Helper()
	eventually(t, patience, func() (err error) {
		if a, err = findIngot(t.Context()); err != nil {
			return err
		}
		status, text, err := fetch(t.Context(), a.url("/-/ready"))
		if err == nil && status != http.StatusOK {
			err = errors.New(text)
		}
		return err
	})
	return a
}

// process returns the pid of Ingot on this machine.
func (a agent) process() (int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		// A process that cannot be read has ended.
		args, _ := os.ReadFile(dir + "/cmdline")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		if strings.HasPrefix(string(args), "/ingot\x00run\x00") && strings.Contains(string(cgroup), a.uid) {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, errors.New("find Ingot's process: none in the pod's control groups")
}

// kill ends Ingot as a crash would and returns when that was.
func (a agent) kill(t *testing.T) time.Time {
	t.Helper()
	pid, err := a.process()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	eventually(t, 10*time.Second, func() error {
		if now, err := a.process(); err == nil && now == pid {
			return errors.New("Ingot does not end")
		}
		return nil
	})
	return at
}

// queue is what /status/queues tells of one destination.
type queue struct {
	Endpoint, State string
	LastError       string `json:"last_error"`
	Memory, Disk    struct{ Items int }
	Dropped         map[string]struct{ Items int }
}

// queues returns what Ingot says about its destinations, by name.
func (a agent) queues(t *testing.T) map[string]queue {
	t.Helper()
	var all []queue
	a.status(t, "/status/queues", &all)
	byName := map[string]queue{}
	for _, q := range all {
		byName[q.Endpoint] = q
	}
	if len(byName) != 2 {
		t.Fatalf("/status/queues has %v, want mimir and loki", byName)
	}
	return byName
}

func (a agent) status(t *testing.T, path string, into any) {
	t.Helper()
	status, text, err := fetch(t.Context(), a.url(path))
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s = status %d, %v: %s", path, status, err, text)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
}

// requireNothingDropped fails the test when a destination has dropped anything since
// Ingot's start, or a backend has refused anything since its own.
func requireNothingDropped(t *testing.T, a agent) {
	t.Helper()
	for name, q := range a.queues(t) {
		for reason, amount := range q.Dropped {
			if amount.Items > 0 {
				t.Errorf("destination %s dropped %d items as %s: %s", name, amount.Items, reason, q.LastError)
			}
		}
	}
	for _, url := range []string{cluster.CortexURL, cluster.LokiURL} {
		_, text, err := fetch(t.Context(), url+"/metrics")
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "discarded_samples_total{") && !strings.HasSuffix(line, " 0\n") {
				t.Errorf("the backend at %s refused something: %s", url, line)
			}
		}
	}
}

// fetch returns what a page answers, whatever its status.
func fetch(ctx context.Context, url string) (status int, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// TestIngotRunsAsAPodWithFewRights claims that the manifest is enough for Ingot to
// become ready, and not more than that.
func TestIngotRunsAsAPodWithFewRights(t *testing.T) {
	_, a := startIngot(t)
	for rights, want := range map[string]string{
		"list pods": "yes", "watch pods": "yes", "list nodes": "yes", "watch nodes": "yes",
		"get nodes --subresource=metrics": "yes",
		"get nodes --subresource=proxy":   "no", "get nodes --subresource=stats": "no",
		"get secrets": "no", "list secrets": "no", "create pods --subresource=exec": "no",
		"get pods --subresource=log": "no", "delete pods": "no", "list configmaps": "no",
	} {
		args := append([]string{"auth", "can-i", "--as=system:serviceaccount:ingot:ingot", "-n", "ingot"}, strings.Fields(rights)...)
		// The exit code says the same as the word.
		got, _ := cluster.Kubectl(t.Context(), args...)
		if strings.TrimSpace(got) != want {
			t.Errorf("kubectl auth can-i %s = %q, want %s", rights, got, want)
		}
	}
	pid, err := a.process()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	const readSearch = "CapEff:\t0000000000000004\n" // bit 2 is CAP_DAC_READ_SEARCH
	for _, want := range []string{readSearch, "NoNewPrivs:\t1\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the status of Ingot's process has no %q:\n%s", want, text)
		}
	}
}

// TestSecretsAreNotShown claims that a mounted password is on none of Ingot's pages
// and not in its log.
func TestSecretsAreNotShown(t *testing.T) {
	_, a := startIngot(t)
	log, err := cluster.Kubectl(t.Context(), "-n", "ingot", "logs", a.name)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{"the log": log}
	for _, page := range []string{"/", "/config", "/metrics", "/status/queues", "/status/targets", "/status/logs", "/-/ready"} {
		if _, shown[page], err = fetch(t.Context(), a.url(page)); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(shown["/config"], "password_file: /etc/ingot/secrets/loki/http_passwd") {
		t.Errorf("/config does not name the password's file, so this test looks at the wrong page:\n%s", shown["/config"])
	}
	for page, text := range shown {
		if strings.Contains(text, "not-to-be-shown") {
			t.Errorf("%s shows the password of destination loki:\n%s", page, text)
		}
	}
}
