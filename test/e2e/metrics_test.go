//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/ingot-telemetry/ingot/testbed"
)

// interval is that of all scrapes, as testdata/ingot.yaml has it.
const interval = 5 * time.Second

// Jobs of cluster_metrics.
const (
	kubeletJob   = "integrations/kubernetes/kubelet"
	resourcesJob = "integrations/kubernetes/resources"
	probesJob    = "integrations/kubernetes/probes"
	cadvisorJob  = "integrations/kubernetes/cadvisor"
)

// clusterJobs returns the paths on the kubelet by job.
func clusterJobs() map[string]string {
	return map[string]string{
		kubeletJob:   "metrics",
		resourcesJob: "metrics/resource",
		probesJob:    "metrics/probes",
		cadvisorJob:  "metrics/cadvisor",
	}
}

// targetLabels are on every series of a job of cluster_metrics.
func targetLabels(job string) map[string]string {
	return map[string]string{
		"job": job, "instance": cluster.NodeName, "node": cluster.NodeName, "source": "kubernetes",
		"cluster": "tiles", "k8s_cluster_name": "tiles",
	}
}

// allowed returns, by job, what the names of kept metrics match.
func allowed(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	f, err := os.Open("testdata/allowlists.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	patterns, job := map[string][]string{}, ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			job = strings.Trim(line, "[]")
			patterns[job] = []string{"up", "scrape_samples_scraped"}
		default:
			patterns[job] = append(patterns[job], line)
		}
	}
	lists := map[string]*regexp.Regexp{}
	for job, names := range patterns {
		lists[job] = regexp.MustCompile("^(" + strings.Join(names, "|") + ")$")
	}
	return lists
}

// exposed reads a page of metrics straight from the kubelet.
func exposed(t *testing.T, path string) ([]map[string]string, error) {
	t.Helper()
	text, err := cluster.Kubectl(t.Context(), "get", "--raw", "/api/v1/nodes/"+cluster.NodeName+"/proxy/"+path)
	if err != nil {
		return nil, err
	}
	var all []map[string]string
	p := textparse.NewPromParser([]byte(text), labels.NewSymbolTable(), false)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if entry == textparse.EntrySeries {
			var ls labels.Labels
			p.Labels(&ls)
			all = append(all, ls.Map())
		}
	}
}

// kept writes the contract a second time: the labels that a series of the kubelet has in
// the backend, nil when it is not wanted there.
func kept(job string, list *regexp.Regexp, sample map[string]string) map[string]string {
	name := sample["__name__"]
	if !list.MatchString(name) || job == cadvisorJob && !wantedOfCadvisor(name, sample) {
		return nil
	}
	target := targetLabels(job)
	want := maps.Clone(target)
	for k, v := range sample {
		if _, clash := target[k]; clash && k != "cluster" && k != "k8s_cluster_name" {
			k = "exported_" + k
		}
		if v != "" {
			want[k] = v
		}
	}
	if name == "machine_memory_bytes" {
		want["boot_id"], want["system_uuid"] = "NA", "NA"
	}
	return want
}

var (
	ofContainers     = regexp.MustCompile(`^container_(cpu|fs|memory|pressure)_`)
	ofNetwork        = regexp.MustCompile(`^container_network_`)
	ofDisks          = regexp.MustCompile(`^container_fs_`)
	physicalDisks    = regexp.MustCompile(`^(/dev/)?(mmcblk.p.+|nvme.+|rbd.+|sd.+|vd.+|xvd.+|dasd.+)$`)
	physicalNetworks = regexp.MustCompile(`^(en[ospx][0-9].*|wlan[0-9].*|eth[0-9].*)$`)
)

func wantedOfCadvisor(name string, sample map[string]string) bool {
	switch {
	case ofContainers.MatchString(name) && (sample["container"] == "" || sample["image"] == ""):
		return false
	case ofNetwork.MatchString(name) && (sample["image"] == "" || !physicalNetworks.MatchString(sample["interface"])):
		return false
	case ofDisks.MatchString(name) && !physicalDisks.MatchString(sample["device"]):
		return false
	}
	return true
}

// keyed returns label sets by their text.
func keyed(sets ...map[string]string) map[string]map[string]string {
	byText := map[string]map[string]string{}
	for _, set := range sets {
		byText[labels.FromMap(set).String()] = set
	}
	return byText
}

// TestClusterMetricsAreExactlyThoseOfTheContract claims for each job that Cortex has
// every series that the kubelet exposes and the contract keeps, with the contract's labels,
// and none besides. The kubelet is asked before and after, since its series come and go.
func TestClusterMetricsAreExactlyThoseOfTheContract(t *testing.T) {
	startIngot(t)
	for job, list := range allowed(t) {
		eventually(t, 45*time.Second, func() error {
			before, err := wantedSeries(t, job, list)
			if err != nil {
				return err
			}
			if err = awaitScrape(t, job, time.Now()); err != nil {
				return err
			}
			series, err := cluster.PromQL(t.Context(), tenant, fmt.Sprintf(`{job=%q}`, job))
			if err != nil {
				return err
			}
			after, err := wantedSeries(t, job, list)
			if err != nil {
				return err
			}
			have := make([]map[string]string, len(series))
			for i, s := range series {
				have[i] = s.Labels
			}
			return compare(job, before, after, keyed(have...))
		})
	}
}

// wantedSeries returns what the contract keeps of what the kubelet exposes now.
func wantedSeries(t *testing.T, job string, list *regexp.Regexp) (map[string]map[string]string, error) {
	t.Helper()
	all, err := exposed(t, clusterJobs()[job])
	if err != nil {
		return nil, err
	}
	want := keyed()
	for _, sample := range all {
		if set := kept(job, list, sample); set != nil {
			maps.Copy(want, keyed(set))
		}
	}
	for _, report := range []string{"up", "scrape_samples_scraped"} {
		set := targetLabels(job)
		set["__name__"] = report
		maps.Copy(want, keyed(set))
	}
	if len(want) < 4 {
		return nil, fmt.Errorf("the kubelet exposes only %d series that job %s keeps", len(want)-2, job)
	}
	return want, nil
}

// compare reports series that were there before and after and are missing, and series that
// were there neither before nor after.
func compare(job string, before, after, have map[string]map[string]string) error {
	var missing, strange []string
	containers := map[string]bool{"": true}
	for text, set := range before {
		containers[set["name"]] = true
		if have[text] == nil && after[text] != nil {
			missing = append(missing, text)
		}
	}
	for _, set := range after {
		containers[set["name"]] = true
	}
	for text, set := range have {
		// The series of a container that is gone has no stale marker, since cAdvisor gives
		// it times of its own. It is found for five minutes more.
		if before[text] == nil && after[text] == nil && containers[set["name"]] {
			strange = append(strange, text)
		}
	}
	var errs []error
	for what, list := range map[string][]string{"missing": missing, "not of the contract": strange} {
		if slices.Sort(list); len(list) > 0 {
			errs = append(errs, fmt.Errorf("of job %s %d of %d series are %s:\n%s", job, len(list), len(have), what,
				strings.Join(list[:min(len(list), 10)], "\n")))
		}
	}
	return errors.Join(errs...)
}

// awaitScrape waits until Cortex has a scrape of the job from after t0.
func awaitScrape(t *testing.T, job string, t0 time.Time) error {
	t.Helper()
	for end := time.Now().Add(4 * interval); ; time.Sleep(200 * time.Millisecond) {
		series, err := cluster.PromQL(t.Context(), tenant, fmt.Sprintf(`up{job=%q}[1m]`, job))
		if err != nil {
			return err
		}
		if len(series) == 1 && series[0].Samples[len(series[0].Samples)-1].Time.After(t0) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("no scrape of job %s since %s", job, t0)
		}
	}
}

// query returns the only series of a query.
func query(t *testing.T, promQL string) (testbed.Series, error) {
	t.Helper()
	series, err := cluster.PromQL(t.Context(), tenant, promQL)
	if err == nil && len(series) != 1 {
		err = fmt.Errorf("%s = %d series, want one", promQL, len(series))
	}
	if err != nil {
		return testbed.Series{}, err
	}
	return series[0], nil
}

// TestSeriesHaveTheShapeOfTheContract claims by name what dashboards read.
func TestSeriesHaveTheShapeOfTheContract(t *testing.T) {
	startIngot(t)
	for promQL, more := range map[string]map[string]string{
		`up{job="` + kubeletJob + `"}`:                     {},
		`up{job="` + resourcesJob + `"}`:                   {},
		`up{job="` + probesJob + `"}`:                      {},
		`up{job="` + cadvisorJob + `"}`:                    {},
		`scrape_samples_scraped{job="` + kubeletJob + `"}`: {},
		`kubelet_node_name`:                                {"exported_node": cluster.NodeName},
		`machine_memory_bytes`:                             {"machine_id": "*", "boot_id": "NA", "system_uuid": "NA"},
		`container_cpu_usage_seconds_total{pod="measured"}`: {
			"namespace": "shop", "pod": "measured", "container": "workload", "cpu": "total",
			"image": "docker.io/testbed/workload:1", "name": "*", "id": "*",
		},
		`container_memory_working_set_bytes{pod="measured"}`: {
			"namespace": "shop", "pod": "measured", "container": "workload",
			"image": "docker.io/testbed/workload:1", "name": "*", "id": "*",
		},
		// The network belongs to the pause container, which has no container label.
		`container_network_receive_bytes_total{pod="measured"}`: {
			"namespace": "shop", "pod": "measured", "interface": "eth0",
			"image": "docker.io/testbed/pause:1", "name": "*", "id": "*",
		},
		`node_cpu_usage_seconds_total`: {},
		`prober_probe_total{pod=~"ingot-.*",probe_type="Liveness",result="successful"}`: {
			"namespace": "ingot", "pod": "*", "pod_uid": "*", "container": "ingot",
			"probe_type": "Liveness", "result": "successful",
		},
	} {
		eventually(t, 45*time.Second, func() error {
			s, err := query(t, promQL)
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(promQL, "{")
			want := targetLabels(s.Labels["job"])
			maps.Copy(want, more)
			want["__name__"] = name
			for k, v := range want {
				if v == "*" && s.Labels[k] != "" {
					want[k] = s.Labels[k]
				}
			}
			if diff := cmp.Diff(want, s.Labels); diff != "" {
				return fmt.Errorf("labels of %s -want +got\n%s", promQL, diff)
			}
			return nil
		})
	}
}

// TestNothingOutsideTheAllowListsArrives claims it for all that arrived so far, pods that
// are gone included.
func TestNothingOutsideTheAllowListsArrives(t *testing.T) {
	startIngot(t)
	for job, list := range allowed(t) {
		if err := awaitScrape(t, job, time.Time{}); err != nil {
			t.Error(err)
			continue
		}
		series, err := cluster.PromQL(t.Context(), tenant, fmt.Sprintf(`count by (__name__) (last_over_time({job=%q}[30m]))`, job))
		if err != nil {
			// Cortex drops the name here unless told otherwise; without it this shows nothing.
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, s := range series {
			names[s.Labels["__name__"]] = true
			if !list.MatchString(s.Labels["__name__"]) {
				t.Errorf("%s arrives under job %s and is not on its list", s.Labels["__name__"], job)
			}
		}
		if !names["up"] || !names["scrape_samples_scraped"] || len(names) < 3 {
			t.Errorf("metrics of job %s = %v, want up, scrape_samples_scraped and more", job, slices.Sorted(maps.Keys(names)))
		}
	}
	for _, promQL := range []string{
		`{__name__=~"container_(cpu|fs|memory|pressure)_.*",container=""}`,
		`{__name__=~"container_(cpu|fs|memory|pressure|network)_.*",image=""}`,
		`{job=~"integrations/kubernetes/.*",source!="kubernetes"}`,
		`{job=~"integrations/kubernetes/.*",cluster!="tiles"}`,
	} {
		series, err := cluster.PromQL(t.Context(), tenant, promQL)
		if err != nil || len(series) > 0 {
			t.Errorf("%s = %d series, %v, want none; the first: %v", promQL, len(series), err, series[:min(1, len(series))])
		}
	}
}

// TestEachTargetIsScrapedOnceInAnInterval claims what the integration tests of
// k8s-monitoring ask, over six intervals.
func TestEachTargetIsScrapedOnceInAnInterval(t *testing.T) {
	startIngot(t)
	for promQL, want := range map[string]float64{
		`avg by (job) (count_over_time(scrape_samples_scraped{job=~"integrations/kubernetes/.*"}[30s]))`: 6,
		`min by (job) (min_over_time(up{job=~"integrations/kubernetes/.*"}[30s]))`:                       1,
	} {
		eventually(t, 50*time.Second, func() error {
			series, err := cluster.PromQL(t.Context(), tenant, promQL)
			if err != nil {
				return err
			}
			if len(series) != len(clusterJobs()) {
				return fmt.Errorf("%s = %d jobs, want %d", promQL, len(series), len(clusterJobs()))
			}
			for _, s := range series {
				if got := s.Samples[0].Value; got != want {
					return fmt.Errorf("%s = %v for job %s, want %v", promQL, got, s.Labels["job"], want)
				}
			}
			return nil
		})
	}
}

// TestValuesAreThoseOfTheNode claims that values arrive as they are, by some that are
// known or must move.
func TestValuesAreThoseOfTheNode(t *testing.T) {
	startIngot(t)
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var memory float64
	if _, err := fmt.Fscanf(bytes.NewReader(text), "MemTotal: %f kB", &memory); err != nil {
		t.Fatal(err)
	}
	for promQL, within := range map[string][2]float64{
		`machine_memory_bytes`: {memory * 1024, memory * 1024},
		`kubelet_node_name`:    {1, 1},
		`rate(container_cpu_usage_seconds_total{pod="measured"}[1m])`:                      {1e-5, 2},
		`container_memory_working_set_bytes{pod="measured"}`:                               {1 << 18, 1 << 28},
		`rate(node_cpu_usage_seconds_total[1m])`:                                           {1e-3, 1e3},
		`increase(kubelet_runtime_operations_total{operation_type="list_podsandbox"}[1m])`: {1, 1e4},
	} {
		eventually(t, 60*time.Second, func() error {
			s, err := query(t, promQL)
			if err != nil {
				return err
			}
			if got := s.Samples[0].Value; !(got >= within[0] && got <= within[1]) || math.IsNaN(got) {
				return fmt.Errorf("%s = %v, want %v to %v", promQL, got, within[0], within[1])
			}
			return nil
		})
	}
}

// TestLinesAndTheCounterOfLinesAgree claims for one pod that the number that it counts,
// scraped by file discovery, is the number of its lines in Loki.
func TestLinesAndTheCounterOfLinesAgree(t *testing.T) {
	d, _ := startIngot(t)
	ip, err := cluster.Kubectl(t.Context(), "-n", "shop", "get", "pod", "web-0", "-o", "jsonpath={.status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	address := ip + ":8080"
	target, err := json.Marshal([]map[string]any{{"targets": []string{address}, "labels": map[string]string{"pod": "web-0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.targets, "web.json"), target, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, 45*time.Second, func() error {
		s, err := query(t, `workload_lines_total{stream="stdout"}`)
		if err != nil {
			return err
		}
		want := map[string]string{
			"__name__": "workload_lines_total", "job": "workload", "instance": address, "pod": "web-0",
			"run": "server", "stream": "stdout", "cluster": "tiles", "k8s_cluster_name": "tiles",
		}
		if diff := cmp.Diff(want, s.Labels); diff != "" {
			return fmt.Errorf("labels -want +got\n%s", diff)
		}
		got, err := delivered(t, d.begin, "shop", "web-0", "server", "server")
		if err == nil && (float64(len(got.lines)) != s.Samples[0].Value || len(got.lines) != 500) {
			err = fmt.Errorf("the pod counts %v lines, Loki has %d, want 500", s.Samples[0].Value, len(got.lines))
		}
		return err
	})
}
